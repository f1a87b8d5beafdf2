"""Clips, HLS, DASH and images of stored pictures and sound: `kvs_play.py URL ACCESS_KEY SECRET`.

FFmpeg (PyAV) makes H.264 with B-frames and AAC, muxes them to Matroska as to a pipe, PutMedia stores them; then FFmpeg's own
demuxers read them back as MP4, HLS and DASH. Every decoded picture has to be the one that the source decodes to. Says
`{"event": "stored", "hls": url, "dash": url}` for players in browsers, `{"event": "done"}` at the end, and stays until its input ends.
"""

import base64
import io
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone

import av
import numpy
from kvs import Rig, lines, refused, step

RATE, SECONDS, SOUND_RATE = 25, 8, 48_000


class Pipe(io.RawIOBase):
    """What a muxer writes to when it cannot go back: `take` gives what came."""

    def __init__(self):
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += data
        return len(data)

    def take(self) -> bytes:
        taken, self.data = bytes(self.data), bytearray()
        return taken


def picture(n: int) -> av.VideoFrame:
    """A moving square, and the number in stripes that survive encoding."""
    image = numpy.zeros((144, 256, 3), numpy.uint8)
    image[:, :, 2] = 60
    image[n * 3 % 120 : n * 3 % 120 + 24, n * 5 % 220 : n * 5 % 220 + 24] = (255, 200, 0)
    for bit in range(8):
        image[:16, bit * 16 : bit * 16 + 16] = 255 if n >> bit & 1 else 0
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def source(pictures: bool, sound: bool):
    """Pieces of Matroska as FFmpeg writes them, one for each second."""
    pipe = Pipe()
    container = av.open(pipe, "w", format="matroska", options={"cluster_time_limit": "1000"})
    video = audio = None
    if pictures:
        options = {"g": str(RATE), "bf": "2", "preset": "ultrafast", "sc_threshold": "0", "flags": "+cgop"}
        video = container.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt = 256, 144, "yuv420p"
    if sound:
        audio = container.add_stream("aac", rate=SOUND_RATE)
        audio.layout = "stereo"
    at = 0
    for second in range(SECONDS):
        for n in range(second * RATE, (second + 1) * RATE) if video else []:
            frame = picture(n)
            frame.pts = n
            container.mux(video.encode(frame))
        while audio and at < (second + 1) * SOUND_RATE:
            tone = numpy.sin(numpy.arange(at, at + 1024) * 2 * numpy.pi * 440 / SOUND_RATE)
            frame = av.AudioFrame.from_ndarray(numpy.stack([tone, tone]).astype(numpy.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = SOUND_RATE, at
            container.mux(audio.encode(frame))
            at += 1024
        yield pipe.take()
    for stream in filter(None, (video, audio)):
        container.mux(stream.encode(None))
    container.close()
    yield pipe.take()


def decoded(what) -> tuple[list[bytes], int]:
    """Luma of every picture, in the order in which they are shown, and how many samples of sound."""
    pictures, samples = [], 0
    with av.open(what) as container:
        for frame in container.decode(*container.streams.video, *container.streams.audio):
            if isinstance(frame, av.VideoFrame):
                pictures.append(frame.to_ndarray(format="gray")[:144].tobytes())
            else:
                samples += frame.samples
    return pictures, samples


def by_ffmpeg(url: str, pictures: bool = True) -> tuple[list[bytes], int]:
    """The same by FFmpeg's own program: PyAV's build has a DASH demuxer that opens nothing."""

    def run(*args: str) -> bytes:
        return subprocess.run(["ffmpeg", "-v", "error", "-i", url, *args, "-"], capture_output=True, check=True).stdout

    size = 256 * 144
    shown = run("-map", "0:v", "-f", "rawvideo", "-pix_fmt", "gray", "-vsync", "passthrough") if pictures else b""
    heard = run("-map", "0:a", "-f", "s16le", "-ac", "1")
    return [shown[at : at + size] for at in range(0, len(shown), size)], len(heard) // 2


def put(rig: Rig, stream: str, media: list[bytes], start: float) -> list[dict]:
    producer = rig.producer(stream, start)
    for piece in media:
        if piece:
            producer.send(piece)
    producer.end()
    response = producer.response()
    assert response.status == 200, (response.status, response.read())
    acks = lines(response)
    assert not [a for a in acks if a["EventType"] == "ERROR"], acks
    return [a for a in acks if a["EventType"] == "PERSISTED"]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def selector(start: float, seconds: float = SECONDS + 1) -> dict:
    times = {"StartTimestamp": at(start - 0.5), "EndTimestamp": at(start + seconds)}
    return {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": times}


def same(name: str, got: tuple[list[bytes], int], expected: tuple[list[bytes], int]) -> None:
    assert len(got[0]) == len(expected[0]), f"{name}: {len(got[0])} of {len(expected[0])} pictures"
    assert got[0] == expected[0], f"{name}: pictures differ"
    # A decoder may drop the first or last frame of sound at a border.
    assert abs(got[1] - expected[1]) <= 2048, f"{name}: {got[1]} of {expected[1]} samples"


def probe(data: bytes) -> None:
    """FFprobe has nothing to say against it."""
    looked = subprocess.run(["ffprobe", "-v", "warning", "-show_entries", "format=duration", "-of", "csv=p=0", "-"], input=data, capture_output=True)
    assert looked.returncode == 0 and not looked.stderr, looked.stderr
    assert abs(float(looked.stdout) - SECONDS) < 0.3, looked.stdout


def fetch(url: str) -> str:
    return urllib.request.urlopen(url, timeout=10).read().decode()


def stored(rig: Rig) -> None:
    """Pictures with sound, sound alone: clip, HLS, DASH."""
    media = list(source(True, True))
    expected = decoded(io.BytesIO(b"".join(media)))
    assert len(expected[0]) == RATE * SECONDS and expected[1] >= SOUND_RATE * SECONDS
    rig.control.create_stream(StreamName="show", DataRetentionInHours=24, MediaType="video/h264,audio/aac")
    start = round(time.time()) - 60
    acks = put(rig, "show", media, start)
    archived = rig.data("kinesis-video-archived-media", "show", "GET_CLIP")
    clip = archived.get_clip(StreamName="show", ClipFragmentSelector=selector(start))
    assert clip["ContentType"] == "video/mp4"
    data = clip["Payload"].read()
    probe(data)
    same("clip", decoded(io.BytesIO(data)), expected)
    step(f"GetClip: {len(acks)} fragments, {len(expected[0])} pictures as the source has them")
    hls = archived.get_hls_streaming_session_url(StreamName="show", PlaybackMode="ON_DEMAND", HLSFragmentSelector=selector(start), DiscontinuityMode="NEVER")
    same("HLS", decoded(hls["HLSStreamingSessionURL"]), expected)
    dash = archived.get_dash_streaming_session_url(StreamName="show", PlaybackMode="ON_DEMAND", DASHFragmentSelector=selector(start))
    same("DASH", by_ffmpeg(dash["DASHStreamingSessionURL"]), expected)
    print(json.dumps({"event": "stored", "hls": hls["HLSStreamingSessionURL"], "dash": dash["DASHStreamingSessionURL"]}), flush=True)
    step("HLS and DASH on demand: the same pictures")
    replay = archived.get_hls_streaming_session_url(StreamName="show", PlaybackMode="LIVE_REPLAY", HLSFragmentSelector=selector(start))
    master = fetch(replay["HLSStreamingSessionURL"])
    assert "avc1." in master and "mp4a.40.2" in master and "RESOLUTION=256x144" in master, master
    sound = list(source(False, True))
    expected = decoded(io.BytesIO(b"".join(sound)))
    rig.control.create_stream(StreamName="sound", DataRetentionInHours=24)
    put(rig, "sound", sound, start)
    hls = archived.get_hls_streaming_session_url(StreamName="sound", PlaybackMode="ON_DEMAND", HLSFragmentSelector=selector(start))
    same("HLS sound", decoded(hls["HLSStreamingSessionURL"]), expected)
    dash = archived.get_dash_streaming_session_url(StreamName="sound", PlaybackMode="ON_DEMAND", DASHFragmentSelector=selector(start))
    same("DASH sound", by_ffmpeg(dash["DASHStreamingSessionURL"], pictures=False), expected)
    refused("UnsupportedStreamMediaTypeException", 400, archived.get_clip, StreamName="sound", ClipFragmentSelector=selector(start))
    step("sound alone: HLS and DASH")


def number(image: bytes) -> tuple[int, tuple[int, int]]:
    """What the stripes of an image file say, and its size."""
    with av.open(io.BytesIO(image)) as container:
        frame = next(container.decode(video=0))
    rows = frame.to_ndarray(format="gray")
    scale = frame.width / 256
    row = int(8 * frame.height / 144)
    bits = [bool(rows[row, int((bit * 16 + 8) * scale)] > 127) for bit in range(8)]
    return sum(on << bit for bit, on in enumerate(bits)), (frame.width, frame.height)


def encoded(codec: str, options: dict) -> list[bytes]:
    """Three seconds of the same pictures in another codec, in one Matroska document."""
    pipe = Pipe()
    container = av.open(pipe, "w", format="matroska", options={"cluster_time_limit": "1000"})
    video = container.add_stream(codec, rate=RATE, options={"g": str(RATE), **options})
    video.width, video.height, video.pix_fmt = 256, 144, "yuv420p"
    for n in range(3 * RATE):
        frame = picture(n)
        frame.pts = n
        container.mux(video.encode(frame))
    container.mux(video.encode(None))
    container.close()
    return [pipe.take()]


def numbers(archived, stream: str, start: float, seconds: float, step_ms: int, **options) -> list:
    """The numbers of the pictures of each step, by the middle of a frame; pages of four."""
    wanted = {"ImageSelectorType": "PRODUCER_TIMESTAMP", "Format": "PNG", "SamplingInterval": step_ms, "MaxResults": 4}
    wanted |= {"StartTimestamp": at(start + 0.02), "EndTimestamp": at(start + seconds)} | options
    seen, token = [], {}
    while True:
        page = archived.get_images(StreamName=stream, **wanted, **token)
        assert 1 <= len(page["Images"]) <= 4
        for image in page["Images"]:
            content = image.get("ImageContent")
            seen.append(number(base64.b64decode(content))[0] if content else image["Error"])
        if "NextToken" not in page:
            return seen
        token = {"NextToken": page["NextToken"]}


def images(rig: Rig) -> None:
    """GetImages: each step has the picture that is shown then, in all codecs that are decoded here."""
    start = round(time.time()) - 60
    archived = rig.data("kinesis-video-archived-media", "show", "GET_IMAGES")
    rig.control.create_stream(StreamName="plain", DataRetentionInHours=24)
    put(rig, "plain", encoded("libx264", {"bf": "0", "preset": "ultrafast"}), start)
    assert numbers(archived, "plain", start, 2.9, 200) == list(range(0, 73, 5))
    one = {"ImageSelectorType": "PRODUCER_TIMESTAMP", "StartTimestamp": at(start + 1.02), "EndTimestamp": at(start + 1.5)}
    for shape, size in (({}, (256, 144)), ({"HeightPixels": 72}, (128, 72)), ({"WidthPixels": 100, "HeightPixels": 90}, (100, 90))):
        page = archived.get_images(StreamName="plain", Format="JPEG", FormatConfig={"JPEGQuality": "90"}, **one, **shape)
        [image] = page["Images"]
        assert image["TimeStamp"] == at(start + 1.02), image["TimeStamp"]
        file = base64.b64decode(image["ImageContent"])
        assert file[:3] == b"\xff\xd8\xff" and number(file) == (25, size), number(file)
    # Pictures that are sent in another order than they are shown in: OpenH264 gives up on some. None is another one's.
    rig.control.create_stream(StreamName="order", DataRetentionInHours=24)
    put(rig, "order", encoded("libx264", {"bf": "2", "preset": "ultrafast", "sc_threshold": "0", "flags": "+cgop"}), start)
    reordered = numbers(archived, "order", start, 2.9, 200)
    assert all(seen in (n, "MEDIA_ERROR") for seen, n in zip(reordered, range(0, 73, 5), strict=True)), reordered
    kinds, wrong = ["H.264"], {}
    for name, codec, options in (
        ("vp8", "libvpx", {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0", "b": "1M"}),
        ("vp9", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "1M"}),
        ("av1", "libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1"}),
    ):
        if codec not in av.codecs_available:
            continue
        rig.control.create_stream(StreamName=name, DataRetentionInHours=24)
        put(rig, name, encoded(codec, options), start)
        # The last second of SVT-AV1 is what it flushes.
        seen = numbers(archived, name, start, 1.9, 400)
        if seen != list(range(0, 48, 10)):
            wrong[name] = seen
        kinds.append(name)
    assert not wrong, wrong
    assert numbers(archived, "sound", start, 0.5, 200) == ["MEDIA_ERROR"] * 3
    assert numbers(archived, "plain", start + 20, 0.5, 200) == ["NO_MEDIA"] * 3
    for wrong in ({"WidthPixels": 10}, {"SamplingInterval": 100}, {"EndTimestamp": at(start + 400)}):
        refused("InvalidArgumentException", 400, archived.get_images, StreamName="plain", Format="PNG", **one | wrong)
    refused("NoDataRetentionException", 400, archived.get_images, StreamName="nothing-kept", Format="PNG", **one)
    refused("ResourceNotFoundException", 404, archived.get_images, StreamName="nobody", Format="PNG", **one)
    step(f"GetImages: {', '.join(kinds)}")


def refusals(rig: Rig) -> None:
    archived = rig.data("kinesis-video-archived-media", "show", "GET_CLIP")
    long_ago = selector(time.time() - 7200)
    refused("ResourceNotFoundException", 404, archived.get_clip, StreamName="show", ClipFragmentSelector=long_ago)
    refused("ResourceNotFoundException", 404, archived.get_hls_streaming_session_url, StreamName="nobody")
    refused("ResourceNotFoundException", 404, archived.get_dash_streaming_session_url, StreamName="show", PlaybackMode="ON_DEMAND", DASHFragmentSelector=long_ago)
    for wrong in ({"PlaybackMode": "ON_DEMAND"}, {"ContainerFormat": "MPEG_TS"}):
        refused("InvalidArgumentException", 400, archived.get_hls_streaming_session_url, StreamName="show", **wrong)
    rig.control.create_stream(StreamName="nothing-kept")
    refused("NoDataRetentionException", 400, archived.get_hls_streaming_session_url, StreamName="nothing-kept")
    try:
        fetch(f"{rig.url}/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken=made-up")
    except urllib.error.HTTPError as e:
        assert e.code == 403, e
    else:
        raise AssertionError("a made-up token was taken")
    step("refusals by name")


class Live:
    """A producer that sends a second of media each second, with no end."""

    def __init__(self, rig: Rig, stream: str):
        rig.control.create_stream(StreamName=stream, DataRetentionInHours=24)
        self.stop = threading.Event()
        self.start = time.time()
        self.producer = rig.producer(stream, self.start)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        *media, _ = source(True, False)
        # One document: what follows the first eight seconds has later times, of another producer.
        for second, piece in enumerate(media):
            if self.stop.wait(max(0.0, self.start + second - time.time())):
                break
            if piece:
                self.producer.send(piece)
        self.producer.end()
        self.acks = self.producer.response().read()


def live(rig: Rig) -> None:
    """The playlist of a live session moves on, and keeps its numbers."""
    producer = Live(rig, "now")
    archived = rig.data("kinesis-video-archived-media", "now", "GET_HLS_STREAMING_SESSION_URL")
    url, seen = None, []
    deadline = time.time() + SECONDS + 5
    while time.time() < deadline and len(seen) < 4:
        try:
            url = url or archived.get_hls_streaming_session_url(StreamName="now", MaxMediaPlaylistFragmentResults=3)["HLSStreamingSessionURL"]
        except archived.exceptions.ResourceNotFoundException:
            time.sleep(0.1)  # Nothing is stored yet.
            continue
        base = url.rsplit("/", 1)[0]
        playlist = fetch(f"{base}/{fetch(url).splitlines()[-1]}")
        assert "#EXT-X-ENDLIST" not in playlist
        if not seen or playlist != seen[-1]:
            seen.append(playlist)
        time.sleep(0.1)
    producer.stop.set()
    producer.thread.join()
    assert len(seen) >= 4, f"the playlist changed {len(seen)} times"
    numbered: dict[str, int] = {}
    for playlist in seen:
        lines = playlist.splitlines()
        first = int(next(line for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE")).split(":")[1])
        fragments = [line for line in lines if line.startswith("getMP4MediaFragment")]
        assert 1 <= len(fragments) <= 3, playlist
        for i, fragment in enumerate(fragments):
            assert numbered.setdefault(fragment, first + i) == first + i, "a fragment changed its number"
    step(f"HLS live: {len(seen)} playlists, {len(numbered)} fragments, each with one number")


def main() -> None:
    rig = Rig(*sys.argv[1:4])
    stored(rig)
    refusals(rig)
    images(rig)
    live(rig)
    print(json.dumps({"event": "done"}), flush=True)
    sys.stdin.read()  # The server, and with it the sessions, stay until we are told to end.


if __name__ == "__main__":
    main()
