"""boto3 and raw HTTP against the Kinesis Video Streams API of a running server: `kvs.py URL ACCESS_KEY SECRET`.

Streams are made, written by PutMedia with chunked bodies, read live and later, listed in pages, and deleted. The PCM that
comes back has to be the PCM that went in. Prints `{"event": "step"}` after each part and `{"event": "done"}` at the end.
"""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "us-east-1"
BLOCK = 1024  # 64 ms of 8 kHz, 16 bit


def element(ident: bytes, data: bytes) -> bytes:
    return ident + struct.pack(">I", len(data) | 1 << 28) + data


# Tracks of a contact centre, by their numbers.
NAMES = (b"AUDIO_FROM_CUSTOMER", b"AUDIO_TO_CUSTOMER")


def header(contact: str, tracks: int = 1, names: tuple[bytes, ...] = NAMES) -> bytes:
    """EBML head, segment of unknown size, Info, PCM tracks, a tag."""
    ebml = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska"))
    info = element(b"\x15\x49\xa9\x66", element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(3, "big")))
    audio = element(b"\xe1", element(b"\xb5", struct.pack(">d", 8000)) + element(b"\x9f", b"\x01") + element(b"\x62\x64", b"\x10"))
    codec = element(b"\x83", b"\x02") + element(b"\x86", b"A_PCM/INT/LIT") + audio
    named = enumerate(names[:tracks], 1)
    entries = [element(b"\xae", element(b"\xd7", bytes([number])) + element(b"\x53\x6e", name) + codec) for number, name in named]
    all_tracks = element(b"\x16\x54\xae\x6b", b"".join(entries))
    tag = element(b"\x67\xc8", element(b"\x45\xa3", b"ContactId") + element(b"\x44\x87", contact.encode()))
    tags = element(b"\x12\x54\xc3\x67", element(b"\x73\x73", tag))
    return ebml + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + info + all_tracks + tags


def cluster(timecode: int, pcm: bytes) -> bytes:
    out = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + element(b"\xe7", timecode.to_bytes(8, "big"))
    for i in range(0, len(pcm), BLOCK):
        out += element(b"\xa3", b"\x81" + struct.pack(">h", i // BLOCK * 64) + b"\x80" + pcm[i : i + BLOCK])
    return out


def vint(data: bytes, at: int, keep: bool) -> tuple[int, int]:
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    mask = (1 << 7 * length) - 1
    if not keep:
        value &= mask
        value = -1 if value == mask else value
    return value, at + length


# Segment, Cluster, Tags, Tag, SimpleTag, BlockGroup.
MASTERS = {0x18538067, 0x1F43B675, 0x1254C367, 0x7373, 0x67C8, 0xA0}


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Ids and contents, from the beginning to the end; of masters the content comes by itself."""
    at = 0
    while at < len(data):
        ident, at = vint(data, at, True)
        size, at = vint(data, at, False)
        content = b"" if ident in MASTERS else data[at : at + size]
        assert ident in MASTERS or len(content) == size, "ends inside an element"
        at += len(content)
        yield ident, content


def parse(data: bytes) -> tuple[list[dict], bytes]:
    """Tags of each document, and the PCM of all."""
    documents, pcm, name = [], b"", ""
    for ident, content in elements(data):
        if ident == 0x1A45DFA3:
            documents.append({})
        elif ident == 0x45A3:
            name = content.decode()
        elif ident == 0x4487:
            documents[-1][name] = content.decode()
        elif ident == 0xA3:
            pcm += content[4:]
    return documents, pcm


EMPTY = hashlib.sha256(b"").hexdigest()


def authorization(key: str, secret: str, path: str, signed: dict[str, str], payload: str = EMPTY) -> str:
    """The header that signs a POST with these headers, of which `x-amz-date` is one."""
    stamp, names = signed["x-amz-date"], ";".join(sorted(signed))
    canonical = f"POST\n{path}\n\n" + "".join(f"{k}:{signed[k]}\n" for k in sorted(signed)) + f"\n{names}\n{payload}"
    scope = f"{stamp[:8]}/{REGION}/kinesisvideo/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        signing = hmac.new(signing, part.encode(), "sha256").digest()
    signature = hmac.new(signing, text.encode(), "sha256").hexdigest()
    return f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"


def stamp_of(now: datetime.datetime) -> str:
    return now.strftime("%Y%m%dT%H%M%SZ")


class Producer:
    """PutMedia over a plain socket, signed as the producer SDK signs: an empty body, the host without its port."""

    def __init__(self, endpoint: str, key: str, secret: str, stream: str, start: float | None = None, more: dict | None = None):
        url = urllib.parse.urlsplit(endpoint)
        now = datetime.datetime.now(datetime.timezone.utc)
        path = url.path + "/putMedia"
        signed = {"host": url.hostname, "x-amz-date": stamp_of(now), "x-amzn-stream-name": stream}
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        self.connection.putrequest("POST", path)
        for field, value in {
            "x-amz-date": signed["x-amz-date"],
            "x-amzn-stream-name": stream,
            "x-amzn-fragment-timecode-type": "ABSOLUTE" if start is None else "RELATIVE",
            "x-amzn-producer-start-timestamp": f"{start or now.timestamp():.3f}",
            **(more or {}),
            "Transfer-Encoding": "chunked",
            "Authorization": authorization(key, secret, path, signed),
        }.items():
            self.connection.putheader(field, value)
        self.connection.endheaders()

    def send(self, data: bytes) -> None:
        self.connection.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.connection.send(b"0\r\n\r\n")

    def response(self) -> http.client.HTTPResponse:
        return self.connection.getresponse()


def lines(response) -> list[dict]:
    """The acknowledgements of an answer of PutMedia, to its end."""
    return [json.loads(line) for line in response.read().splitlines()]


def buffering(response) -> str:
    """Reads on to where the next fragment has begun; its number."""
    while (ack := json.loads(response.readline()))["EventType"] != "BUFFERING":
        pass
    return ack["FragmentNumber"]


def server_ms(number: str) -> int:
    """When the server took that fragment, which its number says: Unix time, in ms."""
    return int(number) >> 28 & (1 << 48) - 1


def step(text: str) -> None:
    print(json.dumps({"event": "step", "what": text}), flush=True)


def refused(code: str, status: int, call, **arguments) -> None:
    try:
        call(**arguments)
    except ClientError as e:
        got = (e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
        assert got == (code, status), got
    else:
        raise AssertionError(f"{code} was expected")


class Rig:
    def __init__(self, url: str, key: str, secret: str):
        self.url, self.key, self.secret = url, key, secret
        self.control = self.client("kinesisvideo", url)

    def client(self, service: str, endpoint: str, secret: str | None = None):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=secret or self.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def data(self, service: str, stream: str, api: str):
        endpoint = self.control.get_data_endpoint(StreamName=stream, APIName=api)["DataEndpoint"]
        return self.client(service, endpoint)

    def metrics(self) -> dict[str, float]:
        """Those without labels."""
        text = urllib.request.urlopen(self.url.removesuffix("/kvs") + "/metrics", timeout=10).read().decode()
        return {name: float(value) for name, value in re.findall(r"^antiphon_(\w+) (\S+)$", text, re.MULTILINE)}

    def producer(self, stream: str, start: float | None = None) -> Producer:
        """With `start`, timecodes count from there."""
        endpoint = self.control.get_data_endpoint(StreamName=stream, APIName="PUT_MEDIA")["DataEndpoint"]
        return Producer(endpoint, self.key, self.secret, stream, start)

    def curl(self, stream: str, start: float, timecodes: str, *options: str) -> list[str]:
        """The command by which curl is a producer, signed by itself; `options` say what else it does, and what it sends (`-T`)."""
        endpoint = self.control.get_data_endpoint(StreamName=stream, APIName="PUT_MEDIA")["DataEndpoint"]
        headers = {
            "x-amzn-stream-name": stream,
            "x-amzn-fragment-timecode-type": timecodes,
            "x-amzn-producer-start-timestamp": f"{start:.3f}",
            "Transfer-Encoding": "chunked",
        }
        given = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
        sign = ["--aws-sigv4", f"aws:amz:{REGION}:kinesisvideo", "--user", f"{self.key}:{self.secret}"]
        return ["curl", "--silent", "--show-error", *sign, *given, "-X", "POST", *options, f"{endpoint}/putMedia"]


def by_environment(rig: Rig) -> None:
    """A program that was not changed at all: where the service is stands in its environment."""
    os.environ["AWS_ENDPOINT_URL_KINESIS_VIDEO"] = rig.url
    try:
        client = boto3.client("kinesisvideo", region_name=REGION, aws_access_key_id=rig.key, aws_secret_access_key=rig.secret)
        assert "page-1" in [s["StreamName"] for s in client.list_streams()["StreamInfoList"]]
    finally:
        del os.environ["AWS_ENDPOINT_URL_KINESIS_VIDEO"]


def control_plane(rig: Rig) -> None:
    c = rig.control
    arns = [c.create_stream(StreamName=f"page-{i}", DataRetentionInHours=i)["StreamARN"] for i in range(3)]
    assert arns[1].rsplit("/", 2)[1] == "page-1", arns
    refused("ResourceInUseException", 400, c.create_stream, StreamName="page-1")
    refused("ResourceNotFoundException", 404, c.describe_stream, StreamName="nobody")
    refused("InvalidSignatureException", 403, rig.client("kinesisvideo", rig.url, "wrong").list_streams)
    for name in ("a/b", "../page-1", "..%2fpage-1", "a\\b", "a b", "a\0", "x" * 257):
        refused("InvalidArgumentException", 400, c.create_stream, StreamName=name)
        refused("ResourceNotFoundException", 404, c.describe_stream, StreamName=name)
    by_environment(rig)
    pages = c.get_paginator("list_streams").paginate(
        StreamNameCondition={"ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "page-"},
        PaginationConfig={"PageSize": 2},
    )
    assert [s["StreamName"] for p in pages for s in p["StreamInfoList"]] == ["page-0", "page-1", "page-2"]
    info = c.describe_stream(StreamARN=arns[2])["StreamInfo"]
    assert (info["Status"], info["DataRetentionInHours"], len(info["Version"])) == ("ACTIVE", 2, 20), info
    assert abs(info["CreationTime"].timestamp() - time.time()) < 60
    change = dict(StreamName="page-2", Operation="INCREASE_DATA_RETENTION", DataRetentionChangeInHours=3)
    c.update_data_retention(CurrentVersion=info["Version"], **change)
    refused("VersionMismatchException", 400, c.update_data_retention, CurrentVersion=info["Version"], **change)
    assert c.describe_stream(StreamName="page-2")["StreamInfo"]["DataRetentionInHours"] == 5
    c.tag_stream(StreamName="page-2", Tags={"a": "1", "b": "2"})
    c.untag_stream(StreamName="page-2", TagKeyList=["a"])
    assert c.list_tags_for_stream(StreamName="page-2")["Tags"] == {"b": "2"}
    for arn in arns:
        c.delete_stream(StreamARN=arn)
    refused("ResourceNotFoundException", 404, c.delete_stream, StreamARN=arns[0])
    step("control plane: created, described, paged, changed, tagged, deleted")


def put_stored(rig: Rig) -> tuple[list[str], list[int], bytes]:
    """Ten fragments in chunks of odd sizes."""
    rig.control.create_stream(StreamName="call", DataRetentionInHours=24, MediaType="audio/L16")
    pcm, first = random.Random(1).randbytes(10 * 16 * BLOCK), int(time.time() * 1000) - 60_000
    times = [first + i * 1024 for i in range(10)]
    body = header("contact-1")
    for i, timecode in enumerate(times):
        body += cluster(timecode, pcm[i * 16 * BLOCK : (i + 1) * 16 * BLOCK])
    producer = rig.producer("call")
    for at in range(0, len(body), 4097):
        producer.send(body[at : at + 4097])
    producer.end()
    response = producer.response()
    assert response.status == 200, (response.status, response.read())
    acks = lines(response)
    kinds = {kind: [a["FragmentNumber"] for a in acks if a["EventType"] == kind] for kind in ("BUFFERING", "RECEIVED", "PERSISTED")}
    assert kinds["BUFFERING"] == kinds["RECEIVED"] == kinds["PERSISTED"] and len(kinds["PERSISTED"]) == 10, acks
    assert [a["FragmentTimecode"] for a in acks if a["EventType"] == "PERSISTED"] == times
    assert all(len(n) == 47 for n in kinds["PERSISTED"])
    step("PutMedia: ten fragments, each buffered, received, persisted")
    return kinds["PERSISTED"], times, pcm


def moment(ms: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)


def get_all(rig: Rig, stream: str, wanted: list[tuple[dict, tuple[list[str], bytes]]]) -> None:
    """Asks GetMedia by each of the selectors, at once, as each response goes on for some seconds; numbers and PCM have to be those beside it."""
    media = rig.data("kinesis-video-media", stream, "GET_MEDIA")

    def get(selector: dict) -> tuple[list[str], bytes]:
        payload = media.get_media(StreamName=stream, StartSelector=selector)["Payload"].read()
        documents, got = parse(payload)
        assert all(d["ContactId"] == "contact-1" for d in documents)
        return [d["AWS_KINESISVIDEO_FRAGMENT_NUMBER"] for d in documents], got

    with ThreadPoolExecutor(len(wanted)) as pool:
        for (selector, right), got in zip(wanted, pool.map(get, [selector for selector, _ in wanted])):
            assert got == right, (selector, got[0], right[0])


def get_stored(rig: Rig, numbers: list[str], times: list[int], pcm: bytes) -> None:
    rest = (numbers[7:], pcm[7 * 16 * BLOCK :])
    get_all(rig, "call", [
        ({"StartSelectorType": "EARLIEST"}, (numbers, pcm)),
        ({"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": numbers[6]}, rest),
        ({"StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": numbers[6]}, rest),
        ({"StartSelectorType": "PRODUCER_TIMESTAMP", "StartTimestamp": moment(times[7] + 5)}, rest),
        ({"StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": moment(times[0] - 3_600_000)}, (numbers, pcm)),
    ])  # fmt: skip
    media = rig.data("kinesis-video-media", "call", "GET_MEDIA")
    refused("InvalidArgumentException", 400, media.get_media, StreamName="call", StartSelector={"StartSelectorType": "FRAGMENT_NUMBER"})
    refused("ResourceNotFoundException", 404, media.get_media, StreamName="nobody", StartSelector={"StartSelectorType": "NOW"})
    step("GetMedia: PCM identical, from the first on and from within")


# Of the fragments that selectors are to tell apart: how long they last, and how long nothing is between two, in ms.
SHORT, GAP = 10, 5


def put_apart(rig: Rig) -> tuple[list[str], list[int], list[int], list[bytes]]:
    """Short fragments, between which nothing is: neither by the producer's clock nor by the server's."""
    rig.control.create_stream(StreamName="apart", DataRetentionInHours=1)
    producer, first = rig.producer("apart"), int(time.time() * 1000) - 60_000
    pcm = [bytes([i]) * (SHORT * 16) for i in range(1, 7)]
    producer.send(header("contact-1"))
    response = producer.response()
    for i, block in enumerate(pcm):
        producer.send(cluster(first + i * (SHORT + GAP), block))
        buffering(response)
        # It has come; the next is not to come before the time of this one is over.
        time.sleep((SHORT + 2 * GAP) / 1000)
    producer.end()
    response.read()
    client = rig.data("kinesis-video-archived-media", "apart", "LIST_FRAGMENTS")
    found = client.list_fragments(StreamName="apart")["Fragments"]
    assert [f["FragmentLengthInMilliseconds"] for f in found] == [SHORT] * len(pcm), found
    by_server, by_producer = ([round(f[clock].timestamp() * 1000) for f in found] for clock in ("ServerTimestamp", "ProducerTimestamp"))
    assert by_producer == [first + i * (SHORT + GAP) for i in range(len(pcm))]
    assert all(b - a > SHORT + 1 for a, b in zip(by_server, by_server[1:])), by_server
    return [f["FragmentNumber"] for f in found], by_server, by_producer, pcm


def select(rig: Rig) -> None:
    """Each selector that names a place, on both sides of where one fragment more or less would come."""
    numbers, by_server, by_producer, pcm = put_apart(rig)
    wanted: list[tuple[dict, int]] = [({"StartSelectorType": "EARLIEST"}, 0)]
    for i in (2, 3):
        for kind, field in (("FRAGMENT_NUMBER", "AfterFragmentNumber"), ("CONTINUATION_TOKEN", "ContinuationToken")):
            # Behind that one; it need not be there.
            for number, right in ((numbers[i], i + 1), (str(int(numbers[i]) - 1), i), (str(int(numbers[i]) + 1), i + 1)):
                wanted.append(({"StartSelectorType": kind, field: number}, right))
        for kind, times in (("SERVER_TIMESTAMP", by_server), ("PRODUCER_TIMESTAMP", by_producer)):
            # Just before it, where nothing is; its first and last millisecond; just behind it.
            for ms, right in ((times[i] - 1, i), (times[i], i), (times[i] + SHORT - 1, i), (times[i] + SHORT, i + 1)):
                wanted.append(({"StartSelectorType": kind, "StartTimestamp": moment(ms)}, right))
    get_all(rig, "apart", [(selector, (numbers[right:], b"".join(pcm[right:]))) for selector, right in wanted])
    now_of_stored(rig)
    step(f"GetMedia: {len(wanted)} places by five selectors, to the fragment; NOW of what is stored and of what is open")


def together(rig: Rig) -> None:
    """Of fragments that came within one millisecond the first is the one that a server's time finds."""
    rig.control.create_stream(StreamName="together", DataRetentionInHours=1)
    producer, first = rig.producer("together"), int(time.time() * 1000) - 60_000
    producer.send(header("contact-1"))
    response, numbers = producer.response(), []
    for start in range(0, 12, 4):
        producer.send(b"".join(cluster(first + i * 64, bytes(BLOCK)) for i in range(start, start + 4)))
        numbers += [buffering(response) for _ in range(4)]
        # What comes next is to come in a later millisecond, however fast the machine is.
        time.sleep(max(0.0, (server_ms(numbers[-1]) + 2) / 1000 - time.time()))
    producer.end()
    response.read()
    served = [server_ms(number) for number in numbers]
    firsts = [i for i in range(1, len(served)) if served[i - 1] < served[i]]
    assert {4, 8} <= set(firsts), served
    get_all(rig, "together", [
        ({"StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": moment(served[i])}, (numbers[i:], bytes((len(numbers) - i) * BLOCK)))
        for i in firsts
    ])  # fmt: skip


def now_of_stored(rig: Rig) -> None:
    """`NOW` begins with the fragment that is open, unless that is older than fragments are; nothing that was before comes."""
    rig.control.create_stream(StreamName="now", DataRetentionInHours=1)
    media = rig.data("kinesis-video-media", "now", "GET_MEDIA")
    now = {"StartSelectorType": "NOW"}
    payloads, blocks = [], [bytes([i]) * BLOCK for i in range(1, 5)]
    producer, first = rig.producer("now"), int(time.time() * 1000)
    producer.send(header("contact-1"))
    response = producer.response()

    def opened(i: int) -> int:
        """Sends one; its server time."""
        producer.send(cluster(first + i * 5000, blocks[i]))
        return server_ms(buffering(response))

    def ask() -> None:
        payloads.append(media.get_media(StreamName="now", StartSelector=now)["Payload"])

    # None was before it that could say how long they last.
    opened(0)
    ask()
    # The one before lasted 64 ms.
    since = opened(1)
    time.sleep(max(0.0, since / 1000 + 0.1 - time.time()))
    ask()
    opened(2)
    producer.end()
    response.read()
    # Nobody sends just now.
    ask()
    producer = rig.producer("now")
    producer.send(header("contact-1") + cluster(first + 15_000, blocks[3]))
    producer.end()
    assert lines(producer.response())[-1]["EventType"] == "PERSISTED"
    with ThreadPoolExecutor(len(payloads)) as pool:
        got = [parse(body)[1] for body in pool.map(lambda payload: payload.read(), payloads)]
    assert got == [b"".join(blocks), b"".join(blocks[2:]), blocks[3]], [bytes(pcm[::BLOCK]) for pcm in got]


def archive(rig: Rig, numbers: list[str], times: list[int], pcm: bytes) -> None:
    client = rig.data("kinesis-video-archived-media", "call", "LIST_FRAGMENTS")
    start = datetime.datetime.fromtimestamp(times[2] / 1000, datetime.timezone.utc)
    selector = {"FragmentSelectorType": "PRODUCER_TIMESTAMP", "TimestampRange": {"StartTimestamp": start, "EndTimestamp": start + datetime.timedelta(hours=1)}}
    pages = client.get_paginator("list_fragments").paginate(StreamName="call", FragmentSelector=selector, PaginationConfig={"PageSize": 3})
    found = [f for p in pages for f in p["Fragments"]]
    assert [f["FragmentNumber"] for f in found] == numbers[2:]
    assert all(f["FragmentLengthInMilliseconds"] == 1024 for f in found)
    # A float of seconds is exact to less than a millisecond, not to a microsecond.
    assert [round(f["ProducerTimestamp"].timestamp() * 1000) for f in found] == times[2:]
    missing = numbers[0][:-1] + str((int(numbers[0][-1]) + 1) % 10)
    payload = client.get_media_for_fragment_list(StreamName="call", Fragments=[numbers[4], missing, numbers[1]])["Payload"].read()
    documents, got = parse(payload)
    assert got == pcm[4 * 16 * BLOCK : 5 * 16 * BLOCK] + pcm[16 * BLOCK : 2 * 16 * BLOCK]
    assert documents[1]["AWS_KINESISVIDEO_ERROR_CODE"] == "FRAGMENT_NOT_FOUND", documents[1]
    assert "AWS_KINESISVIDEO_CONTINUATION_TOKEN" not in documents[0]
    step("ListFragments in pages, GetMediaForFragmentList with one missing")


def live(rig: Rig) -> None:
    """A reader follows a producer block by block, without retention."""
    rig.control.create_stream(StreamName="live", DataRetentionInHours=0)
    producer = rig.producer("live")
    producer.send(header("contact-2"))
    response = producer.response()
    assert response.status == 200, response.read()
    media = rig.data("kinesis-video-media", "live", "GET_MEDIA")
    got, delays, sent_at = bytearray(), [], {}
    stream = media.get_media(StreamName="live", StartSelector={"StartSelectorType": "NOW"})["Payload"]

    def read() -> None:
        while chunk := stream._raw_stream.read1(65536):
            now = time.perf_counter()
            got.extend(chunk)
            for mark in list(sent_at):
                if mark in got:
                    delays.append(now - sent_at.pop(mark))

    reader = threading.Thread(target=read)
    reader.start()
    rng, pcm, first = random.Random(2), b"", int(time.time() * 1000)
    for i in range(100):
        block = rng.randbytes(BLOCK)
        pcm += block
        whole = cluster(first + i * 64, block)
        if i % 16:
            whole = element(b"\xa3", b"\x81" + struct.pack(">h", i % 16 * 64) + b"\x80" + block)
        sent_at[block] = time.perf_counter()
        producer.send(whole)
        time.sleep(0.01)
    producer.end()
    acks = lines(response)
    assert [a["EventType"] for a in acks].count("RECEIVED") == 7 and "PERSISTED" not in {a["EventType"] for a in acks}, acks
    reader.join(timeout=30)
    assert not reader.is_alive(), "the response ends after the producer"
    documents, heard = parse(bytes(got))
    assert heard == pcm and len(documents) == 7
    delays.sort()
    step(f"live: 100 blocks in order, median {delays[50] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    archived = rig.data("kinesis-video-archived-media", "live", "LIST_FRAGMENTS")
    refused("NoDataRetentionException", 400, archived.list_fragments, StreamName="live")


def faults(rig: Rig) -> None:
    producer = rig.producer("call")
    producer.send(b"this is no Matroska at all")
    producer.end()
    acks = lines(producer.response())
    assert (acks[-1]["EventType"], acks[-1]["ErrorId"], acks[-1]["ErrorCode"]) == ("ERROR", 4006, "INVALID_MKV_DATA"), acks
    wrong = Producer(rig.url, rig.key, "wrong", "call")
    wrong.end()
    response = wrong.response()
    assert response.status == 403 and response.getheader("x-amzn-ErrorType").startswith("InvalidSignatureException"), response.status
    step("faults: 4006 for what is no Matroska, 403 for a wrong secret")


def main() -> None:
    rig = Rig(*sys.argv[1:4])
    control_plane(rig)
    stored = put_stored(rig)
    get_stored(rig, *stored)
    together(rig)
    select(rig)
    archive(rig, *stored)
    live(rig)
    faults(rig)
    arn = rig.control.describe_stream(StreamName="call")["StreamInfo"]["StreamARN"]
    rig.control.delete_stream(StreamARN=arn)
    refused("ResourceNotFoundException", 404, rig.control.describe_stream, StreamName="call")
    print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
