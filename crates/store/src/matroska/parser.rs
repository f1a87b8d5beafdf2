//! A live Matroska document, taken in pieces of any size.
//!
//! Parses by declared sizes and never scans for magic bytes, because PCM may contain any. What it hands out are whole
//! elements, byte for byte as they came. It holds at most one element that is not complete yet, and no element larger
//! than what [`Bounds`] leave room for.

use bytes::{Buf, Bytes, BytesMut};

use super::block::{self, Block, BlockError};
use super::element::{ElementError, Elements, text, uint};
use super::header::{self, Header, HeaderError, Tag};
use super::id;
use super::vint::{Size, VintError, read_id, read_size};

/// What the parser takes before it says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes before the first cluster.
    pub header_bytes: usize,
    /// Bytes of a cluster with what follows it up to the next.
    pub fragment_bytes: usize,
}

/// What is wrong, and at which byte of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    /// What.
    pub kind: ParseErrorKind,
    /// Bytes from the beginning of the document to the element.
    pub offset: u64,
}

/// What can be wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// It does not begin with an EBML head of DocType `matroska` or `webm`.
    #[error("not a Matroska document")]
    NotMatroska,
    /// An element where none of its kind may be.
    #[error("element {0:#x} in the wrong place")]
    Misplaced(u32),
    /// An id, a size or a structure that cannot be.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// What stands before the first cluster.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A block's head.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A cluster's timecode of more than 8 bytes.
    #[error("a timecode of more than 8 bytes")]
    Timecode,
    /// More bytes before the first cluster than [`Bounds`] allow.
    #[error("more bytes before the first Cluster than allowed")]
    HeaderTooLarge,
    /// More bytes in a fragment than [`Bounds`] allow.
    #[error("more bytes in a fragment than allowed")]
    FragmentTooLarge,
}

impl From<VintError> for ParseErrorKind {
    fn from(e: VintError) -> Self {
        Self::Element(e.into())
    }
}

/// What came next. All `bytes` are the producer's own.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// All before the first cluster: EBML head, segment head, its elements.
    Header {
        /// Verbatim.
        bytes: Bytes,
        /// Understood.
        header: Header,
    },
    /// A cluster began: its id and size.
    ClusterStart {
        /// Verbatim.
        bytes: Bytes,
        /// Whether it says its size.
        known_size: bool,
        /// Where in the document.
        offset: u64,
    },
    /// The cluster's timecode.
    Timecode {
        /// The whole element.
        bytes: Bytes,
        /// In ticks of the header's scale.
        ticks: u64,
    },
    /// A frame: a `SimpleBlock` or a `BlockGroup`.
    Block {
        /// The whole element.
        bytes: Bytes,
        /// Its head.
        block: Block,
    },
    /// Any other element of the cluster.
    Other {
        /// The whole element.
        bytes: Bytes,
    },
    /// The cluster is complete.
    ClusterEnd,
    /// A level-1 element behind a cluster.
    Trailing {
        /// The whole element.
        bytes: Bytes,
        /// What is in it, if it is `Tags`.
        tags: Vec<Tag>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first cluster; `scanned` bytes of the buffer are whole elements, the segment's data begins at `data`.
    Prelude { scanned: usize, data: Option<usize> },
    /// In a cluster; its end, if its size is known.
    Cluster { end: Option<u64> },
    /// Between clusters.
    Segment,
}

/// Id, size and length of an element's head.
struct Head {
    id: u32,
    size: Size,
    len: usize,
}

/// Takes bytes with [`Parser::push`], gives [`Item`]s with [`Parser::next_item`] until that says `None`: more bytes are needed.
#[derive(Debug)]
pub struct Parser {
    bounds: Bounds,
    buffer: BytesMut,
    /// Bytes handed out: where the buffer begins in the document.
    offset: u64,
    /// Where the segment ends, if it says so.
    segment_end: Option<u64>,
    /// Where the fragment began.
    fragment: u64,
    state: State,
}

impl Parser {
    /// For one document.
    pub fn new(bounds: Bounds) -> Self {
        let state = State::Prelude { scanned: 0, data: None };
        Self { bounds, buffer: BytesMut::new(), offset: 0, segment_end: None, fragment: 0, state }
    }

    /// Appends what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that were pushed and not yet handed out.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Where the first element begins that is not complete yet.
    pub fn pending(&self) -> u64 {
        let scanned = if let State::Prelude { scanned, .. } = self.state { scanned } else { 0 };
        self.offset + scanned as u64
    }

    /// Whether a cluster is open whose end has not been seen.
    pub fn in_cluster(&self) -> bool {
        matches!(self.state, State::Cluster { .. })
    }

    /// Whether the document may end here: not before the first cluster, not inside an element.
    pub fn may_end(&self) -> bool {
        let whole = !matches!(self.state, State::Cluster { end: Some(_) } | State::Prelude { .. });
        whole && self.buffer.is_empty()
    }

    /// What comes next, `None` when more bytes are needed. After an error the parser is of no more use.
    ///
    /// # Errors
    /// The document is not one, or over the bounds.
    pub fn next_item(&mut self) -> Result<Option<Item>, ParseError> {
        match self.state {
            State::Prelude { .. } => self.prelude(),
            State::Cluster { end } => self.cluster(end),
            State::Segment => self.segment(),
        }
    }

    fn error<T>(&self, at: usize, kind: impl Into<ParseErrorKind>) -> Result<T, ParseError> {
        Err(ParseError { kind: kind.into(), offset: self.offset + at as u64 })
    }

    fn head(&self, at: usize) -> Result<Option<Head>, ParseError> {
        let bytes = self.buffer.get(at..).unwrap_or_default();
        let read = || -> Result<Option<Head>, VintError> {
            let Some((id, id_len)) = read_id(bytes)? else { return Ok(None) };
            let Some((size, size_len)) = read_size(&bytes[id_len..])? else { return Ok(None) };
            Ok(Some(Head { id, size, len: id_len + size_len }))
        };
        read().or_else(|e| self.error(at, e))
    }

    /// Bytes of the whole element at `at`, if its size is known, within `room` and inside the segment.
    fn whole(&self, at: usize, head: &Head, room: usize, over: ParseErrorKind) -> Result<usize, ParseError> {
        let Size::Known(size) = head.size else { return self.error(at, ElementError::UnknownSize) };
        let total = usize::try_from(size).ok().and_then(|s| s.checked_add(head.len));
        let Some(total) = total.filter(|t| *t <= room) else { return self.error(at, over) };
        let end = self.offset + (at + total) as u64;
        if self.segment_end.is_some_and(|s| end > s) {
            return self.error(at, ElementError::PastParent);
        }
        Ok(total)
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.offset += len as u64;
        self.buffer.split_to(len).freeze()
    }

    // Before the first cluster.

    fn prelude(&mut self) -> Result<Option<Item>, ParseError> {
        while let State::Prelude { scanned, data } = self.state {
            let Some(head) = self.head(scanned)? else { break };
            if head.id == id::CLUSTER && data.is_some() {
                return self.header(scanned, data.unwrap_or_default()).map(Some);
            }
            let place_ok = match head.id {
                id::EBML => scanned == 0,
                id::VOID | id::CRC_32 => scanned > 0,
                id::SEGMENT => scanned > 0 && data.is_none(),
                _ => data.is_some(),
            };
            if !place_ok {
                let kind = if scanned == 0 {
                    ParseErrorKind::NotMatroska
                } else {
                    ParseErrorKind::Misplaced(head.id)
                };
                return self.error(scanned, kind);
            }
            if head.id == id::SEGMENT {
                self.segment_end = match head.size {
                    Size::Unknown => None,
                    Size::Known(size) => Some((scanned + head.len) as u64 + size),
                };
                let begin = scanned + head.len;
                self.state = State::Prelude { scanned: begin, data: Some(begin) };
                continue;
            }
            let room = self.bounds.header_bytes.saturating_sub(scanned);
            let total = self.whole(scanned, &head, room, ParseErrorKind::HeaderTooLarge)?;
            if self.buffer.len() < scanned + total {
                break;
            }
            if head.id == id::EBML {
                self.doc_type(&self.buffer[head.len..total])?;
            }
            self.state = State::Prelude { scanned: scanned + total, data };
        }
        Ok(None)
    }

    fn doc_type(&self, data: &[u8]) -> Result<(), ParseError> {
        for element in Elements::new(data) {
            match element {
                Ok(e) if e.id == id::DOC_TYPE && !matches!(text(e.data).as_str(), "matroska" | "webm") => {
                    return self.error(0, ParseErrorKind::NotMatroska);
                }
                Ok(_) => {}
                Err(e) => return self.error(0, e),
            }
        }
        Ok(())
    }

    fn header(&mut self, len: usize, data: usize) -> Result<Item, ParseError> {
        let all = Elements::new(&self.buffer[data..len]).collect::<Result<Vec<_>, _>>();
        let header = match all {
            Ok(elements) => Header::parse(elements.into_iter()).or_else(|e| self.error(data, e))?,
            Err(e) => return self.error(data, e),
        };
        self.state = State::Segment;
        Ok(Item::Header { bytes: self.take(len), header })
    }

    // Between clusters, and what follows one.

    fn segment(&mut self) -> Result<Option<Item>, ParseError> {
        let Some(head) = self.head(0)? else { return Ok(None) };
        if head.id == id::CLUSTER {
            self.fragment = self.offset;
            return self.cluster_start(&head).map(Some);
        }
        if id::is_misplaced_behind_cluster(head.id) {
            return self.error(0, ParseErrorKind::Misplaced(head.id));
        }
        let total = self.whole(0, &head, self.room(), ParseErrorKind::FragmentTooLarge)?;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let tags = match head.id {
            id::TAGS => header::tags(&self.buffer[head.len..total]).or_else(|e| self.error(0, e))?,
            _ => Vec::new(),
        };
        Ok(Some(Item::Trailing { bytes: self.take(total), tags }))
    }

    /// Bytes that the fragment may still have.
    fn room(&self) -> usize {
        let used = usize::try_from(self.offset - self.fragment).unwrap_or(usize::MAX);
        self.bounds.fragment_bytes.saturating_sub(used)
    }

    fn cluster_start(&mut self, head: &Head) -> Result<Item, ParseError> {
        let end = match head.size {
            Size::Unknown => None,
            Size::Known(_) => {
                let total = self.whole(0, head, self.room(), ParseErrorKind::FragmentTooLarge)?;
                Some(self.offset + total as u64)
            }
        };
        self.state = State::Cluster { end };
        let offset = self.offset;
        Ok(Item::ClusterStart { bytes: self.take(head.len), known_size: end.is_some(), offset })
    }

    // In a cluster.

    fn cluster(&mut self, end: Option<u64>) -> Result<Option<Item>, ParseError> {
        if end == Some(self.offset) || self.segment_end == Some(self.offset) {
            return Ok(Some(self.cluster_end()));
        }
        let Some(head) = self.head(0)? else { return Ok(None) };
        let leaves = id::is_level_1(head.id) || matches!(head.id, id::EBML | id::SEGMENT);
        if leaves && end.is_none() {
            return Ok(Some(self.cluster_end()));
        }
        if leaves {
            return self.error(0, ParseErrorKind::Misplaced(head.id));
        }
        let total = self.whole(0, &head, self.room(), ParseErrorKind::FragmentTooLarge)?;
        if end.is_some_and(|end| self.offset + total as u64 > end) {
            return self.error(0, ElementError::PastParent);
        }
        if self.buffer.len() < total {
            return Ok(None);
        }
        let data = &self.buffer[head.len..total];
        let item = match head.id {
            id::TIMECODE => match uint(data) {
                Some(ticks) => Item::Timecode { bytes: self.take(total), ticks },
                None => return self.error(0, ParseErrorKind::Timecode),
            },
            id::SIMPLE_BLOCK => {
                let block = block::parse(data).or_else(|e| self.error(0, e))?;
                Item::Block { bytes: self.take(total), block }
            }
            id::BLOCK_GROUP => {
                let block = block::parse_group(data).or_else(|e| self.error(0, e))?;
                Item::Block { bytes: self.take(total), block }
            }
            _ => Item::Other { bytes: self.take(total) },
        };
        Ok(Some(item))
    }

    fn cluster_end(&mut self) -> Item {
        self.state = State::Segment;
        Item::ClusterEnd
    }

    /// Ends a cluster of unknown size here, before what would show its end has come. `false`: inside an element, in a
    /// cluster of known size, or before the first cluster.
    pub fn end_cluster(&mut self) -> bool {
        let may = self.may_end();
        if may {
            self.state = State::Segment;
        }
        may
    }

    /// Throws away what is incomplete: the document ended inside an element.
    pub fn drop_rest(&mut self) {
        let rest = self.buffer.len();
        self.buffer.advance(rest);
    }
}
