// Takes the pictures of docs/guide from a running server: `ANTIPHON_URL=http://localhost:7700 node screens/guide.mjs DIR`.
// Drawn people meet in its demo room, each in a browser page of its own.

import { mkdirSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [out = "../docs/guide/img"] = process.argv.slice(2);
const url = process.env.ANTIPHON_URL ?? "http://localhost:7700";
const devices = readFileSync(new URL("./fake-server.js", import.meta.url), "utf8");
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 780 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
  ],
});

async function open(name, { look, loud = false, viewport = DESKTOP, colorScheme = "light", join = true }) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  await page.addInitScript(
    scenario => {
      window.fakeScenario = scenario;
    },
    { server: true, look, quiet: !loud },
  );
  await page.addInitScript(devices);
  await page.goto(join ? `${url}/?name=${name}&autojoin=1` : url);
  if (join) await page.locator("[data-testid=connection-state][data-state=connected]").waitFor();
  return page;
}

/** Everybody is there and seen, and the small notices have gone. */
async function ready(page, people) {
  await page.waitForFunction(
    count =>
      window.__antiphon.room.participants.size >= count &&
      document.querySelectorAll("video[data-fresh=true]").length >= count &&
      document.querySelector("[data-testid=tile][data-speaking=true]") &&
      !document.querySelector(".toast"),
    people,
    { timeout: 30_000 },
  );
}

mkdirSync(out, { recursive: true });
const lobby = await open("", { look: 9, join: false });
await lobby.getByTestId("name-input").fill("Ada Lovelace");
await lobby.locator(".preview video").waitFor();
await lobby.waitForFunction(() => document.querySelector(".preview video").videoWidth > 0);
await lobby.mouse.move(5, 400);
await lobby.screenshot({ path: `${out}/pre-join.png` });
await lobby.close();

const alan = await open("Alan", { look: 2 });
const ada = await open("Ada", { look: 9 });
const grace = await open("Grace", { look: 0, loud: true, viewport: PHONE, colorScheme: "dark" });
await ready(ada, 4);
await ada.screenshot({ path: `${out}/call.png` });
await ready(grace, 4);
await grace.screenshot({ path: `${out}/call-phone.png` });
await alan.getByTestId("screen-toggle").click();
await ada.locator("[data-source=screen] video[data-fresh=true]").waitFor();
await ready(ada, 4);
await ada.emulateMedia({ colorScheme: "dark" });
await ada.waitForTimeout(600); // Colours change softly.
await ada.screenshot({ path: `${out}/screen-share.png` });
// Whoever is just closed would be waited for.
for (const context of browser.contexts()) {
  for (const page of context.pages()) await page.evaluate(() => window.__antiphon.room.leave());
}
await browser.close();
