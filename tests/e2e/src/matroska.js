// The smallest Matroska that a producer of stored streams sends: one track of PCM at 8 kHz, a cluster for each piece of sound.

const element = (id, data) => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(data.length | (1 << 28));
  return Buffer.concat([Buffer.from(id, "hex"), size, data]);
};
const UNKNOWN = Buffer.from("01ffffffffffffff", "hex");

/** All that stands before the first cluster; with the name of the track and the contact that it is of, if it says so. */
export function head({ name, contact } = {}) {
  const rate = Buffer.alloc(8);
  rate.writeDoubleBE(8000);
  const sound = element("e1", Buffer.concat([element("b5", rate), element("9f", Buffer.of(1)), element("6264", Buffer.of(16))]));
  const named = name ? [element("536e", Buffer.from(name))] : [];
  const track = [element("d7", Buffer.of(1)), ...named, element("83", Buffer.of(2)), element("86", Buffer.from("A_PCM/INT/LIT")), sound];
  const tag = contact ? [element("45a3", Buffer.from("ContactId")), element("4487", Buffer.from(contact))] : [];
  return Buffer.concat([
    element("1a45dfa3", element("4282", Buffer.from("matroska"))),
    Buffer.from("18538067", "hex"),
    UNKNOWN,
    element("1549a966", element("2ad7b1", Buffer.from("0f4240", "hex"))),
    element("1654ae6b", element("ae", Buffer.concat(track))),
    ...(contact ? [element("1254c367", element("7373", element("67c8", Buffer.concat(tag))))] : []),
  ]);
}

/** One piece of sound at a time in milliseconds. */
export function cluster(at, pcm) {
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(at));
  const block = Buffer.concat([Buffer.from("81000080", "hex"), pcm]);
  return Buffer.concat([Buffer.from("1f43b675", "hex"), UNKNOWN, element("e7", time), element("a3", block)]);
}

/** A document of pieces of one second each. */
export const pcmDocument = (first, pieces) => Buffer.concat([head(), ...pieces.map((pcm, i) => cluster(first + i * 1000, pcm))]);

/** How often `needle` is in `haystack`. */
export const count = (haystack, needle) => haystack.toString("latin1").split(needle.toString("latin1")).length - 1;
