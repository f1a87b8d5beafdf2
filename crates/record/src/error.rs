//! Why streaming could not be started, stopped or read. Whatever it is, the call goes on.

use antiphon_base::ErrorKind;
use antiphon_shard::JoinError;
use antiphon_store::Limit;
use antiphon_store::key::KeyError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has not enabled it.
    #[error("media streaming is off on this server: enable it in the settings")]
    Disabled,
    /// As many contacts are streamed as may be.
    #[error("as many contacts are streamed as may be at a time")]
    AtLimit,
    /// This contact is.
    #[error("this contact is streamed already")]
    AlreadyRunning,
    /// It is about to be.
    #[error("this contact is being started: try again")]
    Starting,
    /// It is not.
    #[error("this contact is not streamed")]
    NotRunning,
    /// No such contact.
    #[error("there is no such contact (any more)")]
    NoContact,
    /// It is known, and in no room.
    #[error("the contact is in no room now")]
    NotPresent,
    /// Streams that are kept in another way, or are not of this contact, have all names that its streams may have.
    #[error(
        "the names of this contact's streams are taken by streams that are kept in other ways: delete some"
    )]
    NamesTaken,
    /// Nothing of that kind is in the stream.
    #[error("{0}")]
    NotThere(&'static str),
    /// No such recording.
    #[error("there is no such recording (any more)")]
    NoRecording,
    /// Its room is recorded.
    #[error("this room is recorded already, or is about to be")]
    RoomRecorded,
    /// As many rooms are recorded as may be.
    #[error("as many rooms are recorded as may be at a time")]
    TooManyRecordings,
    /// That cannot be done with a recording as it stands.
    #[error("{0}")]
    WrongState(&'static str),
    /// A value that cannot be.
    #[error("{0}")]
    BadRequest(String),
    /// The room did not let the listener in.
    #[error(transparent)]
    Room(#[from] JoinError),
    /// The store.
    #[error("the store: {0}")]
    Store(#[from] antiphon_store::Error),
    /// The session in the store ended before its first fragment.
    #[error("the store did not take the first fragment")]
    Refused,
}

impl Error {
    /// The kind that clients see.
    pub fn kind(&self) -> ErrorKind {
        use antiphon_store::Error as Store;
        match self {
            Self::Disabled => ErrorKind::Disabled,
            Self::AtLimit | Self::TooManyRecordings | Self::Store(Store::Limit(Limit::Streams)) => {
                ErrorKind::AtLimit
            }
            Self::AlreadyRunning | Self::RoomRecorded => ErrorKind::AlreadyRunning,
            Self::Starting | Self::NotRunning | Self::NotPresent | Self::NamesTaken | Self::WrongState(_) => {
                ErrorKind::Conflict
            }
            Self::NoContact | Self::NoRecording | Self::NotThere(_) | Self::Store(Store::StreamNotFound) => {
                ErrorKind::NotFound
            }
            Self::BadRequest(_) | Self::Store(Store::InvalidArgument(_)) => ErrorKind::BadRequest,
            Self::Room(error) => error.kind,
            Self::Store(Store::NoDataRetention) => ErrorKind::NoDataRetention,
            // As a store that does not answer.
            Self::Store(Store::Key(KeyError::Unavailable)) => ErrorKind::Overloaded,
            Self::Store(
                Store::StreamNotActive | Store::StreamExists | Store::VersionMismatch | Store::Key(_),
            ) => ErrorKind::Conflict,
            Self::Store(Store::Limit(_) | Store::Storage { .. }) | Self::Refused => ErrorKind::Overloaded,
            Self::Store(_) => ErrorKind::Internal,
        }
    }
}
