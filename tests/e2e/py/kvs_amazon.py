"""Programs that know the service by Amazon's host names only: `kvs_amazon.py BINARY`.

The server has a certificate for them (`antiphon store certificate`). boto3 is given no endpoint, curl the very URL; what a hosts file says (and a
forwarding of port 443) is done here within the process, and by curl's `--connect-to`. Prints `{"event": "done"}`.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import SSLError
from cryptography import x509
from kvs import BLOCK, cluster, header, parse, step
from kvs_kill import KEY, SECRET

REGION, HOST = "us-west-2", "kinesisvideo.us-west-2.amazonaws.com"


def serve(binary: str, folder: Path) -> tuple[subprocess.Popen, int]:
    names = {"STORE_ENABLED": "true", "KVS_ACCESS_KEY_ID": KEY, "KVS_SECRET_ACCESS_KEY": SECRET, "KVS_HTTP": "127.0.0.1:0",
             "TLS_CERT": folder / "names/cert.pem", "TLS_KEY": folder / "names/key.pem"}  # fmt: skip
    env = {**os.environ, **{f"ANTIPHON_{name}": str(value) for name, value in names.items()}}
    args = [binary, "serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--shards", "1", "--data", str(folder / "data")]
    process = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if found := re.search(r"streams on https://[\d.]+:(\d+)", line):
            return process, int(found[1])
    raise AssertionError("the server did not start")


def resolve(port: int) -> None:
    """As a hosts file does, and who forwards 443."""
    real = socket.getaddrinfo

    def here(host, wanted, *rest, **more):
        return real("127.0.0.1", port, *rest, **more) if host == HOST and wanted == 443 else real(host, wanted, *rest, **more)

    socket.getaddrinfo = here


def client(service: str, ca: Path | bool, endpoint: str | None = None):
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, verify=str(ca) if isinstance(ca, Path) else ca,
                        aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=Config(retries={"total_max_attempts": 1}))  # fmt: skip


def put(ca: Path, port: int, body: bytes) -> list[dict]:
    headers = {"x-amzn-stream-name": "s", "x-amzn-fragment-timecode-type": "ABSOLUTE", "x-amzn-producer-start-timestamp": "0", "Transfer-Encoding": "chunked"}
    given = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    sign = ["--aws-sigv4", f"aws:amz:{REGION}:kinesisvideo", "--user", f"{KEY}:{SECRET}"]
    way = ["--cacert", str(ca), "--connect-to", f"{HOST}:443:127.0.0.1:{port}"]
    command = ["curl", "--silent", "--show-error", "--fail-with-body", *sign, *given, *way, "-X", "POST", "-T", "-", f"https://{HOST}/putMedia"]
    sent = subprocess.run(command, input=body, capture_output=True)
    assert sent.returncode == 0, (sent.stdout, sent.stderr)
    return [json.loads(line) for line in sent.stdout.splitlines()]


def limited(ca: Path, folder: Path) -> None:
    """Nobody can have it vouch for another name: its key is nowhere, and what claims to be of it is refused."""
    extensions = x509.load_pem_x509_certificate(ca.read_bytes()).extensions
    basic, names = (extensions.get_extension_for_class(kind).value for kind in (x509.BasicConstraints, x509.NameConstraints))
    assert (basic.ca, basic.path_length) == (True, 0), basic
    assert names.permitted_subtrees == [x509.DNSName(HOST)], names
    assert sorted(path.name for path in (folder / "names").iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(folder / "names/cert.pem", folder / "names/key.pem")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca = folder / "names/ca.pem"
        subprocess.run([sys.argv[1], "store", "certificate", "--out", str(folder / "names"), "--regions", REGION], check=True, capture_output=True)
        process, port = serve(sys.argv[1], folder)
        try:
            resolve(port)
            control = client("kinesisvideo", ca)
            control.create_stream(StreamName="s", DataRetentionInHours=1)
            now, pcm = int(time.time() * 1000), bytes(range(256)) * (BLOCK // 256)
            acks = put(ca, port, header("c") + cluster(now, pcm))
            assert [a["EventType"] for a in acks] == ["BUFFERING", "RECEIVED", "PERSISTED"], acks
            step("curl produces to the URL of the service")
            endpoint = control.get_data_endpoint(StreamName="s", APIName="GET_MEDIA")["DataEndpoint"]
            assert endpoint == f"https://{HOST}", endpoint
            media = client("kinesis-video-media", ca, endpoint)
            payload = media.get_media(StreamName="s", StartSelector={"StartSelectorType": "EARLIEST"})["Payload"].read()
            documents, got = parse(payload)
            assert got == pcm and len(documents) == 1, documents
            step("boto3, without an endpoint, makes, finds and reads the stream")
            try:
                client("kinesisvideo", True).list_streams()
            except SSLError:
                pass
            else:
                raise AssertionError("who does not trust the authority was let in")
            limited(ca, folder)
            step("who was not told to trust it does not, and it vouches for these names only")
        finally:
            process.kill()
            process.wait()
    print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
