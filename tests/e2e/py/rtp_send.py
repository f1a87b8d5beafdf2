"""Sends one codec as RTP to a UDP port of this machine, as it would come from a camera: for stacks that encode nothing
themselves. `rtp_send.py CODEC PORT`, until its standard input ends."""

import sys
import threading
import time

import av
from media import CODECS, FPS, Tone, picture, set_up


def main() -> None:
    codec, port = CODECS[sys.argv[1]], int(sys.argv[2])
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    options = {"payload_type": "96", "strict": "experimental"}
    out = av.open(f"rtp://127.0.0.1:{port}?pkt_size=1100", "w", format="rtp", options=options)
    stream = out.add_stream(codec.encoder, rate=FPS if codec.video else codec.rate)
    set_up(stream, codec)
    if sys.argv[1] == "VP9":
        # FFmpeg says in RTP of every VP9 picture that it depends on none: then none does.
        stream.codec_context.gop_size = 0
    tone = Tone(codec)
    per_second = FPS if codec.video else 50
    begin, n = time.monotonic(), 0
    while not ended.wait(max(0.0, begin + n / per_second - time.monotonic())):
        for packet in stream.encode(picture(int(time.time() * FPS) & 0xFFFF) if codec.video else tone.frame(n)):
            out.mux(packet)
        n += 1


main()
