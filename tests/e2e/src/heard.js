// A tone as a file, and what of it is in a stream: where it is, and where it is not.

const RATE = 48_000;
const HEADER = 44;
/** Milliseconds of a piece that is loud or not. */
export const PIECE_MS = 10;

/** A second of a tone as a WAV file in base64; whole periods, so that it can be played again and again. */
export function toneFile(hertz, amplitude = 0.3) {
  const file = Buffer.alloc(HEADER + 2 * RATE);
  file.write("RIFF", 0);
  file.writeUInt32LE(file.length - 8, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(RATE, 24);
  file.writeUInt32LE(2 * RATE, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * RATE, 40);
  for (let i = 0; i < RATE; i++) {
    file.writeInt16LE(Math.round(amplitude * 32767 * Math.sin((2 * Math.PI * hertz * i) / RATE)), HEADER + 2 * i);
  }
  return file.toString("base64");
}

/** Sound of a WAV file: its samples and their rate. */
export function wav(buffer) {
  const view = new DataView(buffer);
  return { rate: view.getUint32(24, true), samples: new Int16Array(buffer.slice(HEADER)) };
}

/** Of each piece, ten milliseconds if nothing else is said, whether there is sound. */
export function loudness({ rate, samples }, pieceMs = PIECE_MS) {
  const step = (rate * pieceMs) / 1000;
  return Array.from({ length: Math.floor(samples.length / step) }, (_, i) => {
    const piece = samples.subarray(i * step, (i + 1) * step);
    return Math.sqrt(piece.reduce((sum, s) => sum + s * s, 0) / step) > 300;
  });
}

/** The longest silence of what was heard from `from` to `to`: its begin and end, all in milliseconds from the beginning. */
export function silence(loud, from, to) {
  let longest = [from, from];
  let begun;
  for (let i = Math.ceil(from / PIECE_MS); i < Math.min(loud.length, Math.floor(to / PIECE_MS)); i++) {
    begun = loud[i] ? undefined : (begun ?? i * PIECE_MS);
    const end = (i + 1) * PIECE_MS;
    if (begun !== undefined && end - begun > longest[1] - longest[0]) longest = [begun, end];
  }
  return longest;
}

/** How many milliseconds that is. */
export function hole(loud, from, to) {
  const [begin, end] = silence(loud, from, to);
  return end - begin;
}

/** Of each tenth of a second the frequency of a tone, by where it goes upwards through zero; 0: silence. */
export function pitches({ rate, samples }) {
  const loud = loudness({ rate, samples }, 100);
  return loud.map((is, i) => {
    if (!is) return 0;
    const piece = samples.subarray((i * rate) / 10, ((i + 1) * rate) / 10);
    const ups = [];
    for (let at = 1; at < piece.length; at++) {
      if (piece[at - 1] < 0 && piece[at] >= 0) ups.push(at);
    }
    return ups.length < 2 ? 0 : Math.round(((ups.length - 1) * rate) / (ups.at(-1) - ups[0]));
  });
}

/** Of the tenths of a second from `from` to `to` (milliseconds), without those that touch `gone`: how many have the tone, and how many there are. */
export function steady(sound, hertz, from, to, gone = [from, from]) {
  const apart = at => at + 100 <= gone[0] || at >= gone[1];
  const tenths = pitches(sound).filter((_, i) => 100 * i >= from && 100 * (i + 1) <= to && apart(100 * i));
  return [tenths.filter(got => Math.abs(got - hertz) <= 15).length, tenths.length];
}
