//! Streams.
pub mod matroska;
