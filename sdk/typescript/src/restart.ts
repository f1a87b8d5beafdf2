// ICE restart: the same connection by another way (RFC 9725, 4.3.3; docs/reference/join.md). No new offer goes to the server,
// only the ICE part of it, and its answer is the old one with the server's new ICE parameters.

const FRAGMENT = "application/trickle-ice-sdpfrag";
/** What is of ICE in an SDP, and the m-line with its mid. */
const OF_ICE = /^(a=(group|mid|ice-ufrag|ice-pwd|candidate|end-of-candidates)|m=)/;

/** The ICE part of an offer: its first m-line stands for all, since they are bundled. */
export function fragmentOf(sdp: string): string {
  const lines = sdp.split(/\r?\n/).filter(line => OF_ICE.test(line));
  const second = lines.findIndex(
    (line, i) => line.startsWith("m=") && lines.findIndex(l => l.startsWith("m=")) < i,
  );
  return lines
    .slice(0, second < 0 ? undefined : second)
    .map(line => `${line}\r\n`)
    .join("");
}

/** An answer with the ICE parameters of a fragment in place of its own. */
export function withParameters(answer: string, fragment: string): string {
  const value = (name: string) => {
    const found = new RegExp(`^a=${name}:(.+)$`, "m").exec(fragment)?.[1]?.trim();
    if (!found) throw new Error(`the server's fragment has no ${name}`);
    return found;
  };
  return answer
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${value("ice-ufrag")}`)
    .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${value("ice-pwd")}`)
    .replace(/ ufrag \S+/g, ` ufrag ${value("ice-ufrag")}`);
}

/**
 * Restarts ICE of a connection whose resource is at `url`. Throws where the server does not grant it; the connection is then
 * as it was before.
 */
export async function restartIce(
  pc: RTCPeerConnection,
  url: string,
  token: string,
  signal: AbortSignal,
): Promise<void> {
  const answer = pc.remoteDescription?.sdp;
  if (!answer || pc.signalingState !== "stable") throw new Error("there is nothing to restart");
  await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
  try {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": FRAGMENT, "If-Match": "*" };
    const body = fragmentOf(pc.localDescription?.sdp ?? "");
    const response = await fetch(url, { method: "PATCH", headers, body, signal });
    if (response.status !== 200) throw new Error(`the server answered ${response.status}`);
    await pc.setRemoteDescription({ type: "answer", sdp: withParameters(answer, await response.text()) });
  } catch (error) {
    // `closed` in the meantime, or already rolled back.
    await pc.setLocalDescription({ type: "rollback" }).catch(() => undefined);
    throw error;
  }
}
