//! What can go wrong, as one closed set.

use antiphon_base::ErrorKind;
use antiphon_wire::control::LeaveReason;

/// Why something did not work. Cloneable, because what ends a connection is told to all who wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server refused; the kind is for programs, the message for people.
    #[error("{message}")]
    Refused {
        /// The server's word.
        kind: ErrorKind,
        /// What to do about it.
        message: String,
    },
    /// The server was not reached, or what answered is not one of ours.
    #[error("{0}")]
    Connect(String),
    /// The connection broke off without a goodbye.
    #[error("the connection broke off: {0}")]
    ConnectionLost(String),
    /// The room was left, by us (`None`) or by the server; nothing more can be sent.
    #[error("the room was left")]
    Closed(Option<LeaveReason>),
    /// The server sent what this version does not understand.
    #[error("the server sent something unexpected: {0}")]
    Protocol(String),
    /// The caller gave something impossible.
    #[error("{0}")]
    Misuse(&'static str),
}
