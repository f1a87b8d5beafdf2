// Two that meet over ways to the server that are not the plain one.

/** A server's settings: anybody may come into any room; `more` are sections. */
export const settings = more => `
[guests]
rooms = ["*"]
[demo]
enabled = false
[stop]
deadline_s = 1
${more}`;

/** Both ends of the way that a page's media takes, as candidates in its statistics. */
export function ends(person) {
  return person.evaluate(async () => {
    const stats = await window.__connections[0].getStats();
    const all = [...stats.values()];
    const transport = all.find(s => s.type === "transport" && s.selectedCandidatePairId);
    const pair = stats.get(transport?.selectedCandidatePairId) ?? all.find(s => s.type === "candidate-pair" && s.nominated);
    const end = id => ({ ...stats.get(id) });
    return { local: end(pair?.localCandidateId), remote: end(pair?.remoteCandidateId), connections: window.__connections.length };
  });
}

/** Ada and Ben see and hear each other. */
export function meet(ada, ben) {
  return Promise.all([ada.sees(ben.id), ben.sees(ada.id), ada.hears(ben.id, 660), ben.hears(ada.id, 440)]);
}
