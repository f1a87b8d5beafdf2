"""Errors over HTTP that neither `kvs.py`, `kvs_tools.py`, `kvs_faults.py` nor `kvs_play.py` see: `kvs_table.py URL ACCESS_KEY SECRET DATA`.

The server has `store.max_connection_s = 2`, `store.max_streams = 6` and `store.max_readers = 1`. Damage is done by hand in its folder DATA.
"""

import datetime
import hashlib
import http.client
import json
import sys
import time
import urllib.parse
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config
from kvs import BLOCK, EMPTY, REGION, Rig, authorization, cluster, element, header, lines, parse, refused, stamp_of, step

SERVICES = ("kinesisvideo", "kinesis-video-media", "kinesis-video-archived-media", "kinesis-video-signaling", "kinesis-video-webrtc-storage")


def post(rig: Rig, path: str, headers: dict, body: str = "{}") -> http.client.HTTPResponse:
    """A request as it is written here."""
    url = urllib.parse.urlsplit(rig.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request("POST", f"{url.path}/{path}", body, {"Content-Type": "application/json", **headers})
    return connection.getresponse()


def bare(rig: Rig, path: str, headers: dict, body: str = "{}", query: str = "") -> tuple[int, str]:
    """One that is refused; gives the status and the exception."""
    response = post(rig, path + query, headers, body)
    message = json.loads(response.read())["Message"]
    assert message and response.getheader("x-amzn-RequestId"), (path, message)
    return response.status, response.getheader("x-amzn-ErrorType").split(":")[0]


def named(rig: Rig, path: str, headers: dict) -> str:
    """What an operation says to an empty body; "": it was good."""
    response = post(rig, path, headers)
    assert response.status < 500 or response.status == 501, (path, response.status)
    return (response.getheader("x-amzn-ErrorType") or "").split(":")[0]


def connection_ends(rig: Rig) -> None:
    """What is complete is kept; what was open is dropped, and its live reader told."""
    now = int(time.time() * 1000)
    producer = rig.producer("a")
    producer.send(header("c") + cluster(now, bytes(BLOCK)) + cluster(now + 1000, bytes(BLOCK)))
    acks = lines(producer.response())
    errors = [(a["ErrorId"], a["ErrorCode"]) for a in acks if a["EventType"] == "ERROR"]
    assert errors == [(4003, "MAX_CONNECTION_DURATION_REACHED")], acks
    assert [a["EventType"] for a in acks].count("PERSISTED") >= 1, acks
    step("4003: a connection that lasts too long")


def dropped(rig: Rig) -> None:
    """A live reader has seen the beginning of a fragment that is refused then."""
    now = int(time.time() * 1000)
    producer = rig.producer("b")
    producer.send(header("c") + cluster(now, bytes(BLOCK)))
    assert json.loads(producer.response().readline())["EventType"] == "BUFFERING"
    media = rig.data("kinesis-video-media", "b", "GET_MEDIA")
    payload = media.get_media(StreamName="b", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"]
    body = payload.read(100)
    refused("ConnectionLimitExceededException", 400, media.get_media, StreamName="b", StartSelector={"StartSelectorType": "NOW"})
    producer.send(element(b"\xa3", b"\x85\x00\x00\x80" + bytes(16)))
    body += payload.read()
    documents, _ = parse(body)
    told = [(d.get("AWS_KINESISVIDEO_ERROR_ID"), d.get("AWS_KINESISVIDEO_ERROR_CODE")) for d in documents]
    assert told == [(None, None), ("3002", "WRITE_ERROR")], documents
    step("3002: a fragment that a live reader saw was dropped; one reader more than allowed")


def damaged(rig: Rig, folder: Path) -> None:
    """Of three fragments one is damaged, and one cannot be read at all (a link to itself lies in its place)."""
    now = int(time.time() * 1000)
    producer = rig.producer("c")
    producer.send(header("c") + b"".join(cluster(now + 1000 * i, bytes(BLOCK)) for i in range(3)))
    producer.end()
    acks = lines(producer.response())
    numbers = [a["FragmentNumber"] for a in acks if a["EventType"] == "PERSISTED"]
    assert len(numbers) == 3, acks
    files = [next(folder.rglob(f"f/*/{number}.*")) for number in numbers]
    bytes_ = bytearray(files[0].read_bytes())
    bytes_[200] ^= 1
    files[0].write_bytes(bytes_)
    files[2].unlink()
    files[2].symlink_to(files[2].name)
    media = rig.data("kinesis-video-media", "c", "GET_MEDIA")
    archive = rig.data("kinesis-video-archived-media", "c", "GET_MEDIA_FOR_FRAGMENT_LIST")
    wanted = [("4000", "FRAGMENT_NOT_FOUND"), (None, None), ("5000", "INTERNAL_ERROR")]
    for body in (
        media.get_media(StreamName="c", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read(),
        archive.get_media_for_fragment_list(StreamName="c", Fragments=numbers)["Payload"].read(),
    ):
        documents, _ = parse(body)
        told = [(d.get("AWS_KINESISVIDEO_ERROR_ID"), d.get("AWS_KINESISVIDEO_ERROR_CODE")) for d in documents]
        assert told == wanted, documents
    files[2].unlink()
    aside = [path for path in folder.rglob(f"q/*/{numbers[0]}.*")]
    assert len(aside) == 1 and not files[0].exists() and aside[0].read_bytes() == bytes(bytes_), aside
    missing = archive.get_media_for_fragment_list(StreamName="c", Fragments=["1"])["Payload"].read()
    assert parse(missing)[0][0]["AWS_KINESISVIDEO_ERROR_ID"] == "3000"
    step("3000, 4000 and 5000 in documents: not there, damaged (and set aside), not to be read")


def signatures(rig: Rig) -> None:
    scope = f"{time.strftime('%Y%m%d', time.gmtime())}/{REGION}/kinesisvideo/aws4_request"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    signed = lambda key, more="SignedHeaders=host;x-amz-date, Signature=" + "0" * 64: {
        "x-amz-date": stamp,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/{scope}, {more}",
    }
    old = urllib.parse.urlencode({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{rig.key}/20200101/{REGION}/kinesisvideo/aws4_request",
        "X-Amz-Date": "20200101T000000Z", "X-Amz-Expires": "60", "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "0" * 64,
    })  # fmt: skip
    for headers, query, exception in [
        ({}, "", "MissingAuthenticationTokenException"),
        (signed(rig.key, "SignedHeaders=host"), "", "IncompleteSignatureException"),
        (signed("AKIDNOBODY"), "", "UnrecognizedClientException"),
        (signed(rig.key), "", "InvalidSignatureException"),
        ({"Authorization": "Bearer x"}, "", "UnrecognizedClientException"),
        ({}, "?" + old, "RequestExpired"),
    ]:
        got = bare(rig, "listStreams", headers, query=query)
        assert got == (403, exception), (exception, got)
    step("each refusal of a signature")


def put_as(rig: Rig, key: str, secret: str, signed: dict, unsigned: dict, payload: str, port: bool) -> tuple[int, list[str]]:
    """PutMedia of one fragment with these headers, of which some are signed; what became of it."""
    url = urllib.parse.urlsplit(rig.url)
    path, host = url.path + "/putMedia", url.netloc if port else url.hostname
    signed = {"host": host, "x-amz-date": stamp_of(datetime.datetime.now(datetime.timezone.utc)), **signed}
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.putrequest("POST", path)
    sent = {name: value for name, value in signed.items() if name not in ("host", "expect")}
    chunked = {} if "transfer-encoding" in sent else {"transfer-encoding": "chunked"}
    for name, value in {**sent, **chunked, **unsigned, "authorization": authorization(key, secret, path, signed, payload)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    body = header("c") + cluster(int(time.time() * 1000), bytes(BLOCK))
    connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    response = connection.getresponse()
    if response.status != 200:
        return response.status, [response.getheader("x-amzn-ErrorType").split(":")[0]]
    return 200, [a["EventType"] for a in lines(response)]


def variants(rig: Rig) -> None:
    """Each way in which a producer was seen to sign PutMedia, and those that none was seen to."""
    arn = rig.control.describe_stream(StreamName="e")["StreamInfo"]["StreamARN"]
    base = {"x-amzn-stream-name": "e", "x-amzn-fragment-timecode-type": "ABSOLUTE", "x-amzn-producer-start-timestamp": f"{time.time():.0f}.5"}
    session = token(rig, actions=["PutMedia"], streams=["e"])
    # The producer SDK in C, and kvssink: with a session's credentials, whose token it does not sign, nor the type.
    sdk = {**base, "connection": "keep-alive", "transfer-encoding": "chunked", "user-agent": "AWS-SDK-KVS/3.4.1 GCC/12 Linux x86_64",
           "x-amzn-fragment-acknowledgment-required": "1"}  # fmt: skip
    loose = {"content-type": "application/json", "x-amz-security-token": session["session_token"]}
    made = (session["access_key_id"], session["secret_access_key"])
    kept = (200, ["BUFFERING", "RECEIVED", "PERSISTED"])
    assert put_as(rig, *made, sdk, loose, EMPTY, port=False) == kept
    assert put_as(rig, *made, sdk, {**loose, "x-amz-security-token": "another"}, EMPTY, port=False) == (403, ["UnrecognizedClientException"])
    assert put_as(rig, *made, sdk, {"content-type": "application/json"}, EMPTY, port=False) == (403, ["UnrecognizedClientException"])
    # By name or ARN; the host with its port or without; the hash said in a header or not; curl signs what it does not send.
    by_arn = {"x-amzn-stream-arn": arn, **{name: value for name, value in base.items() if name != "x-amzn-stream-name"}}
    for signed in (base, by_arn, {**base, "expect": ""}):
        for port in (True, False):
            for payload in (EMPTY, "UNSIGNED-PAYLOAD"):
                for unsigned in ({}, {"x-amz-content-sha256": payload}):
                    got = put_as(rig, rig.key, rig.secret, signed, unsigned, payload, port)
                    assert got == kept, (signed, port, payload, unsigned, got)
                of_another = {"x-amz-content-sha256": hashlib.sha256(b"x").hexdigest()}
                assert put_as(rig, rig.key, rig.secret, signed, of_another, payload, port) == (403, ["InvalidSignatureException"])
    step("PutMedia in each way in which producers sign it")


def token(rig: Rig, **wanted) -> dict:
    """By POST /v1/tokens, signed by boto3's own signer."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = urllib.parse.urlsplit(rig.url)
    request = AWSRequest("POST", f"{url.scheme}://{url.netloc}/v1/tokens", data=json.dumps(wanted), headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(rig.key, rig.secret), "kinesisvideo", REGION).add_auth(request)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request("POST", url.path.removesuffix("/kvs") + "/v1/tokens", request.data, dict(request.headers))
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return json.loads(response.read())


def policies(rig: Rig) -> None:
    """What a token does not allow, one that has ended, and one that is for a contact alone."""
    arn = rig.control.describe_stream(StreamName="c")["StreamInfo"]["StreamARN"]
    limited = {"Authorization": "Bearer " + token(rig, actions=["*"], streams=["other"])["token"]}
    for path, body, exception in [
        ("describeStream", {"StreamName": "c"}, "NotAuthorizedException"),
        ("ListTagsForResource", {"ResourceARN": arn}, "AccessDeniedException"),
    ]:
        assert bare(rig, path, limited, json.dumps(body)) == (401, exception), path
    ends = token(rig, actions=["*"], streams=["*"], ttl_s=1)
    until = time.monotonic() + 10
    while (got := refusal(rig, ends["token"])) is None and time.monotonic() < until:
        time.sleep(0.1)
    assert got == (403, "ExpiredTokenException"), got
    shared = rig.producer("shared")
    now = int(time.time() * 1000)
    shared.send(header("ben") + cluster(now, bytes(BLOCK)))
    shared.end()
    assert lines(shared.response())[-1]["EventType"] == "PERSISTED"
    ada = rig.producer("shared")
    ada.send(header("ada") + cluster(now + 1000, b"\x01" * BLOCK))
    ada.end()
    number = lines(ada.response())[-1]["FragmentNumber"]
    session = token(rig, actions=["Get*", "List*"], streams=["*"], contacts=["ada"])
    client = lambda service, endpoint: boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=session["access_key_id"],
        aws_secret_access_key=session["secret_access_key"], aws_session_token=session["session_token"],
        config=Config(retries={"max_attempts": 1}, inject_host_prefix=False),
    )  # fmt: skip
    endpoint = client("kinesisvideo", rig.url).get_data_endpoint(StreamName="shared", APIName="GET_MEDIA")["DataEndpoint"]
    listed = client("kinesis-video-archived-media", endpoint).list_fragments(StreamName="shared")["Fragments"]
    assert [f["FragmentNumber"] for f in listed] == [number], listed
    media = client("kinesis-video-media", endpoint).get_media(StreamName="shared", StartSelector={"StartSelectorType": "EARLIEST"})
    documents, pcm = parse(media["Payload"].read())
    assert [d["ContactId"] for d in documents] == ["ada"] and pcm == b"\x01" * BLOCK, documents
    refused("NotAuthorizedException", 401, client("kinesisvideo", rig.url).delete_stream, StreamARN=arn)
    assert bare(rig, "describeStream", {"Authorization": "Bearer " + session["token"]}, '{"StreamName": "shared"}')[0] == 401
    step("401 and 403 of tokens; one for a contact reads its part of a shared stream")


def refusal(rig: Rig, bearer: str) -> tuple[int, str] | None:
    url = urllib.parse.urlsplit(rig.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request("POST", url.path + "/listStreams", "{}", {"Authorization": "Bearer " + bearer})
    response = connection.getresponse()
    response.read()
    return None if response.status == 200 else (response.status, response.getheader("x-amzn-ErrorType").split(":")[0])


def control(rig: Rig) -> None:
    bearer = {"Authorization": "Bearer " + token(rig, actions=["*"], streams=["*"])["token"]}
    stream = json.dumps({"StreamName": "c"})
    tags = {f"k{i}": "v" for i in range(51)}
    for path, body, status, exception in [
        ("createStream", json.dumps({"StreamName": "one-more"}), 400, "AccountStreamLimitExceededException"),
        ("createStream", json.dumps({"StreamName": "c"}), 400, "ResourceInUseException"),
        ("tagStream", json.dumps({"StreamName": "c", "Tags": tags}), 400, "TagsPerResourceExceededLimitException"),
        ("listTagsForStream", json.dumps({"StreamARN": "c"}), 400, "InvalidResourceFormatException"),
        ("describeEdgeConfiguration", stream, 404, "StreamEdgeConfigurationNotFoundException"),
        ("startEdgeConfigurationUpdate", stream, 501, "NotImplementedException"),
        ("describeSignalingChannel", json.dumps({"ChannelName": "c"}), 404, "ResourceNotFoundException"),
        ("nonsense", "{}", 404, "UnknownOperationException"),
        ("listStreams", "{", 400, "InvalidArgumentException"),
    ]:
        got = bare(rig, path, bearer, body)
        assert got == (status, exception), (path, got)
    step("each refusal of the control plane that other programs do not meet")
    models = botocore.session.get_session()
    assert all(name in SERVICES for name in models.get_available_services() if name.startswith(("kinesis-video", "kinesisvideo")))
    operations = [models.get_service_model(service).operation_model(name).http for service in SERVICES for name in models.get_service_model(service).operation_names]
    paths = sorted(http["requestUri"].removeprefix("/") for http in operations if http["method"] == "POST")
    assert len(paths) == len(operations) > 40, len(paths)
    unknown = [path for path in paths if named(rig, path, bearer) == "UnknownOperationException"]
    assert not unknown, unknown
    step(f"all {len(paths)} operations that botocore knows are known")


def storage_sessions(rig: Rig) -> None:
    """The client of the service by which calls of signaling channels are stored: there are no channels."""
    arn = f"arn:aws:kinesisvideo:{REGION}:000000000000:channel/door/1700000000000"
    client = rig.client("kinesis-video-webrtc-storage", rig.url)
    refused("ResourceNotFoundException", 404, client.join_storage_session, channelArn=arn)
    refused("ResourceNotFoundException", 404, client.join_storage_session_as_viewer, channelArn=arn, clientId="v")
    wrong = rig.client("kinesis-video-webrtc-storage", rig.url, "wrong")
    refused("InvalidSignatureException", 403, wrong.join_storage_session, channelArn=arn)
    step("kinesis-video-webrtc-storage: there is nothing to join; who has no key is told so")


def not_allowed(rig: Rig) -> None:
    """Each operation that botocore knows, by who may not: the exception and the status that its model has for that."""
    bearer = {"Authorization": "Bearer " + token(rig, actions=["GetDataEndpoint"], streams=["c"])["token"]}
    models, count = botocore.session.get_session(), 0
    for service in SERVICES:
        model = models.get_service_model(service)
        for name in set(model.operation_names) - {"GetDataEndpoint"}:
            operation = model.operation_model(name)
            shapes = [e for e in operation.error_shapes if e.name in ("AccessDeniedException", "NotAuthorizedException")]
            # Of two operations the models do not say it.
            right = (shapes[0].metadata["error"]["httpStatusCode"], shapes[0].name) if shapes else (401, "NotAuthorizedException")
            got = bare(rig, operation.http["requestUri"].removeprefix("/"), bearer)
            assert got == right, (service, name, got, right)
            count += 1
    step(f"401 and 403 of {count} operations, as botocore has them")


def main() -> None:
    rig, folder = Rig(*sys.argv[1:4]), Path(sys.argv[4])
    for name in ("a", "b", "c", "shared", "e", "f"):
        rig.control.create_stream(StreamName=name, DataRetentionInHours=1)
    connection_ends(rig)
    dropped(rig)
    damaged(rig, folder)
    signatures(rig)
    variants(rig)
    policies(rig)
    control(rig)
    storage_sessions(rig)
    not_allowed(rig)
    print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
