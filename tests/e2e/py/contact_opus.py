"""Reads a contact that is kept as Opus, live, and decodes it with PyAV:
`contact_opus.py URL ACCESS_KEY SECRET STREAM_ARN START_FRAGMENT [FRAGMENTS]`.

Prints `{"event": "enough"}` after that many fragments, or three, and `{"event": "decoded", ...}` when the response has ended.
"""

import io
import json
import sys

import av
from kvs import Rig

EBML = b"\x1a\x45\xdf\xa3"


def main() -> None:
    url, key, secret, arn, start = sys.argv[1:6]
    enough = int(sys.argv[6]) if len(sys.argv) > 6 else 3

    rig = Rig(url, key, secret)
    endpoint = rig.control.get_data_endpoint(StreamARN=arn, APIName="GET_MEDIA")["DataEndpoint"]
    selector = {"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": start}
    payload = rig.client("kinesis-video-media", endpoint).get_media(StreamARN=arn, StartSelector=selector)["Payload"]
    data, told = bytearray(), False
    while chunk := payload._raw_stream.read1(65536):
        data.extend(chunk)
        if not told and data.count(EBML) > enough:
            told = True
            print(json.dumps({"event": "enough"}), flush=True)
    documents = [EBML + part for part in bytes(data).split(EBML)[1:]]
    samples, loud = 0, 0
    for document in documents:
        with av.open(io.BytesIO(document), format="matroska") as opened:
            track = opened.streams.audio[0]
            assert track.codec_context.name == "opus", track.codec_context.name
            for frame in opened.decode(track):
                samples += frame.samples
                loud += float(abs(frame.to_ndarray()).max()) > 0.05
    print(json.dumps({"event": "decoded", "documents": len(documents), "seconds": samples / 48_000, "loud": loud}), flush=True)


if __name__ == "__main__":
    main()
