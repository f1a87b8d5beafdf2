"""What tests of master keys on a server share: an Antiphon that is started again and again, what was written, and what is told of a key that cannot be used."""

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import ClientError
from kvs import Rig, cluster, header, lines, parse, step
from kvs_bucket import store_says
from kvs_kill import BLOCKS, Server, pcm_of

FIRST = int(time.time() * 1000) - 3_600_000
CODES = {4500: "ACCESS_DENIED", 4501: "DISABLED", 4502: "VALIDATION_ERROR", 4503: "UNAVAILABLE", 4504: "INVALID_USAGE", 4505: "INVALID_STATE", 4506: "NOT_FOUND"}


# Of a master key: its name, its version, and what a server calls it.
Given = list[tuple[str, int, str]]


def inline(keys: Given, kind: str) -> str:
    return "[" + ", ".join(f'{{ name = "{name}", version = {version}, {kind} = "{there}" }}' for name, version, there in keys) + "]"


class Antiphon:
    """A server of which each start is another one, on the same folder. `kind` of its master keys: `kms` or `vault`, reached by `settings`."""

    def __init__(self, binary: str, data: str, kind: str, settings: dict[str, str]):
        self.binary, self.data, self.kind, self.settings, self.server = binary, data, kind, settings, None
        self.logs = ""

    def start(self, given: Given) -> Rig:
        self.stop()
        # Answers of GetMedia end when all is read, not three seconds later.
        self.variables = {"STORE_KEYS": inline(given, self.kind), "STORE_IDLE_CLOSE_MS": "50", **self.settings}
        self.server = Server(self.binary, self.data, more=self.variables)
        return self.server.rig

    def stop(self) -> None:
        if self.server:
            self.server.kill()
            self.server.log.seek(0)
            self.logs += self.server.log.read()
            self.server = None

    def says(self, what: str) -> str:
        """`antiphon store WHAT`, which has to find all well."""
        done = store_says(what, self.binary, self.data, self.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def post(self, path: str) -> dict:
        token = subprocess.run([self.binary, "store", "token", "--data", self.data], capture_output=True, text=True, check=True)
        headers = {"Authorization": f"Bearer {json.loads(token.stdout)['token']}"}
        request = urllib.request.Request(self.server.url + path, b"{}", headers, method="POST")
        return json.loads(urllib.request.urlopen(request, timeout=30).read() or b"{}")

    def metric(self, name: str) -> float:
        return self.server.rig.metrics()[f"store_key_server_{name}"]


class Written:
    """What each stream has."""

    def __init__(self) -> None:
        self.times: dict[str, list[int]] = {}

    def put(self, rig: Rig, stream: str, count: int = 3) -> None:
        times = self.times.setdefault(stream, [])
        new = [(times[-1] if times else FIRST) + (i + 1) * BLOCKS * 64 for i in range(count)]
        acks = put(rig, stream, new)
        assert [a["FragmentTimecode"] for a in acks if a["EventType"] == "PERSISTED"] == new, (stream, acks)
        times += new

    def all_there(self, rig: Rig, *streams: str) -> None:
        for stream in streams or self.times:
            documents, pcm = read(rig, stream)
            assert pcm == b"".join(pcm_of(timecode) for timecode in self.times[stream]), (stream, documents[-1])


def put(rig: Rig, stream: str, times: list[int]) -> list[dict]:
    producer = rig.producer(stream)
    try:
        producer.send(header("c") + b"".join(cluster(timecode, pcm_of(timecode)) for timecode in times))
        producer.end()
    except OSError:
        pass  # It was refused before all was sent.
    response = producer.response()
    assert response.status == 200, (response.status, response.read())
    return lines(response)


def read(rig: Rig, stream: str) -> tuple[list[dict], bytes]:
    media = rig.data("kinesis-video-media", stream, "GET_MEDIA")
    return parse(media.get_media(StreamName=stream, StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read())


def fails(rig: Rig, stream: str, number: int) -> None:
    """What producers and readers of a stream are told."""
    code = f"KMS_KEY_{CODES[number]}"
    acks = put(rig, stream, [FIRST + 3_000_000])
    assert acks == [{"EventType": "ERROR", "ErrorId": number, "ErrorCode": code}], acks
    told = [(d["AWS_KINESISVIDEO_ERROR_ID"], d["AWS_KINESISVIDEO_ERROR_CODE"]) for d in read(rig, stream)[0]]
    assert told == [(str(number), code)], told
    archive = rig.data("kinesis-video-archived-media", stream, "LIST_FRAGMENTS")
    # What is known without the key is told as ever.
    fragments = [f["FragmentNumber"] for f in archive.list_fragments(StreamName=stream)["Fragments"]]
    listed = parse(archive.get_media_for_fragment_list(StreamName=stream, Fragments=fragments[:2])["Payload"].read())[0]
    assert [d["AWS_KINESISVIDEO_ERROR_ID"] for d in listed] == [str(number)] * 2, listed
    whole = {"FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": {"StartTimestamp": time.time() - 7200, "EndTimestamp": time.time() + 60}}
    says(number, archive.get_clip, StreamName=stream, ClipFragmentSelector=whole)
    says(number, archive.get_hls_streaming_session_url, StreamName=stream, PlaybackMode="ON_DEMAND", HLSFragmentSelector=whole)


def says(number: int, call: Callable, **arguments: object) -> None:
    """An exception with the key's error in its message."""
    try:
        call(**arguments)
    except ClientError as e:
        told = (e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
        assert told == (("ServiceUnavailable", 503) if number == 4503 else ("InvalidArgumentException", 400)), e
        assert f"{number} KMS_KEY_{CODES[number]}: " in str(e), e
    else:
        raise AssertionError(f"{number} was expected")


@contextmanager
def quickly(seconds: float, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"{what}: {took:.1f} s"


# Streams under two keys of the server, and one under the data folder's; those beside the first.
STREAMS = {"tenant": {"KmsKeyId": "tenant"}, "other": {"KmsKeyId": "other"}, "plain": {}}
OTHERS = ("other", "plain")


def make(antiphon: Antiphon, written: Written, given: Given) -> Rig:
    """The streams, with something in each."""
    rig = antiphon.start(given)
    for stream, key in STREAMS.items():
        rig.control.create_stream(StreamName=stream, DataRetentionInHours=24, **key)
        written.put(rig, stream)
    return rig


def again(antiphon: Antiphon, written: Written, given: Given) -> None:
    """After a restart all is there, as much is written once more, and all is well."""
    rig = antiphon.start(given)
    written.all_there(rig)
    for stream in STREAMS:
        written.put(rig, stream)
    written.all_there(rig)
    assert antiphon.says("check").startswith("3 streams, 18 fragments,") and antiphon.says("scrub").startswith("3 streams, 18 fragments,")
    step("written and read under keys of the key server, before and after a restart")


def broken(antiphon: Antiphon, written: Written, given: Given, number: int, mends: Callable[[], object] = lambda: None, others: tuple[str, ...] = OTHERS) -> None:
    """The first key cannot be used, until somebody mends that: who needs it is told, and the others go on."""
    rig = antiphon.start(given)
    fails(rig, "tenant", number)
    for stream in others:
        written.put(rig, stream)
    written.all_there(rig, *others)
    mends()
    step(f"{number} {CODES[number]}: told to producers and readers, and others go on")


def from_folder(antiphon: Antiphon, written: Written, given: Given, said: str) -> None:
    """The data folder's key goes to the server that `given` has a version 2 of it on; `said`: what `rewrap` says."""
    antiphon.start(given)
    antiphon.stop()
    assert antiphon.says("rewrap").startswith(said)
    own = Path(antiphon.data) / "store.key"
    own.unlink()
    rig = antiphon.start(given)
    written.put(rig, "plain")
    written.all_there(rig)
    assert not own.exists() and antiphon.says("scrub").startswith("3 streams, ")
    step("the key of the data folder moved to the key server")


def wrapped(data: str) -> dict[str, bytes]:
    """What servers made of data keys, by the object that each is for."""
    found = list(Path(data).glob("store/v1/*/*/dek/*"))
    there = {str(path.relative_to(Path(data) / "store")): json.loads(path.read_text()) for path in found}
    # Behind its kind and the version's number.
    return {path: bytes.fromhex(k["wrapped"])[8:] for path, k in there.items() if k["key"] != "default"}


def texts(key: bytes) -> list[bytes]:
    """A data key as text."""
    return [key.hex().encode(), base64.b64encode(key)]


def nowhere(data: str, key: bytes) -> None:
    """No file has it, in whatever form."""
    assert len(key) == 32
    for path in Path(data).rglob("*"):
        assert not path.is_file() or not any(form in path.read_bytes() for form in (key, *texts(key))), path
