"""Streams under keys of a Vault (OpenBao): `kvs_vault.py BINARY`.

Written by PutMedia and read by boto3, before and after restarts; each error that a key can have; a Vault that is sealed or hangs; a token in a file that is
replaced; a key that is rotated there; and the key of the data folder that moves there. Prints `{"event": "done"}`.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

from kvs import step
from kvs_bucket import until
from master_keys import OTHERS, Antiphon, Given, Written, again, broken, fails, from_folder, make, nowhere, put, quickly, says, texts, wrapped
from vault import ROOT, Vault

def settings(vault: Vault, token: Path) -> dict[str, str]:
    return {"VAULT_ADDRESS": vault.url, "VAULT_TOKEN_FILE": str(token), "VAULT_CA_FILE": vault.certificate, "VAULT_TIMEOUT_S": "1", "LOG_FILTER": "debug"}


def bound(vault: Vault, data: str) -> list[bytes]:
    """Each data key opens as that of its own object only, also under a key that derives one for each context; gives them."""
    blobs, plain = wrapped(data), []
    assert len(blobs) == 2, blobs

    def ask(blob: bytes, of: str) -> dict:
        whose = base64.b64encode(of.encode()).decode()
        return {"ciphertext": blob.decode(), "associated_data": whose, "context": whose}

    for name, (one, blob), (other, _) in (("antiphon", *blobs.items()), ("derived", *reversed(blobs.items()))):
        # Which of the two objects is whose is told by what opens it.
        one, other = (one, other) if opens(vault, name, ask(blob, one)) else (other, one)
        blob = blobs[one]
        plain.append(base64.b64decode(vault.ask(f"transit/decrypt/{name}", ask(blob, one))["data"]["plaintext"]))
        nowhere(data, plain[-1])
        assert "authentication failed" in vault.refuses(f"transit/decrypt/{name}", ask(blob, other))
    step("a data key opens for its own object only")
    return plain


def opens(vault: Vault, name: str, ask: dict) -> bool:
    try:
        return bool(vault.ask(f"transit/decrypt/{name}", ask))
    except OSError:
        return False


def errors(antiphon: Antiphon, vault: Vault, written: Written, given: Given, token: Path) -> None:
    """A key in each state in which it cannot be used; streams under other keys go on."""
    rest = given[1:]
    vault.ask("transit/keys/antiphon/soft-delete", method="DELETE")
    broken(antiphon, written, given, 4505, lambda: vault.ask("transit/keys/antiphon/soft-delete-restore"))
    written.put(antiphon.server.rig, "tenant")
    step("a key that can be used again is, without a restart")
    broken(antiphon, written, [("tenant", 1, "nobody"), *rest], 4506)
    assert "encryption key not found" in vault.refuses("transit/decrypt/nobody", {"ciphertext": "vault:v1:AAAA"})
    broken(antiphon, written, [("tenant", 1, vault.new_key("signs", "ed25519")), *rest], 4504)
    broken(antiphon, written, [("tenant", 1, vault.new_key("another")), *rest], 4502)
    told_again = lambda: token.write_text(vault.token + "\n")
    token.write_text(vault.new_token("default"))
    broken(antiphon, written, given, 4500, told_again, ("plain",))
    token.unlink()
    broken(antiphon, written, given, 4500, told_again, ("plain",))
    written.put(antiphon.server.rig, "tenant")
    step("a new token in the file is taken without a restart")
    says(4506, antiphon.server.rig.control.create_stream, StreamName="new", KmsKeyId="nobody", DataRetentionInHours=1)
    # A wrong name makes no key: the token may not.
    rig = antiphon.start([*given, ("typo", 1, "antiphon-with-a-typo")])
    says(4500, rig.control.create_stream, StreamName="new", KmsKeyId="typo", DataRetentionInHours=1)
    assert "antiphon-with-a-typo" not in vault.ask("transit/keys?list=true", method="GET")["data"]["keys"]


def away(antiphon: Antiphon, vault: Vault, written: Written, given: Given) -> None:
    """One that is sealed, and one that hangs: streams whose keys are in memory go on."""
    for does, goes, comes in (("is sealed", vault.seal, vault.unseal), ("hangs", vault.hang, vault.go_on)):
        rig = antiphon.start(given)
        written.put(rig, "other")
        goes()
        fails(rig, "tenant", 4503)
        assert antiphon.metric("away") == 1
        with quickly(2, "who comes later is refused at once"):
            fails(rig, "tenant", 4503)
        for stream in OTHERS:
            written.put(rig, stream)
        comes()
        at = written.times["tenant"][-1] + 1000
        until("the Vault is asked again", lambda: put(rig, "tenant", [at])[0]["EventType"] != "ERROR", 15)
        written.times["tenant"].append(at)
        assert antiphon.metric("away") == 0
        written.all_there(rig)
        step(f"4503: told while it {does}, and all goes on")


def rotated(antiphon: Antiphon, vault: Vault, written: Written, given: Given) -> None:
    """A new version within the Vault; then its old one is switched off there."""
    vault.ask("transit/keys/antiphon/rotate")
    rig = antiphon.start(given)
    written.put(rig, "tenant")
    vault.ask("transit/keys/antiphon/config", {"min_decryption_version": 2})
    fails(antiphon.start(given), "tenant", 4501)
    vault.ask("transit/keys/antiphon/config", {"min_decryption_version": 1})
    both = [*given, ("tenant", 2, "antiphon")]
    antiphon.start(both)
    assert antiphon.post("/v1/keys:rewrap") == {"Rewrapped": 1, "Newest": 3, "Problems": []}
    vault.ask("transit/keys/antiphon/config", {"min_decryption_version": 2})
    rig = antiphon.start([("tenant", 2, "antiphon"), *given[1:]])
    written.put(rig, "tenant")
    written.all_there(rig)
    step("4501: the key's old version is switched off, and nothing needs it after a rewrap")


def main() -> None:
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        vault, token = Vault(), Path(folder) / "token"
        token.write_text(vault.token + "\n")
        antiphon = Antiphon(sys.argv[1], data, "vault", settings(vault, token))
        try:
            given, written = [("tenant", 1, vault.new_key("antiphon")), ("other", 1, vault.new_key("derived", derived=True))], Written()
            make(antiphon, written, given)
            again(antiphon, written, given)
            plain = bound(vault, data)
            errors(antiphon, vault, written, given, token)
            away(antiphon, vault, written, given)
            rotated(antiphon, vault, written, given)
            assert antiphon.metric("calls_total") > 0 and antiphon.metric("failures_total") == 0
            last = [("tenant", 2, "antiphon"), *given[1:], ("default", 2, vault.new_key("default"))]
            from_folder(antiphon, written, last, "2 keys wrapped anew, 2 were already: 0 problems")
            antiphon.stop()
            secrets = [ROOT, vault.token, *(form.decode() for key in plain for form in texts(key))]
            told = ("the key server's token cannot be read", "the key server did not do it")
            assert all(text in antiphon.logs for text in told) and not any(secret in antiphon.logs for secret in secrets), antiphon.logs[-2000:]
        finally:
            antiphon.stop()
            vault.stop()
    print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
