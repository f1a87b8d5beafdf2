//! Matroska as Kinesis Video streams use it (RFC 8794, RFC 9559): a live document in, whole elements out, and the few
//! elements that the store writes itself.

pub mod block;
pub mod element;
pub mod header;
pub mod id;
mod parser;
#[cfg(test)]
mod tests;
pub mod vint;
pub mod write;

pub use block::Block;
pub use header::{Header, Tag, Track};
pub use parser::{Bounds, Item, ParseError, ParseErrorKind, Parser};
