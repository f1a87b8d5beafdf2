//! Streams.
mod crypt;
mod error;
mod hour;
mod index;
pub mod ingest;
pub mod key;
mod layout;
pub mod matroska;
mod number;
mod sealed;
