//! A stream being read back: its bytes as the store gives them, stored or live, and the documents that they are, one per fragment.
//!
//! Any producer may have written them, and ours are believed as little: the store's parser checks them again.

use std::time::Duration;

use antiphon_store::matroska::{Bounds, Header, Item, Parser, id};
use antiphon_store::{FragmentNumber, Reader, Step};
use bytes::Bytes;

use crate::clock::Clock;

/// Bytes of a document's head, and of a fragment, as the store takes them.
const BOUNDS: Bounds = Bounds { header_bytes: 1 << 20, fragment_bytes: 64 << 20 };

/// Where a stream is read, up to a fragment or without an end.
pub(crate) struct Tail {
    reader: Reader,
    clock: Clock,
    /// The last fragment that is wanted.
    until: Option<FragmentNumber>,
    ended: bool,
}

impl Tail {
    pub(crate) fn new(reader: Reader, clock: Clock, until: Option<FragmentNumber>) -> Self {
        Self { reader, clock, until, ended: false }
    }

    /// A fragment is behind the last one that is wanted: nothing more is. `true` from then on.
    pub(crate) fn ends_before(&mut self, fragment: Option<FragmentNumber>) -> bool {
        self.ended |= fragment.zip(self.until).is_some_and(|(number, until)| number > until);
        self.ended
    }

    /// Whole elements; waits for them. `fragment`: the one that came last. `None`: nothing more will come.
    pub(crate) async fn next(&mut self, fragment: Option<FragmentNumber>) -> Option<Bytes> {
        let last_was_given = fragment.zip(self.until).is_some_and(|(number, until)| number >= until);
        while !self.ended {
            match self.reader.next(self.clock.now_ms()).await {
                Step::Bytes(bytes) => return Some(bytes),
                Step::End => self.ended = true,
                Step::Wait if last_was_given => self.ended = true,
                Step::Wait => self.wait().await,
            }
        }
        None
    }

    async fn wait(&mut self) {
        match self.reader.deadline_ms() {
            None => self.reader.changed().await,
            Some(at) => {
                let left = Duration::from_millis(at.saturating_sub(self.clock.now_ms()));
                let _ = tokio::time::timeout(left, self.reader.changed()).await;
            }
        }
    }
}

/// What is in a document.
pub(crate) enum Part<'a> {
    /// It begins. Its number, if it says one.
    Header(Option<FragmentNumber>, &'a Header),
    /// A simple block.
    Block {
        /// Number of its track.
        track: u64,
        /// Milliseconds since 1970 by the producer's clock.
        at_ms: u64,
        key: bool,
        data: Bytes,
    },
    /// It has no header, or is not what it should be: a fragment is missing.
    Missing,
}

/// A concatenation of documents.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    parser: Option<Parser>,
    header: Option<Header>,
    timecode: u64,
    number: Option<FragmentNumber>,
}

impl Documents {
    /// Of the newest document that has one.
    pub(crate) fn number(&self) -> Option<FragmentNumber> {
        self.number
    }

    /// Takes whole elements; a document begins with such a piece.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Part<'_>)) {
        if bytes.starts_with(&id::EBML.to_be_bytes()) {
            if self.parser.is_some() && self.header.is_none() {
                take(Part::Missing);
            }
            (self.parser, self.header) = (Some(Parser::new(BOUNDS)), None);
        }
        let Some(parser) = &mut self.parser else { return };
        parser.push(bytes);
        loop {
            match self.parser.as_mut().map(Parser::next_item) {
                Some(Ok(Some(item))) => self.item(item, &mut take),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stored document is not what it should be");
                    self.parser = None;
                    return take(Part::Missing);
                }
                _ => return,
            }
        }
    }

    fn item(&mut self, item: Item, take: &mut impl FnMut(Part<'_>)) {
        match item {
            Item::Header { header, .. } => {
                let number = header.tag("AWS_KINESISVIDEO_FRAGMENT_NUMBER").and_then(|n| n.parse().ok());
                self.number = number.or(self.number);
                take(Part::Header(number, self.header.insert(header)));
            }
            Item::Timecode { ticks, .. } => self.timecode = ticks,
            Item::Block { bytes, block } => {
                let Some(header) = &self.header else { return };
                let at = self.timecode.checked_add_signed(i64::from(block.relative));
                let at_ms = at.and_then(|ticks| header.ticks_ms(ticks));
                let simple = bytes.starts_with(&[0xA3]) && block.len <= bytes.len();
                if let Some(at_ms) = at_ms.filter(|_| simple) {
                    let data = bytes.slice(bytes.len() - block.len..);
                    take(Part::Block { track: block.track, at_ms, key: block.key, data });
                }
            }
            Item::ClusterStart { .. } | Item::ClusterEnd | Item::Other { .. } | Item::Trailing { .. } => {}
        }
    }
}
