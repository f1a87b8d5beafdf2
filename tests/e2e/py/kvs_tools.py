"""FFmpeg and curl as producer, FFprobe and MKVToolNix as validators: `kvs_tools.py URL ACCESS_KEY SECRET DOCUMENTS`.

FFmpeg writes PCM as Matroska to a pipe, curl sends that pipe signed by itself (`--aws-sigv4`); the PCM that FFmpeg takes out of
GetMedia's response has to be the one that went in, bit by bit, and so many of its documents (0: all) have to be ones for mkvinfo and
mkvmerge. Ten minutes of media: nothing has to be sent in real time, because a producer says what its times are.
"""

import json
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from kvs import Producer, Rig, cluster, element, header, lines, refused, step

SECONDS, RATE = 600, 8000
RAW = ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
MATROSKA = ["-c:a", "pcm_s16le", "-f", "matroska", "-cluster_time_limit", "1000", "-live", "1"]


def run(*command: str, **more) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, **more)
    assert done.returncode == 0, (command, done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done


def produce(rig: Rig, pcm: bytes) -> list[dict]:
    """`ffmpeg | curl`; gives the acknowledgements."""
    ffmpeg = subprocess.Popen(["ffmpeg", "-v", "error", *RAW, *MATROSKA, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    curl = rig.curl("tools", time.time() - SECONDS - 60, "RELATIVE", "--fail-with-body", "-T", "-")
    sent = subprocess.Popen(curl, stdin=ffmpeg.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # The reading end is curl's alone: if it ends, FFmpeg shall notice.
    ffmpeg.stdout.close()
    # Beside reading curl's answer: more acknowledgements come than a pipe holds.
    feeding = threading.Thread(target=feed, args=(ffmpeg.stdin, pcm), daemon=True)
    feeding.start()
    answer, errors = sent.communicate(timeout=120)
    feeding.join()
    assert ffmpeg.wait() == 0 and sent.returncode == 0, (answer, errors)
    return [json.loads(line) for line in answer.splitlines()]


def feed(pipe, pcm: bytes) -> None:
    pipe.write(pcm)
    pipe.close()


def documents(body: bytes) -> list[bytes]:
    """The concatenated documents; random PCM could contain the magic, so the seed is one with which it does not."""
    magic = b"\x1a\x45\xdf\xa3"
    parts = body.split(magic)
    assert not parts[0]
    return [magic + part for part in parts[1:]]


def packets(pcm: bytes, folder: str, show: list[str]) -> int:
    """How many FFprobe counts in what FFmpeg had sent."""
    sent = Path(folder) / "sent.mkv"
    run("ffmpeg", "-v", "error", *RAW, *MATROSKA, str(sent), input=pcm)
    count = int(run("ffprobe", "-v", "error", *show, str(sent)).stdout.decode().strip().rsplit(",", 1)[1])
    assert count >= SECONDS
    return count


def looked_at(document: bytes) -> None:
    """A document that MKVToolNix takes as it is, without a warning."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "document.mkv"
        path.write_bytes(document)
        for command in (["mkvinfo"], ["mkvmerge", "-q", "-o", str(Path(folder) / "merged.mkv")]):
            said = run(*command, str(path)).stdout.decode(errors="replace")
            assert "warning" not in said.lower() and "error" not in said.lower(), said


def validate(body: bytes, pcm: bytes, most: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.mkv"
        whole.write_bytes(body)
        show = ["-show_entries", "stream=codec_name,sample_rate,channels,nb_read_packets", "-of", "csv=p=0", "-count_packets"]
        probed = run("ffprobe", "-v", "error", *show, str(whole)).stdout.decode().strip()
        assert probed == f"pcm_s16le,{RATE},1,{packets(pcm, folder, show)}", probed
        heard = run("ffmpeg", "-v", "error", "-i", str(whole), "-f", "s16le", "-c:a", "copy", "-").stdout
        assert heard == pcm, f"{len(heard)} of {len(pcm)} bytes"
        all_documents = documents(body)
        # The first, the last, and some between.
        last = len(all_documents) - 1
        chosen = {last * i // (most - 1) for i in range(most)} if most else range(last + 1)
        for i in sorted(chosen):
            looked_at(all_documents[i])
    return len(all_documents)


FAULTS = {
    "MAX_FRAGMENT_SIZE_REACHED": (4001, lambda h, t: h + b"\x1f\x43\xb6\x75" + (60_000_000 | 1 << 28).to_bytes(4, "big") + bytes(64)),
    "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS": (4004, lambda h, t: h + cluster(t, bytes(1024)) + cluster(t - 1000, bytes(1024))),
    "INVALID_MKV_DATA": (4006, lambda h, t: h + element(b"\x1f\x43\xb6\x75", b"\xff" * 9)),
    "INVALID_PRODUCER_TIMESTAMP": (4007, lambda h, t: h + cluster(1 << 60, bytes(1024))),
    "FRAGMENT_METADATA_LIMIT_REACHED": (4009, lambda h, t: header("x" * 5000) + cluster(t, bytes(1024))),
    "TRACK_NUMBER_MISMATCH": (4010, lambda h, t: h + cluster(t, b"") + element(b"\xa3", b"\x85\x00\x00\x80" + bytes(16))),
    "MORE_THAN_ALLOWED_TRACKS_FOUND": (4012, lambda h, t: many_tracks() + cluster(t, bytes(1024))),
}


def many_tracks() -> bytes:
    head = header("c")
    at = head.index(b"\x16\x54\xae\x6b")
    entry = lambda n: element(b"\xae", element(b"\xd7", bytes([n])) + element(b"\x83", b"\x02") + element(b"\x86", b"A_PCM/INT/LIT"))
    return head[:at] + element(b"\x16\x54\xae\x6b", b"".join(entry(n) for n in range(1, 5)))


def faults(rig: Rig) -> None:
    """Each error that a producer can cause, by what causes it."""
    rig.control.create_stream(StreamName="faults", DataRetentionInHours=1)
    now = int(time.time() * 1000)
    for code, (ident, body) in FAULTS.items():
        producer = rig.producer("faults")
        data = body(header("c"), now)
        try:
            producer.send(data)
            producer.end()
        except OSError:
            pass  # It was refused before it was all there.
        acks = lines(producer.response())
        # PERSISTED of what came before may follow.
        errors = [(a["ErrorId"], a["ErrorCode"]) for a in acks if a["EventType"] == "ERROR"]
        assert errors == [(ident, code)], (code, acks)
    step(f"{len(FAULTS)} error ids of PutMedia, each by a document that has it")


def nested(idents: bytes, ident: bytes, depth: int) -> bytes:
    """Elements one within another, below some others."""
    each = len(ident) + 4
    inner = b"".join(ident + ((depth - 1 - i) * each | 1 << 28).to_bytes(4, "big") for i in range(depth))
    return element(idents, inner)


def bombs(rig: Rig) -> None:
    """Elements within elements, thousands deep, and hundreds of thousands of empty ones: answered at once, and nobody else notices."""
    now, head, start = int(time.time() * 1000), header("c"), time.monotonic()
    info = head.index(b"\x15\x49\xa9\x66")
    documents = {
        "tags": head[:info] + nested(b"\x12\x54\xc3\x67", b"\x67\xc8", 20_000) + head[info:] + cluster(now, bytes(1024)),
        "tracks": head[:info] + nested(b"\x16\x54\xae\x6b", b"\xae", 20_000) + head[info:] + cluster(now, bytes(1024)),
        "blocks": head + cluster(now, bytes(1024)) + nested(b"\xa0", b"\xa0", 20_000),
        "clusters": head + element(b"\x1f\x43\xb6\x75", b"\xe7\x81\x00" + nested(b"\x1f\x43\xb6\x75", b"\x1f\x43\xb6\x75", 20_000)),
        "unknown": head + b"\x1f\x43\xb6\x75\x01" * 20_000,
        "void": head[:info] + b"\xec\x80" * 500_000 + head[info:],
    }
    for name, data in documents.items():
        producer = rig.producer("faults")
        try:
            producer.send(data)
            producer.end()
        except OSError:
            pass  # It was refused before it was all there.
        said = {a["EventType"] for a in lines(producer.response())}
        print(json.dumps({"event": "bomb", "name": name, "said": sorted(said)}), flush=True)
    assert time.monotonic() - start < 30, f"{time.monotonic() - start:.1f} s"
    producer = rig.producer("faults")
    producer.send(head + cluster(now + 5000, bytes(1024)))
    producer.end()
    assert [a["EventType"] for a in lines(producer.response())] == ["BUFFERING", "RECEIVED", "PERSISTED"]
    step(f"{len(documents)} documents that are nested, or many, beyond measure")


def shapes(rig: Rig) -> None:
    """Shapes that real producers send (kvs.md, 7.7): each is stored, and read back byte by byte."""
    now, voices = int(time.time() * 1000), header("c", 2)
    tracks = voices.index(b"\x16\x54\xae\x6b"), voices.index(b"\x12\x54\xc3\x67")
    one, two = (bytes([0xD7]) + struct.pack(">I", 1 | 1 << 28) + bytes([number]) for number in (1, 2))
    entries = voices[tracks[0] : tracks[1]]
    swapped = voices[: tracks[0]] + entries.replace(one, b"*" * 6).replace(two, one).replace(b"*" * 6, two) + voices[tracks[1] :]
    block = lambda number, pcm, at=0: element(b"\xa3", bytes([0x80 | number]) + struct.pack(">h", at) + b"\x80" + pcm)
    voice = [random.Random(7 + i).randbytes(1024) for i in range(4)]
    tag = voices[tracks[1] :]
    known = {
        "swapped tracks": (swapped, block(1, voice[0]) + block(2, voice[1]) + block(1, voice[2], 64) + block(2, voice[3], 64)),
        "a short block": (header("c"), block(1, voice[0]) + block(1, voice[1][:10], 64)),
        "an empty block": (header("c"), block(1, voice[0]) + block(1, b"", 64) + block(1, voice[1], 64)),
        "tags behind the cluster": (header("c"), block(1, voice[0]) + tag),
        "no tags at all": (voices[: tracks[1]], block(1, voice[0]) + block(2, voice[1])),
        "the magic of EBML in its sound": (header("c"), block(1, b"\x1a\x45\xdf\xa3" * 256)),
    }
    for i, (name, (head, content)) in enumerate(known.items()):
        stream = f"shape-{i}"
        rig.control.create_stream(StreamName=stream, DataRetentionInHours=1)
        producer = rig.producer(stream)
        producer.send(head + cluster(now, b"") + content)
        producer.end()
        acks = [a["EventType"] for a in lines(producer.response())]
        assert acks == ["BUFFERING", "RECEIVED", "PERSISTED"], (name, acks)
        media = rig.data("kinesis-video-media", stream, "GET_MEDIA")
        body = media.get_media(StreamName=stream, StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read()
        blocks = content.removesuffix(tag)
        names = head[tracks[0] : head.find(b"\x12\x54\xc3\x67") if b"\x12\x54\xc3\x67" in head else len(head)]
        assert blocks in body and names in body, name
    step(f"{len(known)} shapes of what producers send, each as it came")


def no_acks(rig: Rig) -> None:
    """A producer that wants no acknowledgements gets none."""
    producer = Producer(rig.url, rig.key, rig.secret, "faults", more={"x-amzn-fragment-acknowledgment-required": "0"})
    producer.send(header("c") + cluster(int(time.time() * 1000), bytes(1024)))
    producer.end()
    assert producer.response().read() == b""
    step("no acknowledgements for who wants none")


def main() -> None:
    rig, most = Rig(*sys.argv[1:4]), int(sys.argv[4])
    pcm = random.Random(4).randbytes(SECONDS * RATE * 2)
    rig.control.create_stream(StreamName="tools", DataRetentionInHours=24)
    began = time.monotonic()
    acks = produce(rig, pcm)
    took = time.monotonic() - began
    kinds = [a["EventType"] for a in acks]
    persisted = [a for a in acks if a["EventType"] == "PERSISTED"]
    assert kinds.count("BUFFERING") == len(persisted) >= SECONDS, kinds
    times = [a["FragmentTimecode"] for a in persisted]
    assert times == sorted(set(times)) and times[-1] > (SECONDS - 2) * 1000, times[-3:]
    numbers = [int(a["FragmentNumber"]) for a in persisted]
    assert numbers == sorted(set(numbers))
    step(f"ffmpeg | curl: {len(persisted)} fragments of {SECONDS} s acknowledged in {took:.1f} s")
    media = rig.data("kinesis-video-media", "tools", "GET_MEDIA")
    body = media.get_media(StreamName="tools", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read()
    count = validate(body, pcm, most)
    assert count == len(persisted), (count, len(persisted))
    step(f"ffprobe, ffmpeg: PCM of {count} documents identical; mkvinfo, mkvmerge: {most or count} of them")
    faults(rig)
    bombs(rig)
    shapes(rig)
    no_acks(rig)
    refused("InvalidArgumentException", 400, media.get_media, StreamName="tools", StartSelector={"StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": "x"})
    print(json.dumps({"event": "done", "fragments": count, "took_s": round(took, 1)}), flush=True)


if __name__ == "__main__":
    main()
