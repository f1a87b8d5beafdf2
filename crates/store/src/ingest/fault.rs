//! What ends a fragment or a producer's session, with the ids and codes of Kinesis Video Streams' acknowledgements.

use crate::error::Error;
use crate::key::KeyError;
use crate::matroska::{ParseError, ParseErrorKind, header::HeaderError};

/// Why a fragment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The producer's connection broke.
    #[error("the producer's stream could not be read")]
    StreamRead,
    /// A fragment over its limit of bytes.
    #[error("the fragment has more bytes than allowed")]
    FragmentSize,
    /// A fragment over its limit of time.
    #[error("the fragment lasts longer than allowed")]
    FragmentDuration,
    /// A session over its limit of time.
    #[error("the session lasts longer than allowed")]
    ConnectionDuration,
    /// A cluster that begins before the one before it.
    #[error("the timecode is less than that of the fragment before")]
    TimecodeBackwards,
    /// Not the Matroska that was asked for.
    #[error("the Matroska is not valid")]
    InvalidMkv,
    /// A producer time that cannot be.
    #[error("the producer timestamp cannot be")]
    ProducerTimestamp,
    /// The stream is being deleted, or not yet made.
    #[error("the stream is not active")]
    StreamNotActive,
    /// More tags, or longer ones, than allowed, or with a name that is ours.
    #[error("the fragment has more metadata than allowed")]
    MetadataLimit,
    /// A block of a track that the header does not have.
    #[error("a block of a track that is not in Tracks")]
    TrackNumber,
    /// A track of the header has no block in the fragment.
    #[error("a track without frames in the fragment")]
    FramesMissing,
    /// More tracks than allowed.
    #[error("more tracks than allowed")]
    TrackCount,
    /// The stream's key.
    #[error(transparent)]
    Key(KeyError),
    /// The stream was deleted meanwhile.
    #[error("the stream was deleted")]
    StreamDeleted,
    /// Ours.
    #[error("internal error")]
    Internal,
    /// It could not be stored.
    #[error("the fragment could not be stored")]
    Archival,
}

impl FaultKind {
    /// `ErrorId` of the acknowledgement.
    pub fn id(self) -> u16 {
        match self {
            Self::StreamRead => 4000,
            Self::FragmentSize => 4001,
            Self::FragmentDuration => 4002,
            Self::ConnectionDuration => 4003,
            Self::TimecodeBackwards => 4004,
            Self::InvalidMkv => 4006,
            Self::ProducerTimestamp => 4007,
            Self::StreamNotActive => 4008,
            Self::MetadataLimit => 4009,
            Self::TrackNumber => 4010,
            Self::FramesMissing => 4011,
            Self::TrackCount => 4012,
            Self::Key(key) => key.id(),
            Self::StreamDeleted => 4507,
            Self::Internal => 5000,
            Self::Archival => 5001,
        }
    }

    /// `ErrorCode` of the acknowledgement.
    pub fn code(self) -> &'static str {
        match self {
            Self::StreamRead => "STREAM_READ_ERROR",
            Self::FragmentSize => "MAX_FRAGMENT_SIZE_REACHED",
            Self::FragmentDuration => "MAX_FRAGMENT_DURATION_REACHED",
            Self::ConnectionDuration => "MAX_CONNECTION_DURATION_REACHED",
            Self::TimecodeBackwards => "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS",
            Self::InvalidMkv => "INVALID_MKV_DATA",
            Self::ProducerTimestamp => "INVALID_PRODUCER_TIMESTAMP",
            Self::StreamNotActive => "STREAM_NOT_ACTIVE",
            Self::MetadataLimit => "FRAGMENT_METADATA_LIMIT_REACHED",
            Self::TrackNumber => "TRACK_NUMBER_MISMATCH",
            Self::FramesMissing => "FRAMES_MISSING_FOR_TRACK",
            Self::TrackCount => "MORE_THAN_ALLOWED_TRACKS_FOUND",
            Self::Key(KeyError::AccessDenied) => "KMS_KEY_ACCESS_DENIED",
            Self::Key(KeyError::Disabled) => "KMS_KEY_DISABLED",
            Self::Key(KeyError::Validation) => "KMS_KEY_VALIDATION_ERROR",
            Self::Key(KeyError::Unavailable) => "KMS_KEY_UNAVAILABLE",
            Self::Key(KeyError::InvalidUsage) => "KMS_KEY_INVALID_USAGE",
            Self::Key(KeyError::InvalidState) => "KMS_KEY_INVALID_STATE",
            Self::Key(KeyError::NotFound) => "KMS_KEY_NOT_FOUND",
            Self::StreamDeleted => "STREAM_DELETED",
            Self::Internal => "INTERNAL_ERROR",
            Self::Archival => "ARCHIVAL_ERROR",
        }
    }
}

impl From<&Error> for FaultKind {
    fn from(e: &Error) -> Self {
        match e {
            Error::Key(key) => Self::Key(*key),
            Error::StreamNotFound => Self::StreamDeleted,
            Error::StreamNotActive => Self::StreamNotActive,
            _ => Self::Archival,
        }
    }
}

/// A fault with the fragment it befell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", parse.map(|p| format!(": {p}")).unwrap_or_default())]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The cluster's timecode in milliseconds, if one was open.
    pub timecode_ms: Option<u64>,
    /// Where in the document, if it is the document's fault.
    pub parse: Option<ParseError>,
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self { kind, timecode_ms: None, parse: None }
    }
}

impl From<ParseError> for Fault {
    fn from(e: ParseError) -> Self {
        let kind = match e.kind {
            ParseErrorKind::FragmentTooLarge => FaultKind::FragmentSize,
            ParseErrorKind::Header(HeaderError::TooManyTracks) => FaultKind::TrackCount,
            ParseErrorKind::Header(HeaderError::TooManyTags) => FaultKind::MetadataLimit,
            _ => FaultKind::InvalidMkv,
        };
        Self { kind, timecode_ms: None, parse: Some(e) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each id and code of the specification, but 4005: it is deprecated, and 4012 stands instead of it.
    #[test]
    fn ids_and_codes_are_those_of_the_specification() {
        let table = [
            (FaultKind::StreamRead, 4000, "STREAM_READ_ERROR"),
            (FaultKind::FragmentSize, 4001, "MAX_FRAGMENT_SIZE_REACHED"),
            (FaultKind::FragmentDuration, 4002, "MAX_FRAGMENT_DURATION_REACHED"),
            (FaultKind::ConnectionDuration, 4003, "MAX_CONNECTION_DURATION_REACHED"),
            (FaultKind::TimecodeBackwards, 4004, "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS"),
            (FaultKind::InvalidMkv, 4006, "INVALID_MKV_DATA"),
            (FaultKind::ProducerTimestamp, 4007, "INVALID_PRODUCER_TIMESTAMP"),
            (FaultKind::StreamNotActive, 4008, "STREAM_NOT_ACTIVE"),
            (FaultKind::MetadataLimit, 4009, "FRAGMENT_METADATA_LIMIT_REACHED"),
            (FaultKind::TrackNumber, 4010, "TRACK_NUMBER_MISMATCH"),
            (FaultKind::FramesMissing, 4011, "FRAMES_MISSING_FOR_TRACK"),
            (FaultKind::TrackCount, 4012, "MORE_THAN_ALLOWED_TRACKS_FOUND"),
            (FaultKind::Key(KeyError::AccessDenied), 4500, "KMS_KEY_ACCESS_DENIED"),
            (FaultKind::Key(KeyError::Disabled), 4501, "KMS_KEY_DISABLED"),
            (FaultKind::Key(KeyError::Validation), 4502, "KMS_KEY_VALIDATION_ERROR"),
            (FaultKind::Key(KeyError::Unavailable), 4503, "KMS_KEY_UNAVAILABLE"),
            (FaultKind::Key(KeyError::InvalidUsage), 4504, "KMS_KEY_INVALID_USAGE"),
            (FaultKind::Key(KeyError::InvalidState), 4505, "KMS_KEY_INVALID_STATE"),
            (FaultKind::Key(KeyError::NotFound), 4506, "KMS_KEY_NOT_FOUND"),
            (FaultKind::StreamDeleted, 4507, "STREAM_DELETED"),
            (FaultKind::Internal, 5000, "INTERNAL_ERROR"),
            (FaultKind::Archival, 5001, "ARCHIVAL_ERROR"),
        ];
        for (kind, id, code) in table {
            assert_eq!((kind.id(), kind.code()), (id, code), "{kind:?}");
        }
    }
}
