// The pages as people meet them: no axe violation, at phone and desktop widths; usable by keyboard; screenshots.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { suite } from "../src/suite.js";

const it = suite({ chromium: true });
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };

async function accessible(person) {
  await person.evaluate(AXE);
  // What fades in has no contrast while it does: motion is left out, and what had begun ends at once.
  await person.page.emulateMedia({ reducedMotion: "reduce" });
  const violations = await person.evaluate(async () => {
    const ends = document.getAnimations().filter(animation => animation.effect.getComputedTiming().endTime < Infinity);
    await Promise.allSettled(ends.map(animation => animation.finished));
    const result = await window.axe.run();
    return result.violations.map(v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.target.join(" ")).join("; ")}`);
  });
  await person.page.emulateMedia({ reducedMotion: null });
  assert.deepEqual(violations, []);
}

for (const [width, viewport] of Object.entries(WIDTHS)) {
  test(`pre-join and in call at ${width} width`, { timeout: 60_000 }, async () => {
    const room = it.room();
    await it.join(it.chromium, room, "Grace Hopper", { fake: { tone: 700 } });
    const ada = await it.chromium.open(`${it.server.url}/r/${room}`, { viewport });
    await ada.until("the preview", () => document.querySelector(".preview video")?.videoWidth > 0);
    await accessible(ada);
    await ada.screenshot(`pre-join-${width}`);
    // By keyboard alone.
    await ada.page.locator("[data-testid=name-input]").focus();
    await ada.page.keyboard.type("Ada Lovelace");
    await ada.page.keyboard.press("Enter");
    await ada.joined();
    await ada.until("Grace is seen", () => !!document.querySelector("[data-self=false] video[data-fresh=true]"));
    await accessible(ada);
    await ada.screenshot(`in-call-${width}`);
  });
}
