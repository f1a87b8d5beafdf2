//! Who asks, and what they may do: access keys with policies, credentials of a session, bearer tokens.

use antiphon_store::{Store, StreamRef};
use axum::http::{StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};

use crate::error::KvsError;
use crate::sigv4::{self, Credentials, Payload, Refusal};
use crate::{Kvs, now_ms};

/// Patterns of one policy: each is looked at for each request.
pub const MAX_PATTERNS: usize = 64;
/// The longest pattern: as long as a stream's name.
const MAX_PATTERN_BYTES: usize = 256;

/// What somebody may do: operations, on streams. Patterns are names in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Such as `GetMedia` or `Get*`; `kinesisvideo:` before it may stand.
    pub actions: Vec<String>,
    /// Names of streams, such as `call-*`.
    pub streams: Vec<String>,
    /// Contacts' ids, where it is for those alone: streams that are theirs by the tag `ContactId`, and their fragments in others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Vec<String>>,
}

impl Policy {
    /// May do everything.
    pub fn everything() -> Self {
        Self { actions: vec!["*".into()], streams: vec!["*".into()], contacts: None }
    }

    /// Whether an operation is allowed on some stream.
    fn allows_action(&self, operation: &str) -> bool {
        self.actions.iter().any(|pattern| matches(action(pattern), operation))
    }

    /// Whether an allowed operation may be done to a stream.
    fn allows_stream(&self, name: &str) -> bool {
        self.streams.iter().any(|pattern| matches(pattern, name))
    }

    /// Whether all that `other` allows is allowed. A pattern is within another if that matches its text: the other's `*` then
    /// takes whatever its own stands for.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.actions.iter().all(|pattern| self.allows_action(action(pattern)))
            && other.streams.iter().all(|pattern| self.allows_stream(pattern))
            && match (&self.contacts, &other.contacts) {
                (None, _) => true,
                (Some(mine), Some(theirs)) => theirs.iter().all(|contact| mine.contains(contact)),
                (Some(_), None) => false,
            }
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// A pattern that allows nothing at all, or more patterns, or longer ones, than anybody needs.
    pub fn check(&self) -> Result<(), String> {
        let absent = crate::absent::ALL.iter().map(|(name, ..)| name);
        let all: Vec<_> = crate::OPERATIONS.iter().chain(absent).collect();
        let known = |pattern: &String| all.iter().any(|name| matches(action(pattern), name));
        if let Some(unknown) = self.actions.iter().find(|pattern| !known(pattern)) {
            return Err(format!("actions: {unknown:?} is no operation"));
        }
        let long = |list: &[String]| {
            list.len() > MAX_PATTERNS || list.iter().any(|p| p.is_empty() || p.len() > MAX_PATTERN_BYTES)
        };
        if long(&self.actions) || long(&self.streams) || self.contacts.as_deref().is_some_and(long) {
            return Err(format!(
                "actions, streams, contacts: at most {MAX_PATTERNS} of 1 to {MAX_PATTERN_BYTES} bytes"
            ));
        }
        Ok(())
    }
}

fn action(pattern: &str) -> &str {
    pattern.strip_prefix("kinesisvideo:").unwrap_or(pattern)
}

/// Whether a text is what a pattern with `*` says. Greedy from the left, so no pattern makes it slow.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// An access key with what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// How its requests are signed.
    pub credentials: Credentials,
    /// What they may do.
    pub policy: Policy,
}

/// Who was let in, for one operation.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    policy: Policy,
    store: Store,
    /// Its access key, or the one that stands for its token.
    pub(crate) id: String,
    operation: &'static str,
    /// Whether by an access key of the configuration, not by something that was made from one.
    pub(crate) permanent: bool,
}

impl Caller {
    /// Whether it may do the operation to a stream as a whole.
    pub(crate) fn may(&self, stream: &StreamRef) -> bool {
        self.may_in(stream) && self.contacts_in(stream).is_none()
    }

    /// The same, where it need not be the whole stream.
    fn may_in(&self, stream: &StreamRef) -> bool {
        self.policy.allows_stream(match stream {
            StreamRef::Name(name) => name.as_str(),
            StreamRef::Arn(arn) => arn.name(),
        })
    }

    /// The contacts whose fragments alone are its own there; `None`: all are.
    fn contacts_in(&self, stream: &StreamRef) -> Option<&[String]> {
        let contacts = self.policy.contacts.as_deref()?;
        // One that is not there is nobody's.
        (!self.store.is_of(stream, contacts).unwrap_or(false)).then_some(contacts)
    }

    /// Refuses a stream that is not its own as a whole.
    pub(crate) fn check(&self, stream: StreamRef) -> Result<StreamRef, KvsError> {
        if self.may(&stream) { Ok(stream) } else { Err(denied(self.operation)) }
    }

    /// The stream, and the contacts whose fragments alone it may read there (`None`: all).
    pub(crate) fn reading(&self, stream: StreamRef) -> Result<(StreamRef, Option<&[String]>), KvsError> {
        if !self.may_in(&stream) {
            return Err(denied(self.operation));
        }
        let contacts = self.contacts_in(&stream);
        Ok((stream, contacts))
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// Ends of the names of operations that say `AccessDeniedException`; the others say `NotAuthorizedException`.
const ACCESS_DENIED: [&str; 6] = [
    "Resource",
    "Configuration",
    "ConfigurationUpdate",
    "SignalingChannel",
    "SignalingChannels",
    "SignalingChannelEndpoint",
];

/// The exception that the API's models have for the operation: 401, but in `kinesis-video-webrtc-storage` 403.
pub(crate) fn denied(operation: &str) -> KvsError {
    let (status, exception) = if operation.starts_with("JoinStorageSession") {
        (StatusCode::FORBIDDEN, "AccessDeniedException")
    } else if ACCESS_DENIED.iter().any(|end| operation.ends_with(end)) {
        (StatusCode::UNAUTHORIZED, "AccessDeniedException")
    } else {
        (StatusCode::UNAUTHORIZED, "NotAuthorizedException")
    };
    let message = format!("This key or token does not allow kinesisvideo:{operation} here.");
    KvsError::new(status, exception, message)
}

/// Checks who asks, and whether they may do the operation at all.
pub(crate) fn authenticate(
    kvs: &Kvs,
    operation: &'static str,
    parts: &Parts,
    payload: Payload<'_>,
) -> Result<Caller, KvsError> {
    let now_s = now_ms() / 1000;
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer = authorization.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| {
        // Schemes are case-insensitive (RFC 9110, section 11.1).
        scheme.eq_ignore_ascii_case("bearer")
    });
    let (id, policy, permanent) = match bearer {
        Some((_, token)) => {
            let claims = kvs.tokens().read(token.trim(), now_s)?;
            (claims.key_id(), claims.policy, false)
        }
        None => signed(kvs, parts, payload, now_s)?,
    };
    if !policy.allows_action(operation) {
        return Err(denied(operation));
    }
    Ok(Caller { policy, store: kvs.store().clone(), id, operation, permanent })
}

fn signed(
    kvs: &Kvs,
    parts: &Parts,
    payload: Payload<'_>,
    now_s: u64,
) -> Result<(String, Policy, bool), KvsError> {
    let config = kvs.config();
    let request = sigv4::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
    };
    let permanent = |id: &str| config.keys.iter().find(|key| key.credentials.access_key_id == id);
    let find = |id: &str, token: Option<&str>| match (permanent(id), token) {
        (Some(key), _) => Ok((key.credentials.clone(), (id.to_owned(), key.policy.clone(), true))),
        (None, Some(token)) => {
            let session = kvs.tokens().session(id, token, now_s)?;
            Ok((session.credentials, (id.to_owned(), session.policy, false)))
        }
        (None, None) => Err(Refusal::UnknownKey),
    };
    Ok(sigv4::verify(request, payload, &find, now_s, config.skew.as_secs())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_stars_anywhere() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*-c", "a-b-c", true),
            ("a*b*c", "a.b.b.c", true),
            ("a*b*c", "a.c.b", false),
            ("a*a", "a", false),
            ("ab*b", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    fn policy(actions: &[&str], streams: &[&str]) -> Policy {
        let all = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Policy { actions: all(actions), streams: all(streams), contacts: None }
    }

    #[test]
    fn a_policy_for_contacts_covers_none_for_all() {
        let of = |contacts: &[&str]| Policy {
            contacts: Some(contacts.iter().map(|id| (*id).to_owned()).collect()),
            ..policy(&["GetMedia"], &["*"])
        };
        let all = policy(&["GetMedia"], &["*"]);
        assert!(all.covers(&of(&["a"])) && of(&["a", "b"]).covers(&of(&["b"])));
        assert!(!of(&["a"]).covers(&all) && !of(&["a"]).covers(&of(&["a", "b"])));
        assert!(of(&[""]).check().is_err());
        // What was written before there were contacts is read as it was meant.
        let old = r#"{"actions":["GetMedia"],"streams":["*"]}"#;
        assert_eq!(serde_json::from_str::<Policy>(old).unwrap(), all);
        assert_eq!(serde_json::to_string(&all).unwrap(), old);
    }

    #[test]
    fn a_policy_covers_what_allows_less() {
        let wide = policy(&["Get*", "kinesisvideo:ListFragments"], &["call-*", "demo"]);
        for narrow in [
            policy(&["GetMedia"], &["call-1"]),
            policy(&["kinesisvideo:Get*"], &["call-*-x"]),
            policy(&["ListFragments"], &["demo", "call-*"]),
            policy(&[], &[]),
        ] {
            assert!(wide.covers(&narrow), "{narrow:?}");
        }
        for other in [
            policy(&["*"], &["demo"]),
            policy(&["PutMedia"], &["demo"]),
            policy(&["GetMedia"], &["*"]),
            policy(&["GetMedia"], &["dem*"]),
            policy(&["G*"], &["demo"]),
        ] {
            assert!(!wide.covers(&other), "{other:?}");
        }
        assert!(Policy::everything().covers(&wide) && !wide.covers(&Policy::everything()));
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        policy(&["Get*", "kinesisvideo:PutMedia"], &["a"]).check().unwrap();
        for bad in [
            policy(&["GetMedai"], &["a"]),
            policy(&[""], &["a"]),
            policy(&["*"], &[""]),
            policy(&["*"], &[&"a".repeat(257)]),
            policy(&["*"; MAX_PATTERNS + 1], &["a"]),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
