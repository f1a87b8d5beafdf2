"""FFmpeg and curl as producer, FFprobe and MKVToolNix as validators: `kvs_tools.py URL ACCESS_KEY SECRET DOCUMENTS`.

FFmpeg writes PCM as Matroska to a pipe, curl sends that pipe signed by itself (`--aws-sigv4`); the PCM that FFmpeg takes out of
GetMedia's response has to be the one that went in, bit by bit, and so many of its documents (0: all) have to be ones for mkvinfo and
mkvmerge. Ten minutes of media: nothing has to be sent in real time, because a producer says what its times are.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from kvs import Producer, Rig, cluster, element, elements, header, lines, refused, step

SECONDS, RATE = 600, 8000


def run(*command: str, **more) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, **more)
    assert done.returncode == 0, (command, done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done


def produce(rig: Rig, pcm: bytes, copy: Path) -> list[dict]:
    """`ffmpeg | tee COPY | curl`; gives the acknowledgements."""
    raw = ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    out = ["-c:a", "pcm_s16le", "-f", "matroska", "-cluster_time_limit", "1000", "-live", "1", "-"]
    ffmpeg = subprocess.Popen(["ffmpeg", "-v", "error", *raw, *out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tee = subprocess.Popen(["tee", str(copy)], stdin=ffmpeg.stdout, stdout=subprocess.PIPE)
    curl = rig.curl("tools", time.time() - SECONDS - 60, "RELATIVE", "--fail-with-body", "-T", "-")
    sent = subprocess.Popen(curl, stdin=tee.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Each pipe's reading end is that of its reader alone: if it ends, the writer shall notice.
    ffmpeg.stdout.close()
    tee.stdout.close()
    # Beside reading curl's answer: more acknowledgements come than a pipe holds.
    feeding = threading.Thread(target=feed, args=(ffmpeg.stdin, pcm), daemon=True)
    feeding.start()
    answer, errors = sent.communicate(timeout=120)
    feeding.join()
    assert ffmpeg.wait() == tee.wait() == sent.returncode == 0, (answer, errors)
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


def frames(data: bytes) -> int:
    """SimpleBlocks and Blocks of what was sent."""
    return sum(ident in (0xA3, 0xA1) for ident, _ in elements(data))


def validate(body: bytes, pcm: bytes, sent: int, most: int) -> int:
    """As many frames have to come back as were sent."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.mkv"
        whole.write_bytes(body)
        show = ["-show_entries", "stream=codec_name,sample_rate,channels,nb_read_packets", "-of", "csv=p=0", "-count_packets"]
        probed = run("ffprobe", "-v", "error", *show, str(whole)).stdout.decode().strip()
        assert probed == f"pcm_s16le,{RATE},1,{sent}", (probed, sent)
        heard = run("ffmpeg", "-v", "error", "-i", str(whole), "-f", "s16le", "-c:a", "copy", "-").stdout
        assert heard == pcm, f"{len(heard)} of {len(pcm)} bytes"
        all_documents = documents(body)
        # The first, the last, and some between.
        last = len(all_documents) - 1
        looked_at = {last * i // (most - 1) for i in range(most)} if most else range(last + 1)
        for i in sorted(looked_at):
            path = Path(folder) / f"{i}.mkv"
            path.write_bytes(all_documents[i])
            run("mkvinfo", str(path))
            run("mkvmerge", "-q", "-o", str(Path(folder) / "merged.mkv"), str(path))
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
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "sent.mkv"
        acks = produce(rig, pcm, copy)
        took = time.monotonic() - began
        sent = frames(copy.read_bytes())
    assert sent >= SECONDS, sent
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
    count = validate(body, pcm, sent, most)
    assert count == len(persisted), (count, len(persisted))
    step(f"ffprobe, ffmpeg: {sent} frames and PCM of {count} documents identical; mkvinfo, mkvmerge: {most or count} of them")
    faults(rig)
    bombs(rig)
    no_acks(rig)
    refused("InvalidArgumentException", 400, media.get_media, StreamName="tools", StartSelector={"StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": "x"})
    print(json.dumps({"event": "done", "fragments": count, "took_s": round(took, 1)}), flush=True)


if __name__ == "__main__":
    main()
