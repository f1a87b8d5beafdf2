//! Why fragments cannot be repacked, with the names that the API has for it.

use axum::http::StatusCode;

use crate::error::KvsError;

/// What a track or a frame is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaFault {
    /// Not H.264 or H.265 in the first track with AAC in the second, nor AAC alone where that will do.
    Unsupported,
    /// A track without `CodecPrivate`.
    MissingPrivate,
    /// A `CodecPrivate` that is none.
    InvalidPrivate,
    /// A frame that is none.
    InvalidFrame,
}

impl From<MediaFault> for KvsError {
    fn from(fault: MediaFault) -> Self {
        let (exception, message) = match fault {
            MediaFault::Unsupported => (
                "UnsupportedStreamMediaTypeException",
                "Track 1 has to be V_MPEG4/ISO/AVC or V_MPEGH/ISO/HEVC, track 2 A_AAC; for playback A_AAC may be alone.",
            ),
            MediaFault::MissingPrivate => {
                ("MissingCodecPrivateDataException", "A track has no codec private data.")
            }
            MediaFault::InvalidPrivate => (
                "InvalidCodecPrivateDataException",
                "The codec private data of a track is not that of its codec.",
            ),
            MediaFault::InvalidFrame => {
                ("InvalidMediaFrameException", "A frame is not one of its track's codec.")
            }
        };
        Self::new(StatusCode::BAD_REQUEST, exception, message)
    }
}

/// No fragment where some were asked for.
pub(crate) fn no_fragments() -> KvsError {
    let message = "No fragments found in the stream for the streaming request.";
    KvsError::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
}
