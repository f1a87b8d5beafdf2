"""Reads a streamed contact with boto3, live from its start fragment and then from the archive:
`contact.py URL ACCESS_KEY SECRET STREAM_ARN START_FRAGMENT HERTZ`.

Prints `{"event": "tone", "count": N}` while it reads: tenths of a second with that tone; `{"event": "heard", ...}` when the live response has ended, and
`{"event": "done"}` when everything that the archive gives is the same, and PyAV decodes it.
"""

import array
import io
import json
import math
import sys

import av
from kvs import Rig, parse

RATE = 8000
TENTH = RATE // 10


def say(event: str, **fields) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def tenths(pcm: bytes) -> list[int]:
    """Of each tenth of a second the frequency by rising zero crossings, 0 for silence."""
    samples, heard = array.array("h", pcm), []
    for at in range(0, len(samples) - TENTH + 1, TENTH):
        chunk = samples[at : at + TENTH]
        if math.sqrt(sum(s * s for s in chunk) / TENTH) < 300:
            heard.append(0)
            continue
        rising = [i for i in range(1, TENTH) if chunk[i - 1] < 0 <= chunk[i]]
        heard.append(round((len(rising) - 1) * RATE / (rising[-1] - rising[0])) if len(rising) > 1 else 1)
    return heard


def whole(data: bytearray) -> tuple[list[dict], bytes] | None:
    """What has come so far, unless that ends inside an element."""
    try:
        return parse(bytes(data))
    except (AssertionError, IndexError):
        return None


def main() -> None:
    url, key, secret, arn, start = sys.argv[1:6]
    tone = int(sys.argv[6])

    rig = Rig(url, key, secret)

    def data(service: str, api: str):
        return rig.client(service, rig.control.get_data_endpoint(StreamARN=arn, APIName=api)["DataEndpoint"])

    def get(**selector) -> bytes:
        return data("kinesis-video-media", "GET_MEDIA").get_media(StreamARN=arn, StartSelector=selector)["Payload"]

    payload, live = get(StartSelectorType="FRAGMENT_NUMBER", AfterFragmentNumber=start), bytearray()
    heard_bytes = 0
    while chunk := payload._raw_stream.read1(65536):
        live.extend(chunk)
        if len(live) - heard_bytes > RATE and (found := whole(live)):
            heard_bytes = len(live)
            say("tone", count=sum(abs(hertz - tone) < 15 for hertz in tenths(found[1])))
    documents, pcm = parse(bytes(live))
    numbers = [d["AWS_KINESISVIDEO_FRAGMENT_NUMBER"] for d in documents]
    assert numbers == sorted(set(numbers)) and numbers[0] > start, numbers
    tags = {k: documents[0][k] for k in ("ContactId", "InstanceId", "MimeType", "AUDIO_FROM_CUSTOMER")}
    assert all(d["ContactId"] == tags["ContactId"] for d in documents)
    say("heard", tenths=tenths(pcm), seconds=len(pcm) / RATE / 2, tags=tags, numbers=numbers)

    listed = data("kinesis-video-archived-media", "LIST_FRAGMENTS").get_paginator("list_fragments").paginate(StreamARN=arn)
    fragments = sorted((f for p in listed for f in p["Fragments"]), key=lambda f: f["FragmentNumber"])
    assert [f["FragmentNumber"] for f in fragments] == [start, *numbers]
    times = [f["ProducerTimestamp"].timestamp() for f in fragments]
    lengths = [f["FragmentLengthInMilliseconds"] / 1000 for f in fragments]
    gaps = [round((b - a - length) * 1000) for a, b, length in zip(times, times[1:], lengths)]
    assert all(abs(gap) <= 1 for gap in gaps), f"the time axis has holes: {gaps}"
    archive = data("kinesis-video-archived-media", "GET_MEDIA_FOR_FRAGMENT_LIST")
    stored = archive.get_media_for_fragment_list(StreamARN=arn, Fragments=numbers)["Payload"].read()
    assert parse(stored)[1] == pcm, "the archive has what was heard live"
    everything = get(StartSelectorType="EARLIEST").read()
    assert parse(everything)[1] == bytes(1024) + pcm, "the anchor is 64 ms of silence"
    decoded = b""
    for number in numbers:
        one = archive.get_media_for_fragment_list(StreamARN=arn, Fragments=[number])["Payload"].read()
        with av.open(io.BytesIO(one), format="matroska") as document:
            track = document.streams.audio[0]
            assert (track.codec_context.name, track.rate, track.channels) == ("pcm_s16le", RATE, 1)
            decoded += b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in document.decode(track))
    assert decoded == pcm, f"PyAV decodes {len(decoded)} of {len(pcm)} bytes"
    say("done")


if __name__ == "__main__":
    main()
