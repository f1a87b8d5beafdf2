// Looks at every state of the client: a screenshot of each at phone and desktop widths, light and dark, and axe.
// `npm run build -w web && npm run screens -w web [-- --out DIR] [-- --only NAME]`. Fails on any axe violation.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { preview } from "vite";

const { values: args } = parseArgs({
  options: { out: { type: "string", default: "../tests/out/screens" }, only: { type: "string" } },
});
const root = new URL("..", import.meta.url).pathname;
const fakeServer = readFileSync(new URL("./fake-server.js", import.meta.url), "utf8");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const SIX = [
  { name: "Grace Hopper", speaks: true },
  { name: "Katherine Johnson", muted: true },
  { name: "Alan Turing" },
  { name: "Echo", kind: "bot" },
  { name: "Hedy Lamarr", camera: false },
];
const call = async page => {
  await page.getByTestId("name-input").fill("Ada Lovelace");
  await page.getByTestId("join-button").click();
  await page.locator("[data-testid=connection-state][data-state=connected]").waitFor();
  await page.waitForFunction(() =>
    [...document.querySelectorAll(".tile video")].every(v => v.videoWidth > 0 && v.dataset.fresh === "true"),
  );
};
const closePeople = async page => {
  const toggle = page.getByTestId("people-toggle");
  if ((await toggle.getAttribute("aria-expanded")) === "true") await toggle.click();
};

/** Each state: what the fake server does, and how one gets there. */
const STATES = {
  lobby: {
    go: async page => {
      await page.getByTestId("name-input").fill("Ada Lovelace");
      await page.locator(".preview video").waitFor();
    },
  },
  "lobby-denied": { scenario: { deny: "NotAllowedError" }, go: page => page.locator(".notice").waitFor() },
  busy: {
    scenario: { refuse: { status: 503, error: { code: "overloaded", message: "busy" } } },
    go: async page => {
      await page.getByTestId("name-input").fill("Ada");
      await page.getByTestId("join-button").click();
      await page.getByRole("alert").waitFor();
    },
  },
  forbidden: {
    scenario: { refuse: { status: 403, error: { code: "forbidden", message: "no" } } },
    go: async page => {
      await page.getByTestId("name-input").fill("Ada");
      await page.getByTestId("join-button").click();
      await page.getByTestId("ended").waitFor();
    },
  },
  alone: { go: call },
  two: { scenario: { people: [{ name: "Grace Hopper", speaks: true }] }, go: call },
  grid: { scenario: { people: SIX }, go: call },
  "grid-wide": {
    scenario: { people: SIX },
    go: async page => {
      await call(page);
      await closePeople(page);
    },
  },
  people: {
    scenario: { people: SIX },
    go: async page => {
      await call(page);
      await closePeople(page);
      await page.getByTestId("people-toggle").click();
    },
  },
  screen: {
    scenario: { people: SIX.map((p, i) => (i === 0 ? { ...p, screen: true } : p)) },
    go: async page => {
      await call(page);
      await closePeople(page);
    },
  },
  "limited-connection": {
    scenario: { people: SIX, limits: { last_n: 2, reason: "bandwidth" } },
    go: async page => {
      await call(page);
      await closePeople(page);
      await page.getByText("your connection is slow").waitFor();
    },
  },
  "limited-server": {
    scenario: { people: SIX, limits: { last_n: 0, reason: "server_busy" } },
    go: async page => {
      await call(page);
      await closePeople(page);
      await page.getByText("the server is busy").waitFor();
    },
  },
  sharing: {
    scenario: { people: SIX.slice(0, 2) },
    go: async page => {
      await call(page);
      const button = page.getByTestId("screen-toggle");
      await button.click();
      await page.getByText("Everyone sees your screen").waitFor();
    },
  },
  muted: {
    scenario: { people: SIX.slice(0, 2) },
    go: async page => {
      await call(page);
      await page.keyboard.press("m");
      await page.keyboard.press("v");
    },
  },
  pinned: {
    scenario: { people: SIX },
    go: async page => {
      await call(page);
      await closePeople(page);
      await page.getByTestId("tile").first().hover();
      await page.getByTestId("tile").first().getByRole("button").click();
    },
  },
  settings: {
    scenario: { people: SIX.slice(0, 2) },
    go: async page => {
      await call(page);
      await page.getByTestId("settings-button").click();
    },
  },
  reconnecting: {
    scenario: {
      people: SIX.slice(0, 3),
      refuse: { after: 1, status: 503, error: { code: "overloaded", message: "-" } },
    },
    go: async page => {
      await call(page);
      await page.evaluate(() => window.fake.pc.close());
      await page.locator("[data-testid=connection-state][data-state=reconnecting]").waitFor();
    },
  },
  left: {
    scenario: { people: SIX.slice(0, 2) },
    go: async page => {
      await call(page);
      await page.getByTestId("leave-button").click();
      await page.getByTestId("ended").waitFor();
    },
  },
};
const VIEWS = [
  { name: "phone-light", width: 360, height: 640, colorScheme: "light" },
  { name: "phone-dark", width: 360, height: 640, colorScheme: "dark" },
  { name: "desktop-light", width: 1440, height: 900, colorScheme: "light" },
  { name: "desktop-dark", width: 1440, height: 900, colorScheme: "dark" },
];

mkdirSync(args.out, { recursive: true });
const server = await preview({ root, preview: { port: 0, host: "127.0.0.1" }, logLevel: "warn" });
const url = server.resolvedUrls.local[0];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
  ],
});
let violations = 0;
for (const [name, { scenario = {}, go }] of Object.entries(STATES)) {
  if (args.only && !name.includes(args.only)) continue;
  for (const view of VIEWS) {
    const page = await browser.newPage({
      viewport: { width: view.width, height: view.height },
      colorScheme: view.colorScheme,
      reducedMotion: "reduce",
    });
    page.on("pageerror", error => console.log(`${name} ${view.name}: ${error}`));
    page.on("console", message => {
      if (message.type() === "error" || message.type() === "warning")
        console.log(`${name}: ${message.text()}`);
    });
    page.setDefaultTimeout(15_000);
    await page.addInitScript(value => {
      window.fakeScenario = value;
    }, scenario);
    await page.addInitScript(fakeServer);
    await page.goto(url);
    try {
      await go(page);
    } catch (error) {
      console.log(`${name} ${view.name}: ${error}`);
      violations += 1;
    }
    await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
    await page.screenshot({ path: `${args.out}/${name}-${view.name}.png` });
    await page.evaluate(axe);
    const report = await page.evaluate(() => window.axe.run());
    for (const violation of report.violations) {
      violations += 1;
      console.log(`${name} ${view.name}: ${violation.id}: ${violation.help}`);
      for (const node of violation.nodes.slice(0, 3))
        console.log(`    ${node.html}\n    ${node.failureSummary}`);
    }
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    if (overflow) {
      violations += 1;
      console.log(`${name} ${view.name}: wider than the window`);
    }
    await page.close();
  }
  console.log(`${name}: looked at`);
}
await browser.close();
await server.close();
console.log(violations === 0 ? "no violation" : `${violations} violations`);
process.exit(violations === 0 ? 0 : 1);
