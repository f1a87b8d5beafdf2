//! What a key server says when it does not do what it was asked: `__type` of the JSON body, or the header `x-amzn-ErrorType`.

use serde::Deserialize;

use super::super::caller::Failure;
use crate::key::KeyError;

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "__type")]
    kind: String,
}

/// Of an answer whose status is not 200.
pub(super) fn failure(status: u16, header: Option<&str>, body: &[u8]) -> Failure {
    let body = serde_json::from_slice::<Body>(body).ok().map(|body| body.kind);
    let named = body.as_deref().or(header).map(name);
    match (named.and_then(known), status) {
        (Some(failure), _) => failure,
        (None, 401 | 403) => Failure::Refused(KeyError::AccessDenied),
        (None, 429) => Failure::Busy,
        // One that is named is the server's own; else who knows who answers in its place.
        (None, 500..) if named.is_some() => Failure::Busy,
        (None, 400..=499) if named.is_some() => Failure::Refused(KeyError::Validation),
        (None, _) => Failure::Silent,
    }
}

/// `com.amazonaws.kms#DisabledException`, `DisabledException:http://...`: what is between.
fn name(text: &str) -> &str {
    let behind = text.rsplit('#').next().unwrap_or(text);
    behind.split(':').next().unwrap_or(behind)
}

fn known(name: &str) -> Option<Failure> {
    Some(Failure::Refused(match name {
        "AccessDeniedException"
        | "AccessDenied"
        | "NotAuthorizedException"
        | "NotAuthorized"
        | "OptInRequired" => KeyError::AccessDenied,
        // Who we say we are is not believed.
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "RequestExpired" => KeyError::AccessDenied,
        "DisabledException" => KeyError::Disabled,
        "ValidationException"
        | "ValidationError"
        | "InvalidCiphertextException"
        | "IncorrectKeyException" => KeyError::Validation,
        "InvalidKeyUsageException" => KeyError::InvalidUsage,
        "KMSInvalidStateException" => KeyError::InvalidState,
        "NotFoundException" => KeyError::NotFound,
        "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "KeyUnavailableException"
        | "DependencyTimeoutException"
        | "KMSInternalException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => return Some(Failure::Busy),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_the_error_of_the_specification() {
        for (status, kind, id) in [
            (400, "AccessDeniedException", 4500),
            (400, "UnrecognizedClientException", 4500),
            (400, "ExpiredTokenException", 4500),
            (400, "DisabledException", 4501),
            (400, "ValidationException", 4502),
            (400, "InvalidCiphertextException", 4502),
            (400, "IncorrectKeyException", 4502),
            (400, "SerializationException", 4502),
            (400, "InvalidKeyUsageException", 4504),
            (400, "KMSInvalidStateException", 4505),
            (400, "NotFoundException", 4506),
        ] {
            for text in [kind.to_owned(), format!("com.amazonaws.kms#{kind}"), format!("{kind}:http://a/")] {
                let body = serde_json::json!({ "__type": text, "message": "m" }).to_string();
                let Failure::Refused(error) = failure(status, None, body.as_bytes()) else {
                    panic!("{text}")
                };
                assert_eq!(error.id(), id, "{text}");
                assert_eq!(failure(status, Some(&text), b"<html>"), Failure::Refused(error), "{text}");
            }
        }
    }

    #[test]
    fn what_may_pass_is_no_refusal() {
        let named =
            |status, kind: &str| failure(status, None, format!("{{\"__type\":\"{kind}\"}}").as_bytes());
        for (status, kind) in [
            (400, "ThrottlingException"),
            (400, "LimitExceededException"),
            (500, "KMSInternalException"),
            (500, "KeyUnavailableException"),
            (503, "DependencyTimeoutException"),
            (500, "SomethingNew"),
        ] {
            assert_eq!(named(status, kind), Failure::Busy, "{kind}");
        }
        for (status, expected) in [
            (403, Failure::Refused(KeyError::AccessDenied)),
            (429, Failure::Busy),
            (502, Failure::Silent),
            (503, Failure::Silent),
            (404, Failure::Silent),
            (301, Failure::Silent),
            (204, Failure::Silent),
        ] {
            assert_eq!(failure(status, None, b"<html>"), expected, "{status}");
        }
    }
}
