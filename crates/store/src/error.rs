//! What can go wrong with a stream, as the caller's fault, a limit, a key's, the storage's, or damage.

use crate::key::KeyError;

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Streams of the account.
    #[error("the account has as many streams as it may")]
    Streams,
    /// Producers of one stream.
    #[error("the stream has as many producers as it may")]
    Sessions,
    /// Readers of one stream.
    #[error("the stream has as many readers as it may")]
    Readers,
    /// Stored bytes of one stream.
    #[error("the stream has as many stored bytes as it may")]
    StreamBytes,
    /// Stored bytes of all streams.
    #[error("the store has as many stored bytes as it may")]
    TotalBytes,
    /// Tags of a stream.
    #[error("the stream has as many tags as it may")]
    Tags,
}

/// What the storage did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageFault {
    /// No space, or over a quota of the file system.
    #[error("the storage is full")]
    Full,
    /// It does not answer, or not as it should.
    #[error("the storage is not available")]
    Unavailable,
    /// It does not let us.
    #[error("the storage refuses access")]
    Refused,
}

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No stream of that name or ARN.
    #[error("no such stream")]
    StreamNotFound,
    /// A stream of that name exists.
    #[error("a stream of that name exists")]
    StreamExists,
    /// It is being deleted.
    #[error("the stream is not active")]
    StreamNotActive,
    /// The stream has changed since the caller looked.
    #[error("the stream has another version")]
    VersionMismatch,
    /// A caller's value that cannot be; says which and why.
    #[error("{0}")]
    InvalidArgument(String),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// The stream keeps nothing.
    #[error("the stream has no data retention")]
    NoDataRetention,
    /// The end of a range lies before everything that is kept.
    #[error("End timestamp {end_ms} is outside of the stream retention period.")]
    BeforeRetention {
        /// The end that was asked for.
        end_ms: u64,
    },
    /// The key that protects the stream.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Bytes that are not what was written. The path is an object's.
    #[error("damaged object {path}: {what}")]
    Damaged {
        /// Which.
        path: String,
        /// How it shows.
        what: &'static str,
    },
    /// The storage. The message is for logs.
    #[error("{fault}: {message}")]
    Storage {
        /// Which kind.
        fault: StorageFault,
        /// What it said.
        message: String,
    },
    /// Another process has the store open.
    #[error("another process has the store open")]
    Locked,
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        Self::Storage { fault: fault(&e), message: e.to_string() }
    }
}

/// Finds the operating system's error behind the one of the crate.
fn fault(e: &object_store::Error) -> StorageFault {
    if matches!(e, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
    {
        return StorageFault::Refused;
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StorageFault::Full,
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    StorageFault::Refused
                }
                _ => StorageFault::Unavailable,
            };
        }
        source = error.source();
    }
    StorageFault::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_through_the_layers() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let e = object_store::Error::Generic { store: "test", source: Box::new(full) };
        assert!(matches!(Error::from(e), Error::Storage { fault: StorageFault::Full, .. }));
        let e = object_store::Error::Generic { store: "test", source: "gone".into() };
        assert!(matches!(Error::from(e), Error::Storage { fault: StorageFault::Unavailable, .. }));
    }
}
