"""Lets MKVToolNix look at a contact's stream, fragment by fragment: `contact_mkv.py URL ACCESS_KEY SECRET STREAM_ARN`.

Neither mkvinfo nor `mkvmerge --identify` warns of anything. Prints `{"event": "looked", "documents": [[[name, codec, ...], ...], ...]}`: the tracks of each fragment, with the
rate of sound or the size of pictures.
"""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kvs import Rig

# Of a long contact the first, the last, and some between.
MOST = 40


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and not done.stderr, (command, done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


def look(path: Path) -> list[list]:
    """The tracks of a document in which nothing is wrong."""
    told = run("mkvinfo", "--ui-language", "en_US", "--all", str(path))
    wrong = [line for line in told.splitlines() if "warning" in line.lower() or "error" in line.lower() or "nknown element" in line]
    assert not wrong, wrong
    assert "+ Cluster" in told and ("simple block" in told.lower() or "block group" in told.lower()), told[-500:]
    found = json.loads(run("mkvmerge", "--ui-language", "en_US", "--identify", "--identification-format", "json", str(path)))
    assert not found["warnings"] and not found["errors"], found
    assert (found["container"]["type"], found["container"]["recognized"], found["container"]["supported"]) == ("Matroska", True, True), found
    run("mkvmerge", "--ui-language", "en_US", "-q", "-o", f"{path}.merged", str(path))
    return [track(t["properties"]) for t in found["tracks"]]


def track(properties: dict) -> list:
    kind = ["audio_sampling_frequency", "audio_channels"] if "audio_channels" in properties else ["pixel_dimensions"]
    return [properties[name] for name in ("track_name", "codec_id", *kind)]


def main() -> None:
    url, key, secret, arn = sys.argv[1:5]
    rig = Rig(url, key, secret)
    archive = rig.client("kinesis-video-archived-media", rig.control.get_data_endpoint(StreamARN=arn, APIName="LIST_FRAGMENTS")["DataEndpoint"])
    pages = archive.get_paginator("list_fragments").paginate(StreamARN=arn)
    numbers = sorted(f["FragmentNumber"] for page in pages for f in page["Fragments"])
    some = sorted({(len(numbers) - 1) * i // (MOST - 1) for i in range(MOST)})
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        paths = [Path(folder) / f"{i}.mkv" for i in some]
        for i, path in zip(some, paths):
            payload = archive.get_media_for_fragment_list(StreamARN=arn, Fragments=[numbers[i]])["Payload"]
            path.write_bytes(payload.read())
        print(json.dumps({"event": "looked", "documents": list(pool.map(look, paths))}), flush=True)


if __name__ == "__main__":
    main()
