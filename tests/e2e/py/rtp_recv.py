"""What FFmpeg makes of RTP that comes to a UDP port: for stacks that decode nothing themselves. `rtp_recv.py CODEC PT` says which
port it listens on, then `heard` or `seen`."""

import io
import socket
import sys

import av
import numpy as np
import synth
from media import CODECS
from program import say

PICTURES, FRAMES = 20, 75


def free_port() -> int:
    """An even one whose neighbour is free, too: FFmpeg takes both."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp:
            rtp.bind(("127.0.0.1", 0))
            port: int = rtp.getsockname()[1]
            try:
                rtcp.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            if port % 2 == 0:
                return port


def main() -> None:
    codec, payload_type = CODECS[sys.argv[1]], sys.argv[2]
    port = free_port()
    kind = "video" if codec.video else "audio"
    sdp = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm={kind} {port} RTP/AVP {payload_type}\r\n"
    sdp += f"a=rtpmap:{payload_type} {codec.rtpmap}\r\n"
    if codec.fmtp:
        sdp += f"a=fmtp:{payload_type} {codec.fmtp}\r\n"
    say("listening", port=port)
    options = {"protocol_whitelist": "udp,rtp,file", "analyzeduration": "0", "reorder_queue_size": "0"}
    with av.open(io.BytesIO(sdp.encode()), format="sdp", options=options) as source:
        if codec.video:
            look(source)
        else:
            listen(source)


def look(source: av.container.InputContainer) -> None:
    last, pictures, backwards, unreadable = None, 0, 0, 0
    for packet in source.demux(video=0):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            # Until the first key frame.
            continue
        for frame in frames:
            number = synth.read_number(frame.to_ndarray(format="rgb24"))
            if number is None:
                unreadable += 1
                continue
            pictures += 1
            backwards += last is not None and ((number - last + 0x8000) & 0xFFFF) - 0x8000 < 0
            last = number
        if pictures >= PICTURES:
            break
    say("seen", pictures=pictures, backwards=backwards, unreadable=unreadable)


def listen(source: av.container.InputContainer) -> None:
    heard: list[np.ndarray] = []
    for frame in source.decode(audio=0):
        samples = frame.to_ndarray()
        channels = len(frame.layout.channels)
        first = samples[0] if frame.format.is_planar else samples.reshape(-1, channels)[:, 0]
        scale = 32768 if samples.dtype.kind == "f" else 1
        first = (first * scale).astype(np.int16)
        if np.abs(first).max() > 500:
            heard.append(first)
        if len(heard) >= FRAMES:
            break
    frequency, level = synth.loudest(np.concatenate(heard[-50:]), frame.sample_rate)
    say("heard", frequency=frequency, level=level)


main()
