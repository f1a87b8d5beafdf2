//! What a Vault says when it does not do what it was asked: a status, and `errors` in the JSON body. Errors have no codes, so their texts are
//! looked at, in this file only: those of OpenBao 2.7, which has them from Vault 1.14.

use serde::Deserialize;

use super::super::caller::Failure;
use crate::key::KeyError;

#[derive(Deserialize)]
struct Body {
    errors: Vec<String>,
}

/// Of an answer whose status is not 200.
pub(super) fn failure(status: u16, body: &[u8]) -> Failure {
    // Without it something else answers in the server's place.
    let errors = serde_json::from_slice::<Body>(body).ok().map(|body| body.errors.join("\n"));
    match (status, errors) {
        (401 | 403, _) => Failure::Refused(KeyError::AccessDenied),
        // 412: a replica that has not heard yet of what the token knows.
        (412 | 429, _) => Failure::Busy,
        // Sealed: no request will be answered. Nor by a standby that knows no leader.
        (503, _) | (_, None) => Failure::Silent,
        (500, Some(errors)) if errors.contains("active cluster node not found") => Failure::Silent,
        (404, Some(_)) => Failure::Refused(KeyError::NotFound),
        (400..=499, Some(errors)) => Failure::Refused(refusal(&errors)),
        (500.., Some(_)) => Failure::Busy,
        (_, Some(_)) => Failure::Silent,
    }
}

fn refusal(errors: &str) -> KeyError {
    let parts = [
        ("encryption key not found", KeyError::NotFound),
        ("soft-deleted", KeyError::InvalidState),
        // Below the key's min_decryption_version: switched off by whoever keeps it.
        ("disallowed by policy", KeyError::Disabled),
        ("not supported for key type", KeyError::InvalidUsage),
        ("non-AEAD", KeyError::InvalidUsage),
        ("missing client token", KeyError::AccessDenied),
    ];
    let known = parts.iter().find(|(part, _)| errors.contains(part));
    known.map_or(KeyError::Validation, |(_, error)| *error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_the_error_of_the_specification() {
        for (status, text, id) in [
            (403, "permission denied", 4500),
            (403, "1 error occurred:\n\t* permission denied\n\n", 4500),
            (400, "missing client token", 4500),
            (400, "ciphertext or signature version is disallowed by policy (too old)", 4501),
            (400, "cipher: message authentication failed", 4502),
            (400, "invalid ciphertext: no prefix", 4502),
            (400, "invalid ciphertext: version is too new", 4502),
            (405, "1 error occurred:\n\t* unsupported operation\n\n", 4502),
            (400, "message encryption not supported for key type ed25519", 4504),
            (400, "'[0].associated_data' provided for non-AEAD cipher suite rsa-2048", 4504),
            (400, "refusing to use soft-deleted key", 4505),
            (400, "encryption key not found", 4506),
            (404, "no handler for route \"transit/decrypt/a\". route entry not found.", 4506),
            (404, "namespace not found", 4506),
        ] {
            let body = serde_json::json!({ "errors": [text] }).to_string();
            let Failure::Refused(error) = failure(status, body.as_bytes()) else { panic!("{text}") };
            assert_eq!(error.id(), id, "{text}");
        }
    }

    #[test]
    fn what_may_pass_is_no_refusal() {
        let body = br#"{"errors":["something"]}"#;
        for (status, expected) in [(500, Failure::Busy), (429, Failure::Busy), (412, Failure::Busy)] {
            assert_eq!(failure(status, body), expected, "{status}");
        }
        assert_eq!(failure(503, br#"{"errors":["Vault is sealed"]}"#), Failure::Silent);
        let leaderless = br#"{"errors":["local node not active but active cluster node not found"]}"#;
        assert_eq!(failure(500, leaderless), Failure::Silent);
        for status in [204, 301, 400, 404, 500, 502, 503] {
            assert_eq!(failure(status, b"<html>"), Failure::Silent, "{status}");
        }
        assert_eq!(failure(403, b"<html>"), Failure::Refused(KeyError::AccessDenied));
    }
}
