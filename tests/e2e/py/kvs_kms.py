"""Streams under keys of a key server: `kvs_kms.py BINARY`.

Written by PutMedia and read by boto3, before and after restarts; then each error that a key can have, as producers and readers are told it, while streams
under other keys go on; a server that hangs; and keys that move: to another one of the server, and from the data folder to the server. Prints
`{"event": "done", ...}`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid

from key_server import SECRET, KeyServer
from kvs import header, lines, step
from kvs_bucket import Producing, until
from master_keys import FIRST, OTHERS, Antiphon, Written, again, broken, fails, from_folder, make, nowhere, put, quickly, says, wrapped


def bound(keys: KeyServer, data: str) -> None:
    """Each data key was wrapped for its own object, and opens as such only."""
    blobs = wrapped(data)
    asked = {ask["EncryptionContext"]["antiphon:object"] for what, ask in keys.asked if what == "Encrypt"}
    assert len(blobs) == 2 and blobs.keys() <= asked, (blobs.keys(), asked)
    (one, blob), (other, _) = blobs.items()
    nowhere(data, keys.kms.decrypt(CiphertextBlob=blob, EncryptionContext={"antiphon:object": one})["Plaintext"])
    try:
        keys.kms.decrypt(CiphertextBlob=blob, EncryptionContext={"antiphon:object": other})
    except keys.kms.exceptions.InvalidCiphertextException:
        pass
    else:
        raise AssertionError("it opens for another object")


def errors(antiphon: Antiphon, keys: KeyServer, written: Written, given: list, arn: str) -> None:
    """A key in each state in which it cannot be used. Who has it unwrapped goes on; a server that has not is told, and others go on."""
    ident = arn.rsplit("/", 1)[1]
    rig = antiphon.start(given)
    written.put(rig, "tenant")
    keys.kms.disable_key(KeyId=ident)
    written.put(rig, "tenant")
    written.all_there(rig, "tenant")
    says(4501, rig.control.create_stream, StreamName="new", KmsKeyId="tenant", DataRetentionInHours=1)
    step("what has its key unwrapped goes on when that is disabled; nothing new is made under it")
    broken(antiphon, written, given, 4501, lambda: keys.kms.enable_key(KeyId=ident))
    # It is asked again: no restart is needed.
    written.put(antiphon.server.rig, "tenant")
    keys.kms.schedule_key_deletion(KeyId=ident, PendingWindowInDays=7)
    broken(antiphon, written, given, 4505, lambda: (keys.kms.cancel_key_deletion(KeyId=ident), keys.kms.enable_key(KeyId=ident)))
    keys.denied.add(arn)
    broken(antiphon, written, given, 4500, keys.denied.clear)
    rest = given[1:]
    broken(antiphon, written, [("tenant", 1, keys.new("SIGN_VERIFY", "RSA_2048")), *rest], 4504)
    broken(antiphon, written, [("tenant", 1, f"arn:aws:kms:us-east-1:123456789012:key/{uuid.uuid4()}"), *rest], 4506)
    broken(antiphon, written, [("tenant", 1, "alias/nobody"), *rest], 4506)
    broken(antiphon, written, [("tenant", 1, keys.new()), *rest], 4502)
    rig = antiphon.start(given)
    says(4506, rig.control.create_stream, StreamName="new", KmsKeyId="nobody", DataRetentionInHours=1)
    written.all_there(rig)


def away(antiphon: Antiphon, keys: KeyServer, written: Written, given: list) -> dict:
    """A server that hangs, that is gone, that is busy."""
    keys.mode = "dark"
    with quickly(12, "a start beside a key server that hangs"):
        rig = antiphon.start(given)
    keys.mode = "good"
    written.put(rig, "other")
    going = {stream: Producing(rig, FIRST + 2_000_000, stream) for stream in OTHERS}
    for producing in going.values():
        producing.goes_on()
    keys.mode = "dark"
    began = time.monotonic()
    waits = rig.producer("tenant")
    waits.send(header("c"))
    slowest = 0.0
    for i in range(10):
        at = time.monotonic()
        arn = rig.control.create_stream(StreamName=f"made-{i}", DataRetentionInHours=1)["StreamARN"]
        rig.control.tag_stream(StreamName="tenant", Tags={"a": str(i)})
        rig.control.delete_stream(StreamARN=arn)
        rig.control.list_streams()
        slowest = max(slowest, time.monotonic() - at)
    assert slowest < 1, f"the API waits for the key server: {slowest:.1f} s"
    response = waits.response()
    acks = lines(response)
    waited = time.monotonic() - began
    assert [a["ErrorId"] for a in acks] == [4503] and 2.5 < waited < 6, (acks, waited)
    assert antiphon.metric("away") == 1
    with quickly(2, "who comes later is refused at once"):
        fails(rig, "tenant", 4503)
    for producing in going.values():
        producing.goes_on()
    keys.mode = "good"
    until("the key server is asked again", lambda: put(rig, "tenant", [FIRST + 3_000_000])[0]["EventType"] != "ERROR", 15)
    written.times["tenant"].append(FIRST + 3_000_000)
    for stream, producing in going.items():
        producing.join()
        assert producing.errors == [] and list(producing.promised.values()) == producing.sent, (stream, producing.errors)
        written.times[stream] += producing.sent
    assert antiphon.metric("away") == 0
    step("4503: a key server that hangs stalls the streams that need it, and nothing else")
    rig = antiphon.start(given)
    keys.close()
    fails(rig, "tenant", 4503)
    written.put(rig, "plain")
    keys.open()
    keys.mode = "busy"
    rig = antiphon.start(given)
    fails(rig, "tenant", 4503)
    assert antiphon.metric("away") == 0
    keys.mode = "good"
    written.all_there(rig)
    step("4503: a key server that is gone, and one that is asked too often")
    return {"waited": round(waited, 1), "slowest": round(slowest, 2)}


def moved(antiphon: Antiphon, keys: KeyServer, written: Written, given: list, arn: str) -> None:
    """A new version of a key, then another kind of key; the old ones are not needed any more."""
    new = keys.new()
    both = [*given, ("tenant", 2, new)]
    rig = antiphon.start(both)
    assert "1 keys are under older versions" in antiphon.says("check")
    assert antiphon.post("/v1/keys:rewrap") == {"Rewrapped": 1, "Newest": 3, "Problems": []}
    antiphon.post("/v1/streams/tenant/key:rotate")
    written.put(rig, "tenant")
    keys.denied.add(arn)
    rig = antiphon.start([("tenant", 2, new), *given[1:]])
    written.put(rig, "tenant")
    written.all_there(rig)
    assert "older" not in antiphon.says("scrub")
    step("a new version of a key, and the old one is not needed any more")
    last = [("tenant", 2, new), *given[1:], ("default", 2, keys.new())]
    from_folder(antiphon, written, last, "2 keys wrapped anew, 3 were already: 0 problems")
    antiphon.stop()
    keys.mode = "dark"
    env = {**os.environ, **{f"ANTIPHON_{k}": v for k, v in {"STORE_ENABLED": "true", **antiphon.variables}.items()}}
    begun = subprocess.run([antiphon.binary, "serve", "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--data", antiphon.data], env=env, capture_output=True, text=True, timeout=30)
    assert begun.returncode != 0 and "the key provider is not available" in begun.stderr, begun
    step("without the account's own key there is no start, and it says why")


def main() -> None:
    result = {}
    with tempfile.TemporaryDirectory() as data:
        keys = KeyServer()
        antiphon = Antiphon(sys.argv[1], data, "kms", keys.settings())
        try:
            arn, other = keys.new(), keys.new()
            keys.kms.create_alias(AliasName="alias/antiphon", TargetKeyId=arn)
            given, written = [("tenant", 1, "alias/antiphon"), ("other", 1, other)], Written()
            rig = make(antiphon, written, given)
            assert rig.control.describe_stream(StreamName="tenant")["StreamInfo"]["KmsKeyId"] == "tenant"
            bound(keys, data)
            again(antiphon, written, given)
            errors(antiphon, keys, written, given, arn)
            result = away(antiphon, keys, written, given)
            moved(antiphon, keys, written, given, arn)
            antiphon.stop()
            assert "the master key cannot be used" in antiphon.logs and SECRET not in antiphon.logs, antiphon.logs[-2000:]
        finally:
            antiphon.stop()
            keys.stop()
    print(json.dumps({"event": "done", "calls": len(keys.asked), **result}), flush=True)


if __name__ == "__main__":
    main()
