//! What the store says around a fragment when it is read: Amazon's tags, and error documents.

use bytes::Bytes;

use crate::matroska::write;
use crate::number::FragmentNumber;

/// Why a fragment is missing from what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// GetMediaForFragmentList: no such fragment.
    NotFound,
    /// GetMedia: a fragment that was being written was dropped.
    Write,
    /// GetMedia: a fragment that was stored cannot be read any more.
    Lost,
    /// The stream's key.
    Key(crate::key::KeyError),
    /// The storage does not answer.
    Internal,
}

impl ReadFault {
    pub(crate) fn of(e: &crate::error::Error) -> Self {
        match e {
            crate::error::Error::Key(key) => Self::Key(*key),
            crate::error::Error::Damaged { .. } => Self::Lost,
            _ => Self::Internal,
        }
    }

    fn id_and_code(self) -> (u16, &'static str) {
        match self {
            Self::NotFound => (3000, "FRAGMENT_NOT_FOUND"),
            Self::Write => (3002, "WRITE_ERROR"),
            Self::Lost => (4000, "FRAGMENT_NOT_FOUND"),
            Self::Key(key) => (key.id(), crate::ingest::FaultKind::Key(key).code()),
            Self::Internal => (5000, "INTERNAL_ERROR"),
        }
    }
}

/// Seconds with three decimals, as the tags have them.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// What stands between a session's header and a fragment's cluster.
pub(crate) fn opening(number: FragmentNumber, producer_ms: u64) -> Bytes {
    write::tags(&[
        ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &number.to_string()),
        ("AWS_KINESISVIDEO_SERVER_TIMESTAMP", &seconds(number.server_ms())),
        ("AWS_KINESISVIDEO_PRODUCER_TIMESTAMP", &seconds(producer_ms)),
    ])
    .into()
}

/// What stands behind a fragment in GetMedia: how far the reader is behind, and where to go on.
pub(crate) fn closing(number: FragmentNumber, now_ms: u64) -> Bytes {
    write::tags(&[
        ("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW", &now_ms.saturating_sub(number.server_ms()).to_string()),
        ("AWS_KINESISVIDEO_CONTINUATION_TOKEN", &number.to_string()),
    ])
    .into()
}

/// A document without a cluster: a fragment that cannot be given. The contact, if one is known, is said too, because
/// programs look for it in every document.
pub(crate) fn error(number: FragmentNumber, fault: ReadFault, contact: &str) -> Bytes {
    let (id, code) = fault.id_and_code();
    let (number, id) = (number.to_string(), id.to_string());
    let mut tags = vec![
        ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", number.as_str()),
        ("AWS_KINESISVIDEO_ERROR_ID", &id),
        ("AWS_KINESISVIDEO_ERROR_CODE", code),
    ];
    if !contact.is_empty() {
        tags.push(("ContactId", contact));
    }
    [write::document_head(), write::tags(&tags)].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_codes_are_those_of_the_specification() {
        use crate::key::KeyError;
        for (fault, id, code) in [
            (ReadFault::NotFound, 3000, "FRAGMENT_NOT_FOUND"),
            (ReadFault::Write, 3002, "WRITE_ERROR"),
            (ReadFault::Lost, 4000, "FRAGMENT_NOT_FOUND"),
            (ReadFault::Key(KeyError::AccessDenied), 4500, "KMS_KEY_ACCESS_DENIED"),
            (ReadFault::Key(KeyError::NotFound), 4506, "KMS_KEY_NOT_FOUND"),
            (ReadFault::Internal, 5000, "INTERNAL_ERROR"),
        ] {
            assert_eq!(fault.id_and_code(), (id, code), "{fault:?}");
        }
    }

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(seconds(1_511_852_109_126), "1511852109.126");
        assert_eq!(seconds(5), "0.005");
    }
}
