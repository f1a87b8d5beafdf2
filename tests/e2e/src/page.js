// Runs in the page before its own scripts, in every browser alike: a voice and a camera made by the page itself, and
// eyes and ears for the test. `window.__fake` may be set before it.
//
// The camera's pictures carry a frame number in a strip at the top (a tenth of the height, 20 blocks: white, black,
// 16 bits with the most significant first, parities of even and odd bits). It is the wall clock in frames, so whoever
// reads it knows how old the picture is.

(() => {
  const BLOCKS = 20;
  const BITS = 16;
  const [COLUMNS, ROWS] = [8, 4];
  const fake = { tone: 440, amplitude: 0.3, width: 640, height: 360, fps: 30, noise: 0, ...window.__fake };
  window.__fake = fake;

  const wallFrame = fps => Math.floor(((performance.timeOrigin + performance.now()) / 1000) * fps);
  const bitsOf = number => {
    const bits = Array.from({ length: BITS }, (_, i) => (number >> (BITS - 1 - i)) & 1);
    const parity = from => bits.filter((_, i) => i % 2 === from).reduce((a, b) => a ^ b, 0);
    return [1, 0, ...bits, parity(0), parity(1)];
  };

  // Pictures.

  const drawStill = (ctx, w, h) => {
    const top = Math.floor(h / 10);
    for (let row = 0; row < ROWS; row++) {
      for (let column = 0; column < COLUMNS; column++) {
        // Nearly grey, as py/synth.py says why.
        const grey = 92 + 7 * column + 5 * row;
        const tint = (column + row) % 2 ? 4 : -4;
        ctx.fillStyle = `rgb(${grey + tint}, ${grey}, ${grey - tint})`;
        const [x0, x1] = [column, column + 1].map(c => Math.floor((w * c) / COLUMNS));
        const [y0, y1] = [row, row + 1].map(r => top + Math.floor(((h - top) * r) / ROWS));
        ctx.fillRect(x0, y0, x1 - x0, y1 - y0);
      }
    }
  };
  const drawNumber = (ctx, w, h, number) => {
    bitsOf(number & 0xffff).forEach((bit, i) => {
      ctx.fillStyle = bit ? "#fff" : "#000";
      const [x0, x1] = [i, i + 1].map(b => Math.floor((w * b) / BLOCKS));
      ctx.fillRect(x0, 0, x1 - x0, Math.floor(h / 10));
    });
  };
  /** Something that takes bits: so many rectangles below the number, in other colours and places each time. */
  const drawNoise = (ctx, w, h, count) => {
    const any = n => Math.floor(Math.random() * n);
    for (let i = 0; i < count; i++) {
      ctx.fillStyle = `rgb(${any(256)}, ${any(256)}, ${any(256)})`;
      ctx.fillRect(any(w), h / 5 + any(h), any(w / 8), any(h / 8));
    }
  };
  const pictures = (width, height, fps) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const ctx = canvas.getContext("2d", { alpha: false });
    drawStill(ctx, width, height);
    let last = -1;
    const draw = () => {
      const number = wallFrame(fps);
      if (number === last) return;
      last = number;
      drawNumber(ctx, width, height, number);
      drawNoise(ctx, width, height, fake.noise);
    };
    draw();
    setInterval(draw, 1000 / fps / 2);
    return canvas.captureStream(fps).getVideoTracks()[0];
  };

  // Sound.

  let context;
  const audioContext = () => {
    context ??= new AudioContext({ sampleRate: 48_000 });
    if (context.state !== "running") context.resume();
    return context;
  };
  const voice = frequency => {
    const ctx = audioContext();
    const oscillator = new OscillatorNode(ctx, { frequency });
    const gain = new GainNode(ctx, { gain: fake.silent ? 0 : fake.amplitude });
    const out = ctx.createMediaStreamDestination();
    oscillator.connect(gain).connect(out);
    oscillator.start();
    window.__voice = { oscillator, gain };
    return out.stream.getAudioTracks()[0];
  };

  /** A voice out of a file (WAV, in base64), again and again. */
  const spoken = async file => {
    const ctx = audioContext();
    const bytes = Uint8Array.from(atob(file), c => c.charCodeAt(0));
    const source = new AudioBufferSourceNode(ctx, { buffer: await ctx.decodeAudioData(bytes.buffer), loop: true });
    const out = ctx.createMediaStreamDestination();
    source.connect(out);
    source.start();
    return out.stream.getAudioTracks()[0];
  };

  if (!fake.real) {
    const devices = navigator.mediaDevices;
    devices.getUserMedia = async wanted => {
      const tracks = [];
      if (wanted.audio) tracks.push(fake.file ? await spoken(fake.file) : voice(fake.tone));
      if (wanted.video) tracks.push(pictures(fake.width, fake.height, fake.fps));
      return new MediaStream(tracks);
    };
    devices.getDisplayMedia = async () =>
      new MediaStream([pictures(1280, 720, 15), voice(fake.screenTone ?? fake.tone * 2)]);
  }

  // What the page connects with; the test may cut it.
  const Real = window.RTCPeerConnection;
  window.__connections = [];
  window.RTCPeerConnection = class extends Real {
    constructor(...args) {
      super(...args);
      window.__connections.push(this);
    }
    setRemoteDescription(description) {
      // Through relays of the test's, which can lose everything: their ports by protocol. A protocol without is no way.
      const via = window.__via;
      window.__via = undefined;
      if (!via) return super.setRemoteDescription(description);
      window.__relayTo = {};
      const candidate = /(a=candidate:\S+ \d+ (udp|tcp) \d+ )\S+ (\d+)(.*\r\n)/gi;
      const sdp = description.sdp.replace(candidate, (_all, head, protocol, to, rest) => {
        const port = via[protocol.toLowerCase()];
        window.__relayTo[protocol.toLowerCase()] = Number(to);
        return port ? `${head}127.0.0.1 ${port}${rest}` : "";
      });
      return super.setRemoteDescription({ type: description.type, sdp });
    }
  };

  // Eyes: frame numbers of a <video>, as they are shown.

  const strip = Object.assign(document.createElement("canvas"), { width: BLOCKS * 10, height: 10 });
  const stripContext = strip.getContext("2d", { willReadFrequently: true });
  const readNumber = video => {
    stripContext.drawImage(video, 0, 0, video.videoWidth, video.videoHeight / 10, 0, 0, strip.width, strip.height);
    const { data } = stripContext.getImageData(0, 0, strip.width, strip.height);
    const blocks = Array.from({ length: BLOCKS }, (_, i) => {
      const at = (5 * strip.width + i * 10 + 5) * 4;
      return (data[at] + data[at + 1] + data[at + 2]) / 3;
    });
    if (blocks[0] - blocks[1] < 100) return undefined;
    const bits = blocks.slice(2).map(b => Number(b > (blocks[0] + blocks[1]) / 2));
    const number = bits.slice(0, BITS).reduce((n, bit) => n * 2 + bit, 0);
    return bitsOf(number).slice(2).join() === bits.join() ? number : undefined;
  };
  /** Frames from `a` to `b`, negative when it goes back; numbers are 16 bit. */
  const forward = (a, b) => ((b - a + 0x8000) & 0xffff) - 0x8000;

  const watched = new Map();
  /** Watches the video that `selector` finds now; `__seen(selector)` tells what was seen since. */
  window.__watch = (selector, fps = fake.fps) => {
    const video = document.querySelector(selector);
    if (!video) return false;
    const seen = { pictures: 0, unreadable: 0, backwards: 0, first: undefined, last: undefined, ages: [], longest: 0, at: performance.now() };
    watched.set(selector, { seen, video });
    const look = now => {
      if (watched.get(selector)?.seen !== seen) return;
      const number = readNumber(video);
      seen.pictures++;
      // Milliseconds from one picture to the next.
      seen.longest = Math.max(seen.longest, now - seen.at);
      seen.at = now;
      if (number === undefined) seen.unreadable++;
      else {
        if (seen.last !== undefined && forward(seen.last, number) < 0) seen.backwards++;
        seen.first ??= number;
        seen.last = number;
        seen.ages.push((forward(number, wallFrame(fps) & 0xffff) / fps) * 1000);
      }
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    return true;
  };
  window.__seen = selector => {
    const { seen, video } = watched.get(selector) ?? {};
    if (!seen) return undefined;
    const ages = seen.ages.toSorted((a, b) => a - b);
    return {
      ...seen,
      longest: Math.max(seen.longest, performance.now() - seen.at),
      width: video.videoWidth,
      height: video.videoHeight,
      advanced: seen.last === undefined ? 0 : forward(seen.first, seen.last),
      ages: undefined,
      age: ages[Math.floor(ages.length / 2)],
    };
  };

  /** Why a video stands, as far as the page can tell: what was seen, what came of it, what the room keeps back. */
  window.__account = async selector => {
    const video = document.querySelector(selector);
    const track = video?.srcObject?.getVideoTracks()[0];
    const room = window.__antiphon?.room;
    const receiver = room?.peerConnection?.getReceivers().find(r => r.track === track);
    const came = [...((await receiver?.getStats()) ?? new Map()).values()].filter(s => s.type === "inbound-rtp");
    const { state, limits } = room ?? {};
    const slots = [...(room?.slots.values() ?? [])].map(({ track: _, ...slot }) => slot);
    const people = [...(room?.participants.values() ?? [])];
    return JSON.stringify({ seen: window.__seen(selector), found: !!video, muted: track?.muted, came, state, limits, slots, people });
  };

  /** How many of 160 x 90 pixels of a video change much within so many pictures. */
  window.__changes = async (selector, pictures) => {
    const video = document.querySelector(selector);
    const [width, height] = [160, 90];
    const look = () => {
      const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      context.drawImage(video, 0, 0, width, height);
      return context.getImageData(0, 0, width, height).data;
    };
    const before = look();
    for (let i = 0; i < pictures; i++) await new Promise(resolve => video.requestVideoFrameCallback(resolve));
    const after = look();
    const far = i => Math.abs(after[i] - before[i]) + Math.abs(after[i + 1] - before[i + 1]) > 60;
    return Array.from({ length: width * height }, (_, pixel) => 4 * pixel).filter(far).length;
  };

  // Ears: what an <audio> plays.

  const ears = new Map();
  const earOf = selector => {
    const stream = document.querySelector(selector)?.srcObject;
    const track = stream?.getAudioTracks()[0];
    if (!track) return undefined;
    let ear = ears.get(track.id);
    if (!ear) {
      const ctx = audioContext();
      const analyser = new AnalyserNode(ctx, { fftSize: 16_384, smoothingTimeConstant: 0 });
      const quick = new AnalyserNode(ctx, { fftSize: 512 });
      const source = ctx.createMediaStreamSource(stream);
      source.connect(analyser);
      source.connect(quick);
      ear = { source, analyser, quick };
      ears.set(track.id, ear);
    }
    return ear;
  };
  const levelOf = analyser => {
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return 10 * Math.log10(samples.reduce((sum, x) => sum + x * x, 0) / samples.length + 1e-10);
  };
  /** Strongest partial and level (dBFS, a full sine is -3) of the last third of a second. */
  window.__heard = selector => {
    const ear = earOf(selector);
    if (!ear) return undefined;
    const bins = new Float32Array(ear.analyser.frequencyBinCount);
    ear.analyser.getFloatFrequencyData(bins);
    let peak = 1;
    for (let i = 1; i < bins.length - 1; i++) if (bins[i] > bins[peak]) peak = i;
    const [a, b, c] = [bins[peak - 1], bins[peak], bins[peak + 1]];
    const offset = Number.isFinite(a + b + c) && a - 2 * b + c ? (0.5 * (a - c)) / (a - 2 * b + c) : 0;
    const width = audioContext().sampleRate / ear.analyser.fftSize;
    return { frequency: (peak + offset) * width, level: levelOf(ear.analyser), state: audioContext().state };
  };
  /** Wall-clock moments (ms) at which the sound began after silence, until `count` of them. */
  window.__onsets = async (selector, count, thresholdDb = -35) => {
    const ear = earOf(selector);
    const onsets = [];
    let quiet = false;
    const end = performance.now() + count * 2_000 + 5_000;
    while (onsets.length < count && performance.now() < end) {
      const loud = levelOf(ear.quick) > thresholdDb;
      if (loud && quiet) onsets.push(performance.timeOrigin + performance.now());
      quiet = !loud;
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    return onsets;
  };
})();
