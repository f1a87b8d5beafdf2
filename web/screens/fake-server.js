// A stand-in for the server inside the page, for looking at screens without one: answers the offer with a second peer
// connection, sends drawn people into the slots, and speaks the control protocol. Set up by `window.fakeScenario`.
// Runs as a page script before the client's; nothing of it is in the build.

(() => {
  const scenario = window.fakeScenario ?? {};
  const others = scenario.people ?? [];

  /** A person: a backdrop, shoulders, a head that moves a little. */
  function drawPerson(canvas, look, time) {
    const g = canvas.getContext("2d");
    const { width: w, height: h } = canvas;
    const back = g.createLinearGradient(0, 0, w, h);
    back.addColorStop(0, `hsl(${look.hue} 32% 72%)`);
    back.addColorStop(1, `hsl(${look.hue + 40} 30% 48%)`);
    g.fillStyle = back;
    g.fillRect(0, 0, w, h);
    g.fillStyle = `hsl(${look.hue + 10} 30% 84% / 60%)`;
    g.fillRect(w * 0.08, h * 0.1, w * 0.22, h * 0.42);
    g.fillRect(w * 0.76, h * 0.06, w * 0.16, h * 0.6);
    const sway = Math.sin(time / 900 + look.hue) * w * 0.012;
    g.fillStyle = `hsl(${look.hue + 190} 38% 34%)`;
    g.beginPath();
    g.ellipse(w / 2 + sway / 2, h * 1.06, w * 0.27, h * 0.4, 0, 0, 7);
    g.fill();
    g.fillStyle = look.skin;
    g.fillRect(w / 2 - w * 0.04 + sway, h * 0.56, w * 0.08, h * 0.16);
    g.beginPath();
    g.ellipse(w / 2 + sway, h * 0.42, w * 0.095, h * 0.215, 0, 0, 7);
    g.fill();
    g.fillStyle = look.hair;
    g.beginPath();
    g.ellipse(w / 2 + sway, h * 0.31, w * 0.105, h * 0.15, 0, Math.PI, 0);
    g.ellipse(w / 2 + sway, h * 0.31, w * 0.105, h * 0.05, 0, 0, Math.PI);
    g.fill();
    g.fillStyle = "#2b2024";
    for (const side of [-1, 1]) {
      g.beginPath();
      g.ellipse(w / 2 + sway + side * w * 0.036, h * 0.42, w * 0.008, h * 0.014, 0, 0, 7);
      g.fill();
    }
    g.strokeStyle = "#8d4a44";
    g.lineWidth = w * 0.006;
    g.beginPath();
    g.arc(w / 2 + sway, h * 0.475, w * 0.034, 0.25, Math.PI - 0.25);
    g.stroke();
  }

  function drawScreen(canvas) {
    const g = canvas.getContext("2d");
    const { width: w, height: h } = canvas;
    g.fillStyle = "#fbfaf7";
    g.fillRect(0, 0, w, h);
    g.fillStyle = "#2a2440";
    g.font = `700 ${h * 0.075}px sans-serif`;
    g.fillText("Packets forwarded per core", w * 0.07, h * 0.16);
    const bars = [0.32, 0.41, 0.55, 0.62, 0.78, 0.92];
    bars.forEach((value, i) => {
      g.fillStyle = i === bars.length - 1 ? "#4a3fc4" : "#c9c3ea";
      g.fillRect(w * (0.08 + i * 0.145), h * (0.88 - value * 0.6), w * 0.1, h * value * 0.6);
    });
    g.fillStyle = "#8a8499";
    g.fillRect(w * 0.07, h * 0.885, w * 0.87, 3);
  }

  const SKINS = ["#e8b998", "#8d5b3f", "#f1c9a9", "#c58c65", "#6e4630", "#f0c3a0"];
  const HAIRS = ["#3a2a22", "#171414", "#b9803f", "#6b2f1e", "#2a2430", "#8a8784"];
  const timers = [];
  function movie(index, screen = false) {
    const canvas = document.createElement("canvas");
    canvas.width = screen ? 1280 : 640;
    canvas.height = screen ? 720 : 360;
    const look = { hue: (index * 67 + 20) % 360, skin: SKINS[index % 6], hair: HAIRS[(index * 5 + 1) % 6] };
    const draw = () => (screen ? drawScreen(canvas) : drawPerson(canvas, look, performance.now()));
    draw();
    timers.push(setInterval(draw, 100));
    return canvas.captureStream(10).getVideoTracks()[0];
  }

  let context;
  function tone(frequency) {
    context ??= new AudioContext();
    const oscillator = context.createOscillator();
    const gain = context.createGain();
    const out = context.createMediaStreamDestination();
    oscillator.frequency.value = frequency;
    gain.gain.value = 0.12;
    oscillator.connect(gain).connect(out);
    oscillator.start();
    return out.stream.getAudioTracks()[0];
  }

  // Own devices: drawn, or refused where the scenario says so.
  const devices = {
    getUserMedia: async wanted => {
      if (scenario.deny) throw new DOMException("refused", scenario.deny);
      const tracks = [];
      if (wanted.audio) tracks.push(scenario.quiet ? tone(0) : tone(180));
      if (wanted.video) tracks.push(movie(scenario.look ?? 9));
      return new MediaStream(tracks);
    },
    getDisplayMedia: async () => new MediaStream([movie(0, true)]),
    enumerateDevices: async () =>
      scenario.deny
        ? []
        : [
            { kind: "audioinput", deviceId: "mic", label: "Built-in microphone" },
            { kind: "audioinput", deviceId: "usb", label: "USB headset" },
            { kind: "videoinput", deviceId: "cam", label: "Front camera" },
          ],
    addEventListener() {},
    removeEventListener() {},
  };
  Object.defineProperty(navigator, "mediaDevices", { value: devices, configurable: true });

  // With a real server only the devices are drawn.
  if (scenario.server) return;

  let seq = 10;
  let channel;
  const say = message => channel?.readyState === "open" && channel.send(JSON.stringify(message));
  const self = { id: "me", key: 1, kind: "web_rtc", presence: "connected", tracks: [], name: "" };
  const people = () => [
    ...others.map((person, i) => ({
      id: `p${i}`,
      key: i + 2,
      name: person.name,
      kind: person.kind ?? "web_rtc",
      presence: person.presence ?? "connected",
      tracks: [
        { source: "microphone", codec: "opus", muted: person.muted ?? false, layers: 1 },
        ...(person.camera === false ? [] : [{ source: "camera", codec: "vp8", muted: false, layers: 3 }]),
        ...(person.screen ? [{ source: "screen", codec: "vp8", muted: false, layers: 1 }] : []),
      ],
    })),
    self,
  ];

  function handle({ id, ...request }) {
    window.fake.requests.push(request);
    if (request.type === "rename") self.name = request.name;
    if (request.type === "publish") {
      self.tracks = self.tracks.filter(t => t.source !== request.source);
      if (request.active) {
        self.tracks.push({ source: request.source, codec: "vp8", muted: false, layers: 1 });
        if (request.source === "screen") say({ type: "screen_started", seq: ++seq, participant: "me" });
      } else if (request.source === "screen") say({ type: "screen_stopped", seq: ++seq, participant: "me" });
    }
    if (request.type === "mute") {
      self.tracks = self.tracks.map(t => (t.source === request.source ? { ...t, muted: request.muted } : t));
    }
    if (request.type === "sync") say({ type: "roster", seq, participants: people() });
    say({ type: "participant_updated", seq: ++seq, participant: { ...self } });
    say({ type: "reply", id });
  }

  async function answer(offer, name) {
    if (self.name === "") self.name = name;
    const pc = new RTCPeerConnection();
    window.fake.pc = pc;
    await pc.setRemoteDescription({ type: "offer", sdp: offer });
    const lines = pc.getTransceivers().filter(t => t.receiver.track);
    const wanted = lines.filter(t => t.direction === "recvonly" || t.direction === "inactive");
    const directions = [...offer.matchAll(/^m=(audio|video)[\s\S]*?^a=(sendonly|recvonly)/gm)].map(m => m[2]);
    const slots = lines.filter((_, i) => directions[i] === "recvonly");
    const videos = slots.filter(t => t.receiver.track.kind === "video");
    const screenSlot = videos.pop();
    const assigned = [];
    const served = scenario.limits?.last_n ?? others.length;
    const cameras = others
      .map((p, i) => ({ ...p, i }))
      .filter(p => p.camera !== false)
      .slice(0, served);
    for (const [at, line] of videos.entries()) {
      line.direction = "sendonly";
      const who = cameras[at];
      if (who) {
        await line.sender.replaceTrack(movie(who.i));
        assigned.push({ mid: line.mid, participant: `p${who.i}`, source: "camera", csrc: who.i + 2 });
      }
    }
    const sharer = others.findIndex(p => p.screen);
    screenSlot.direction = "sendonly";
    if (sharer >= 0) {
      await screenSlot.sender.replaceTrack(movie(0, true));
      assigned.push({ mid: screenSlot.mid, participant: `p${sharer}`, source: "screen", csrc: sharer + 2 });
    }
    for (const [i, line] of slots.filter(t => t.receiver.track.kind === "audio").entries()) {
      line.direction = "sendonly";
      if (others[i]) await line.sender.replaceTrack(tone(300 + 100 * i));
    }
    pc.ondatachannel = event => {
      channel = event.channel;
      channel.onmessage = m => handle(JSON.parse(m.data));
      const hello = () => {
        say({
          type: "welcome",
          participant: "me",
          key: 1,
          room: "demo",
          resume_token: "r",
          resume_ttl_s: 30,
        });
        say({ type: "roster", seq, participants: people() });
        say({ type: "slots", slots: assigned });
        const speaking = others.flatMap((p, i) => (p.speaks ? [{ participant: `p${i}`, level: 30 }] : []));
        say({ type: "speakers", speakers: speaking });
        say({ type: "dominant", participants: speaking.map(s => s.participant) });
        if (scenario.limits) say({ type: "limits", ...scenario.limits });
      };
      if (channel.readyState === "open") hello();
      else channel.onopen = hello;
    };
    await pc.setLocalDescription();
    if (pc.iceGatheringState !== "complete") {
      await new Promise(resolve => {
        pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && resolve();
      });
    }
    return { sdp: pc.localDescription.sdp, lines: wanted.length };
  }

  const json = (status, body) =>
    new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
  const realFetch = window.fetch;
  window.fake = { requests: [], posts: [], say, bump: () => ++seq };
  window.fetch = async (input, init = {}) => {
    const url = String(input.url ?? input);
    if (!url.includes("/v1/")) return realFetch(input, init);
    if (scenario.refuse && window.fake.posts.length >= (scenario.refuse.after ?? 0)) {
      return json(scenario.refuse.status, { error: scenario.refuse.error });
    }
    if (url.endsWith("/guest-token")) return json(200, { token: "e30.e30.x", expires_in: 3600 });
    if (init.method === "DELETE") return new Response(null, { status: 204 });
    window.fake.posts.push(init.headers);
    const { sdp } = await answer(init.body, decodeURIComponent(init.headers["Antiphon-Name"] ?? ""));
    return new Response(sdp, {
      status: 201,
      headers: {
        "Content-Type": "application/sdp",
        Location: "/v1/rooms/demo/participants/me",
        "Antiphon-Participant": "me",
        "Antiphon-Resume": "r",
      },
    });
  };
})();
