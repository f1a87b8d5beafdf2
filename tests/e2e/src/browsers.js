// Chromium by playwright-core, Firefox by puppeteer-core over WebDriver BiDi. Pages of both know `evaluate`, `locator(css)`
// and `screenshot`, which is all that the tests use besides what is here.

import { execFileSync } from "node:child_process";
import { accessSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";
import { ROOT } from "./server.js";
import { startSound } from "./sound.js";
import { until } from "./until.js";

const PAGE_SCRIPT = readFileSync(new URL("page.js", import.meta.url), "utf8");
export const OUT = join(ROOT, "tests/out");
/** A sine of amplitude 0.3. */
const VOICE_DBFS = -13.5;
const SIZE = { width: 1280, height: 800 };

const CHROMIUM_ARGS = [
  "--autoplay-policy=no-user-gesture-required",
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--use-fake-ui-for-media-stream",
];

const FIREFOX_PREFERENCES = {
  "dom.min_background_timeout_value": 4,
  "dom.timeout.enable_budget_timer_throttling": false,
  "media.autoplay.block-webaudio": false,
  "media.autoplay.blocking_policy": 0,
  "media.autoplay.default": 0,
  "media.navigator.permission.disabled": true,
  "media.navigator.streams.fake": true,
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  // No downloads of plug-ins from elsewhere during a test.
  "media.gmp-manager.updateEnabled": false,
};

function program(variable, names) {
  const paths = names.map(name => `/usr/bin/${name}`);
  const found = [process.env[variable], ...paths].find(path => {
    try {
      if (path) accessSync(path, constants.X_OK);
      return Boolean(path);
    } catch {
      return false;
    }
  });
  if (!found) throw new Error(`no ${names[0]} found: run \`make test-deps\`, or set ${variable}`);
  return found;
}

/** Launches Chromium; `args` are added to its command line. */
export async function launchChromium(args = []) {
  const executablePath = program("CHROMIUM", ["chromium", "chromium-browser", "google-chrome"]);
  const browser = await chromium.launch({ executablePath, headless: true, args: [...CHROMIUM_ARGS, ...args] });
  const open = async (script, viewport = SIZE) => {
    const context = await browser.newContext({ viewport });
    const page = await context.newPage();
    await page.addInitScript({ content: script });
    return { page, close: () => context.close() };
  };
  return new Browser("chromium", () => browser.close(), open);
}

/** Firefox up to ESR 140 has no screen orientation to set, which puppeteer does together with the size. */
async function resize(page, viewport) {
  try {
    await page.setViewport(viewport);
  } catch (error) {
    if (!String(error).includes("setScreenOrientationOverride")) {
      throw error;
    }
  }
}

/** A profile of Firefox in `folder` that trusts the authority in the file `ca`. */
function trusting(folder, ca) {
  const database = `sql:${folder}`;
  for (const args of [
    ["-N", "--empty-password"],
    ["-A", "-n", "tests", "-t", "C,,", "-i", ca],
  ]) {
    execFileSync("certutil", ["-d", database, ...args]);
  }
}

/** Launches Firefox; it trusts the authority in the file `ca` beside those it knows. */
export async function launchFirefox({ ca } = {}) {
  const userDataDir = ca && mkdtempSync(join(tmpdir(), "antiphon-firefox-"));
  if (ca) trusting(userDataDir, ca);
  const executablePath = program("FIREFOX", ["firefox-esr", "firefox"]);
  const sound = await startSound();
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    extraPrefsFirefox: FIREFOX_PREFERENCES,
    ...(ca && { userDataDir }),
    env: { ...process.env, ...sound.env },
  });
  const open = async (script, viewport = SIZE) => {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    await resize(page, viewport);
    await page.evaluateOnNewDocument(`(() => { ${script} })()`);
    return { page, close: () => context.close() };
  };
  const close = async () => {
    await browser.close();
    await sound.stop();
    if (ca) rmSync(userDataDir, { recursive: true, force: true });
  };
  return new Browser("firefox", close, open);
}

class Browser {
  #close;
  #open;
  #pages = new Set();

  constructor(name, close, open) {
    this.name = name;
    this.#close = close;
    this.#open = open;
  }

  /**
   * A page of its own profile, with the fake devices that `fake` describes (see page.js); `script` runs after that.
   */
  async open(url, { fake = {}, viewport, script = "" } = {}) {
    const before = `window.__fake = ${JSON.stringify(fake)};\n${PAGE_SCRIPT}\n${script}`;
    const { page, close } = await this.#open(before, viewport);
    const person = new Person(page, close);
    this.#pages.add(person);
    page.on("console", message => person.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", error => person.console.push(`error: ${error}`));
    await page.goto(url);
    return person;
  }

  /** Closes all pages, as after each test. */
  async clear() {
    await Promise.all([...this.#pages].map(person => person.close()));
    this.#pages.clear();
  }

  async close() {
    await this.#close();
  }
}

/** One browser page with somebody in front of it. */
export class Person {
  #close;
  console = [];

  constructor(page, close) {
    this.page = page;
    this.#close = close;
  }

  evaluate(fn, arg) {
    return this.page.evaluate(fn, arg);
  }

  /** Waits until `fn(arg)` in the page gives something true, and gives that. */
  until(what, fn, arg, ms = 15_000) {
    return until(what, () => this.evaluate(fn, arg), ms).catch(error => {
      throw new Error(`${error.message}\nconsole:\n${this.console.slice(-15).join("\n")}`);
    });
  }

  /** Waits until the room is joined; gives one's own participant id. */
  joined() {
    return this.until("the page joins", () => {
      const room = window.__antiphon?.room;
      return room?.state === "connected" && room.id;
    });
  }

  click(testId) {
    return this.page.locator(`[data-testid=${testId}]`).click();
  }

  /** The <video> that shows a participant's camera or screen. */
  static video(participant, source = "camera") {
    return `[data-testid=tile][data-participant="${participant}"][data-source=${source}] video`;
  }

  /** The <audio> that plays a participant's voice. */
  static audio(participant) {
    return `audio[data-participant="${participant}"]`;
  }

  /** Waits until so many readable pictures of a participant have been shown; gives what was seen. */
  async sees(participant, { source, pictures = 30, fps = 30, within = 15_000 } = {}) {
    const selector = Person.video(participant, source);
    const enough = ([s, n]) => {
      const seen = window.__seen(s);
      return seen && seen.pictures - seen.unreadable >= n && seen;
    };
    try {
      await this.until(`a video of ${participant} is there`, ([s, f]) => window.__watch(s, f), [selector, fps], within);
      return await this.until(`${pictures} pictures of ${participant}`, enough, [selector, pictures], Math.max(within, 20_000));
    } catch (error) {
      throw new Error(`${error.message}\nvideo: ${await this.evaluate(s => window.__account(s), selector)}`);
    }
  }

  /** Waits until a tone is heard of a participant: within 1 %, and within 3 dB of what the fake voices send. */
  hears(participant, frequency, level = VOICE_DBFS) {
    const good = ([s, f, l]) => {
      const heard = window.__heard(s);
      return heard && Math.abs(heard.level - l) <= 3 && Math.abs(heard.frequency / f - 1) <= 0.01 && heard;
    };
    const args = [Person.audio(participant), frequency, level];
    return this.until(`${frequency} Hz of ${participant} is heard`, good, args, 20_000);
  }

  /** Waits until nothing is heard of a participant. */
  hearsNothing(participant) {
    const quiet = s => {
      const heard = window.__heard(s);
      return !heard || heard.level < -60;
    };
    return this.until(`silence of ${participant}`, quiet, Person.audio(participant));
  }

  async screenshot(name) {
    mkdirSync(OUT, { recursive: true });
    await this.page.screenshot({ path: join(OUT, `${name}.png`) });
  }

  async close() {
    await this.#close();
  }
}
