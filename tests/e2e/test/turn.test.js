// Whose network lets nothing through to the server gets there by a TURN server that the answer names; others go straight.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ends, meet, settings } from "../src/reach.js";
import { suite } from "../src/suite.js";
import { TurnServer } from "../src/turn.js";

const turn = await TurnServer.start();
after(() => turn.stop());
const servers = `ice_servers = [{ urls = ${JSON.stringify(turn.urls)}, secret = "${turn.secret}" }]`;
const it = suite({
  chromium: true,
  firefox: true,
  // It takes this certificate of nobody it knows, and no other.
  chromiumArgs: [`--ignore-certificate-errors-spki-list=${turn.spki}`],
  firefoxTrusts: turn.ca,
  server: { config: `${servers}\n${settings("")}` },
});

/** In the page: nothing gets straight to the server, and the TURN server is reached by one protocol only. */
function relayed(protocol) {
  return `
    const CANDIDATE = /(a=candidate:\\S+ \\d+ \\w+ \\d+ \\S+ )(\\d+)/g;
    const DISCARD = "9";
    let named;
    const Direct = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Direct {
      setConfiguration(configuration) {
        window.__told = configuration.iceServers.map(server => String(server.urls));
        const by = ({ urls }) => (String(urls).startsWith("turns:") ? "tls" : String(urls).endsWith("transport=tcp") ? "tcp" : "udp");
        const iceServers = configuration.iceServers.filter(server => by(server) === "${protocol}");
        super.setConfiguration({ ...configuration, iceServers, iceTransportPolicy: "relay" });
      }
      setRemoteDescription({ type, sdp }) {
        // The answer of an ICE restart is made of this one: the TURN server may go where the page may not.
        const to = named ?? DISCARD;
        named ??= CANDIDATE.exec(sdp)[2];
        return super.setRemoteDescription({ type, sdp: sdp.replace(CANDIDATE, (_all, head) => head + to) });
      }
    };`;
}

/** The page's end of the way that its media takes. */
async function way(person) {
  const { local, connections } = await ends(person);
  return { type: local.candidateType, by: local.relayProtocol, connections };
}

for (const [browser, protocol] of [
  ["chromium", "udp"],
  ["chromium", "tcp"],
  ["chromium", "tls"],
  ["firefox", "udp"],
  ["firefox", "tcp"],
  ["firefox", "tls"],
]) {
  test(`${browser} without another way meets others through a TURN server by ${protocol}`, { timeout: 90_000 }, async () => {
    const room = it.room();
    const ada = await it.join(it.chromium, room, "Ada", { fake: { tone: 440 } });
    const ben = await it.join(it[browser], room, "Ben", { fake: { tone: 660 }, script: relayed(protocol) });
    await meet(ada, ben);
    assert.deepEqual(await way(ben), { type: "relay", by: protocol, connections: 1 });
    assert.notEqual((await way(ada)).type, "relay");
    assert.deepEqual(await ben.evaluate(() => window.__told), turn.urls);
  });
}
