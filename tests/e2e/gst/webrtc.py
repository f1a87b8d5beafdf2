#!/usr/bin/env python3
"""GStreamer's webrtcbin by WHIP and WHEP, with GStreamer's own encoders and decoders. For the system's Python (its `gi`), hence
nothing but the standard library.

    webrtc.py URL ROOM --token TOKEN publish|play CODEC PEM [WHO]
"""

import base64
import hashlib
import json
import math
import re
import sys
import threading
import time
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstApp, GstSdp, GstWebRTC  # noqa: E402, F401

WIDTH, HEIGHT, FPS = 320, 180, 15
STRIP = HEIGHT // 10
# The geometry of synth.py: white, black, 16 bits, two parities.
BLOCKS, BITS = 20, 16
TONE = 660
PICTURES, SECONDS_HEARD = 20, 1.0

PAYLOAD_TYPES = {"VP8": 96, "VP9": 98, "H264": 102, "AV1": 45, "opus": 111, "PCMU": 0, "PCMA": 8, "G722": 9}
ENCODERS = {
    "VP8": "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=400000 ! rtpvp8pay picture-id-mode=2",
    "VP9": "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=15 target-bitrate=400000 ! rtpvp9pay picture-id-mode=2",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=400 "
    "! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency",
    "opus": "audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay",
    "PCMU": "audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay max-ptime=20000000",
    "PCMA": "audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay max-ptime=20000000",
    "G722": "audioconvert ! audioresample ! audio/x-raw,rate=16000,channels=1 ! avenc_g722 ! rtpg722pay max-ptime=20000000",
}
CLOCK_RATES = {"opus": 48_000, "PCMU": 8_000, "PCMA": 8_000, "G722": 8_000}

URL, ROOM, _, TOKEN, MODE, CODEC, PEM = sys.argv[1:8]
KIND = "audio" if CODEC in CLOCK_RATES else "video"


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def caps():
    name = CODEC.upper()
    extra = ",encoding-params=(string)2" if CODEC == "opus" else ""
    feedback = ",rtcp-fb-nack-pli=true" if KIND == "video" else ""
    return (
        f"application/x-rtp,media={KIND},encoding-name={name},clock-rate={CLOCK_RATES.get(CODEC, 90_000)},"
        f"payload={PAYLOAD_TYPES[CODEC]}{extra}{feedback}"
    )


# Pictures.


def number_bits(number):
    bits = [number >> (BITS - 1 - i) & 1 for i in range(BITS)]
    return [1, 0, *bits, sum(bits[0::2]) % 2, sum(bits[1::2]) % 2]


def picture(number):
    """I420 with its number in a strip at the top, grey below."""
    row = b"".join((b"\xeb" if bit else b"\x10") * (WIDTH // BLOCKS) for bit in number_bits(number))
    return row * STRIP + b"\x70" * (WIDTH * (HEIGHT - STRIP)) + b"\x80" * (WIDTH * HEIGHT // 2)


def read_number(luma, width, height):
    """As synth.read_number, of a Y plane."""
    start = (height // 20) * width
    row = luma[start : start + width]
    blocks = [row[int(width * (i + 0.5) / BLOCKS)] for i in range(BLOCKS)]
    if blocks[0] - blocks[1] < 100:
        return None
    middle = (blocks[0] + blocks[1]) / 2
    bits = [int(b > middle) for b in blocks[2:]]
    number = sum(bit << (BITS - 1 - i) for i, bit in enumerate(bits[:BITS]))
    return number if number_bits(number)[2:] == bits else None


class Eye:
    def __init__(self):
        self.last, self.pictures, self.backwards, self.unreadable = None, 0, 0, 0

    def sample(self, sink):
        sample = sink.emit("pull-sample")
        shape = sample.get_caps().get_structure(0)
        width, height = shape.get_value("width"), shape.get_value("height")
        number = read_number(sample.get_buffer().extract_dup(0, width * height), width, height)
        if number is None:
            self.unreadable += 1
            return Gst.FlowReturn.OK
        self.pictures += 1
        self.backwards += self.last is not None and ((number - self.last + 0x8000) & 0xFFFF) - 0x8000 < 0
        self.last = number
        if self.pictures == PICTURES:
            say("seen", pictures=self.pictures, backwards=self.backwards, unreadable=self.unreadable)
        return Gst.FlowReturn.OK


class Ear:
    """Frequency by upward zero crossings: the tone is pure."""

    def __init__(self):
        self.samples = []

    def sample(self, sink):
        data = sink.emit("pull-sample").get_buffer()
        heard = memoryview(data.extract_dup(0, data.get_size())).cast("h")
        if max(heard, default=0) > 500:
            self.samples.extend(heard)
        if 0 < len(self.samples) >= 48_000 * (SECONDS_HEARD + 0.5):
            # Without the beginning, where a decoder warms up.
            tail = self.samples[-int(48_000 * SECONDS_HEARD) :]
            rises = [i for i in range(1, len(tail)) if tail[i - 1] < 0 <= tail[i]]
            frequency = (len(rises) - 1) * 48_000 / (rises[-1] - rises[0])
            rms = math.sqrt(sum(s * s for s in tail) / len(tail)) / 32768
            say("heard", frequency=frequency, level=20 * math.log10(rms + 1e-9))
            self.samples = []
            sink.set_property("emit-signals", False)
        return Gst.FlowReturn.OK


# Sessions.


def post(offer):
    path = f"/whip/{ROOM}" if MODE == "publish" else f"/whep/{ROOM}/{sys.argv[8]}"
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/sdp"}
    request = urllib.request.Request(URL + path, offer.encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        location = response.headers["Location"]
        say("ready", id=location.rsplit("/", 1)[1])
        return response.read().decode()


def fingerprint():
    """GStreamer takes that of the whole file, which has the key as well."""
    with open(PEM, encoding="ascii") as file:
        certificate = file.read().partition("-----END CERTIFICATE-----")[0]
    der = base64.b64decode(certificate.partition("-----BEGIN CERTIFICATE-----")[2])
    return ":".join(f"{b:02X}" for b in hashlib.sha256(der).digest())


class Session:
    def __init__(self):
        self.pipeline = Gst.Pipeline.new()
        self.webrtc = Gst.ElementFactory.make("webrtcbin", "webrtc")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.webrtc.set_property("latency", 50)
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("deep-element-added", self.certify)
        if MODE == "publish":
            self.publish()
        else:
            self.webrtc.connect("pad-added", self.play)
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps()))
        self.webrtc.connect("notify::ice-gathering-state", self.on_gathering)
        self.webrtc.connect("on-negotiation-needed", self.on_negotiation)
        self.pipeline.set_state(Gst.State.PLAYING)

    def certify(self, _bin, _sub, element):
        """Before its state changes, the one chance: GStreamer makes itself RSA certificates, which this server does not take
        (docs/reference/interop.md)."""
        if element.get_factory() and element.get_factory().get_name() == "dtlsdec":
            with open(PEM, encoding="ascii") as file:
                element.set_property("pem", file.read())

    def publish(self):
        if KIND == "video":
            raw = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
            head = f"appsrc name=pictures is-live=true do-timestamp=true format=time caps={raw} ! videoconvert"
        else:
            # Amplitude 0.3, as everywhere.
            head = f"audiotestsrc is-live=true wave=sine freq={TONE} volume=0.3 samplesperbuffer=960"
        chain = Gst.parse_bin_from_description(
            f"{head} ! queue ! {ENCODERS[CODEC]} pt={PAYLOAD_TYPES[CODEC]} ! capsfilter caps={caps()}", True
        )
        self.pipeline.add(chain)
        chain.link(self.webrtc)
        line = self.webrtc.emit("get-transceiver", 0)
        line.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        if KIND == "video":
            self.source = chain.get_by_name("pictures")
            GLib.timeout_add(1000 // FPS, self.draw)

    def draw(self):
        number = int(time.time() * FPS) & 0xFFFF
        self.source.emit("push-buffer", Gst.Buffer.new_wrapped(picture(number)))
        return True

    def on_negotiation(self, _webrtc):
        self.webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise):
        promise.wait()
        # The offer lives as long as the reply does.
        reply = promise.get_reply()
        self.webrtc.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def on_gathering(self, *_):
        if self.webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            threading.Thread(target=self.exchange, daemon=True).start()

    def exchange(self):
        offer = self.webrtc.get_property("local-description").sdp.as_text()
        answer = post(re.sub("sha-256 [0-9A-F:]+", f"sha-256 {fingerprint()}", offer))
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.webrtc.emit("set-remote-description", description, Gst.Promise.new())

    def play(self, _webrtc, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        form = "video/x-raw,format=I420" if KIND == "video" else "audio/x-raw,format=S16LE,rate=48000,channels=1"
        convert = "videoconvert" if KIND == "video" else "audioconvert ! audioresample"
        chain = Gst.parse_bin_from_description(
            f"decodebin ! queue ! {convert} ! {form} ! appsink name=end emit-signals=true sync=false", False
        )
        # decodebin's pad comes late: it is linked by the description, its sink is ours to open.
        first = chain.iterate_sorted()
        entry = [e for e in iterate(first) if e.get_factory().get_name() == "decodebin"][0]
        chain.add_pad(Gst.GhostPad.new("sink", entry.get_static_pad("sink")))
        chain.get_by_name("end").connect("new-sample", (Eye() if KIND == "video" else Ear()).sample)
        self.pipeline.add(chain)
        pad.link(chain.get_static_pad("sink"))
        chain.sync_state_with_parent()


def iterate(iterator):
    while True:
        result, value = iterator.next()
        if result != Gst.IteratorResult.OK:
            return
        yield value


def watch(loop):
    sys.stdin.read()
    loop.quit()


Gst.init(None)
session = Session()
loop = GLib.MainLoop()
bus = session.pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message::error", lambda _bus, message: (say("error", text=str(message.parse_error())), loop.quit()))
threading.Thread(target=watch, args=(loop,), daemon=True).start()
loop.run()
session.pipeline.set_state(Gst.State.NULL)
