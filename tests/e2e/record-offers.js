// Records the offers that the browsers of this machine make into crates/shard/tests/data: of the web client, of a plain
// WHIP publisher and of a WHEP player. What is there already stays. `node tests/e2e/record-offers.js`

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./src/browsers.js";
import { ROOT, Server } from "./src/server.js";

const FOLDER = join(ROOT, "crates/shard/tests/data");
const HOOK = `
  const real = window.fetch;
  window.fetch = (url, options) => {
    if (options?.headers?.["Content-Type"] === "application/sdp") window.__offer = options.body;
    return real(url, options);
  };
`;

/** The offer of a bare connection with a microphone and a camera, or with lines to receive both. */
async function bare(publish) {
  const pc = new RTCPeerConnection();
  if (publish) {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    for (const track of media.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [media] });
  } else {
    for (const kind of ["audio", "video"]) pc.addTransceiver(kind, { direction: "recvonly" });
  }
  return (await pc.createOffer()).sdp;
}

function keep(name, offer) {
  const file = join(FOLDER, `${name}.sdp`);
  if (existsSync(file)) return;
  writeFileSync(file, offer);
  console.log(`${name}: ${offer.split("\nm=").length - 1} lines, ${offer.length} bytes`);
}

const server = await Server.start();
for (const launch of [launchChromium, launchFirefox]) {
  const browser = await launch();
  const person = await browser.open(server.page("offers"), { script: HOOK });
  await person.joined();
  const agent = await person.evaluate(() => navigator.userAgent);
  const [, version] = /(?:Chrome|Firefox)\/(\d+)/.exec(agent);
  const name = `${browser.name}-${version}`;
  keep(name, await person.evaluate(() => window.__offer));
  for (const [use, publish] of [["whip", true], ["whep", false]]) {
    keep(`${name}-${use}`, await person.evaluate(bare, publish));
  }
  await browser.close();
}
await server.stop();
