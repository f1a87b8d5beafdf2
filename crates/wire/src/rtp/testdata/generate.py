"""Makes the golden packets beside this file with foreign implementations: aiortc (VP8, H.264, Opus) and FFmpeg's
RTP muxer (VP9, AV1), by `pip install aiortc numpy` in a virtual environment. Each file: `au <hex>` is an access unit as
the encoder gave it, `rtp <hex>` a packet of it. Run by hand; tests read the files."""

import fractions, socket, sys
import av, numpy
from aiortc import codecs
from aiortc.codecs import h264, vpx, opus
from aiortc.rtp import RtpPacket

def picture(n, width=64, height=48):
    y, x = numpy.mgrid[0:height, 0:width]
    rgb = numpy.stack([(x * 4 + n * 40) % 256, (y * 5) % 256, (x * y + n * 90) % 256], -1).astype("uint8")
    f = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    f.pts, f.time_base = n * 3000, fractions.Fraction(1, 90000)
    return f

def write(name, lines):
    with open(name, "w") as out:
        out.write("\n".join(f"{k} {v.hex()}" for k, v in lines) + "\n")
    print(name, len(lines), sum(len(v) for _, v in lines), av.__version__)

def rtp(pt, seq, time, marker, payload):
    p = RtpPacket(payload_type=pt, marker=marker, sequence_number=seq & 0xffff, timestamp=time, ssrc=0x1234)
    p.payload = payload
    return p.serialize()

def aiortc_video(name, encoder, frames, depay):
    lines, seq = [], 65530
    for n in range(frames):
        payloads, ts = encoder.encode(picture(n), force_keyframe=n == 0)
        lines.append(("au", b"".join(depay(p) for p in payloads)))
        for i, p in enumerate(payloads):
            lines.append(("rtp", rtp(97, seq, ts, int(i == len(payloads) - 1), p)))
            seq += 1
    write(name, lines)

def ffmpeg(name, codec, options, frames, size, annex=None):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(0.3)
    out = av.open(f"rtp://127.0.0.1:{sock.getsockname()[1]}?pkt_size={size}", "w", format="rtp", options={"strict": "experimental"})
    st = out.add_stream(codec, rate=30)
    st.width, st.height, st.pix_fmt, st.options = 64, 48, "yuv420p", options
    lines = []
    def drain():
        while True:
            try:
                d = sock.recv(4000)
            except TimeoutError:
                return
            if d[1] not in (200, 202, 203):
                lines.append(("rtp", d))
    def send(packets):
        for p in packets:
            lines.append(("au", bytes(p)))
            out.mux(p)
            drain()
    for n in range(frames):
        f = picture(n)
        f.pts, f.time_base = n, fractions.Fraction(1, 30)
        send(st.encode(f))
    send(st.encode())
    out.close()
    write(name, lines)

def run(what):
    if what == "vp8":
        aiortc_video("vp8.txt", vpx.Vp8Encoder(), 3, lambda p: codecs.depayload(codecs.CODECS["video"][0], p))
    if what == "h264":
        aiortc_video("h264.txt", h264.H264Encoder(), 2, lambda p: h264.H264PayloadDescriptor.parse(p)[1])
    if what == "opus":
        enc, lines = opus.OpusEncoder(), []
        for n in range(3):
            t = (numpy.arange(960) + 960 * n) / 48000
            s = (numpy.sin(t * 2 * numpy.pi * 440) * 8000).astype("int16")
            f = av.AudioFrame.from_ndarray(numpy.repeat(s, 2)[None, :], format="s16", layout="stereo")
            f.sample_rate, f.pts, f.time_base = 48000, n * 960, fractions.Fraction(1, 48000)
            for p in enc.encode(f)[0]:
                lines += [("au", p), ("rtp", rtp(96, n, n * 960, 0, p))]
        write("opus.txt", lines)
    if what == "vp9":
        ffmpeg("vp9.txt", "libvpx-vp9", {"deadline": "realtime", "lag-in-frames": "0", "b": "200k"}, 2, 300)
    if what == "av1":
        ffmpeg("av1.txt", "libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:lp=1"}, 2, 300)
    if what == "ffh264":
        ffmpeg("h264_ffmpeg.txt", "libx264", {"profile": "high", "tune": "zerolatency", "x264-params": "slices=2"}, 2, 300)

for what in sys.argv[1:]:
    run(what)
