//! Reading a track's stream back: documents of the store to frames in their places, stored or as they are written.
//!
//! What is stored was written by us, and is believed as little as if others had: the store's parser checks it again.

use std::collections::VecDeque;
use std::time::Duration;

use antiphon_store::matroska::{Bounds, Header, Item, Parser, id};
use antiphon_store::{FragmentNumber, Reader, Step};

use super::matroska::Form;
use super::take::Frame;
use crate::clock::Clock;

/// Bytes of a document's head, and of a fragment, as the store takes them.
const BOUNDS: Bounds = Bounds { header_bytes: 1 << 20, fragment_bytes: 64 << 20 };

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// What the track says of itself; again with each fragment.
    Form(Form),
    /// A frame.
    Frame(Frame),
}

/// A track being read.
pub(super) struct Footage {
    reader: Reader,
    clock: Clock,
    /// The last fragment that is wanted.
    until: Option<FragmentNumber>,
    documents: Documents,
    ended: bool,
}

impl Footage {
    pub(super) fn new(reader: Reader, clock: Clock, until: Option<FragmentNumber>) -> Self {
        Self { reader, clock, until, documents: Documents::default(), ended: false }
    }

    /// What comes next; waits for it. `None`: nothing more will come.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        loop {
            let over = self.documents.number.zip(self.until).is_some_and(|(number, until)| number > until);
            self.ended |= over;
            if let Some(piece) = self.documents.out.pop_front().filter(|_| !over) {
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            match self.reader.next(self.clock.now_ms()).await {
                Step::Bytes(bytes) => self.documents.push(&bytes),
                Step::End => self.ended = true,
                Step::Wait if self.last_was_given() => self.ended = true,
                Step::Wait => self.wait().await,
            }
        }
    }

    fn last_was_given(&self) -> bool {
        self.documents.number.zip(self.until).is_some_and(|(number, until)| number >= until)
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

/// A concatenation of documents, one per fragment.
#[derive(Debug, Default)]
pub(super) struct Documents {
    parser: Option<Parser>,
    header: Option<Header>,
    timecode: u64,
    number: Option<FragmentNumber>,
    pub(super) out: VecDeque<Piece>,
}

impl Documents {
    /// Takes whole elements; a document begins with such a piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.starts_with(&id::EBML.to_be_bytes()) {
            (self.parser, self.header) = (Some(Parser::new(BOUNDS)), None);
        }
        let Some(parser) = &mut self.parser else { return };
        parser.push(bytes);
        loop {
            match self.parser.as_mut().map(Parser::next_item) {
                Some(Ok(Some(item))) => self.item(item),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stored document is not what it should be");
                    self.parser = None;
                    return;
                }
                _ => return,
            }
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Header { header, .. } => {
                let number = header.tag("AWS_KINESISVIDEO_FRAGMENT_NUMBER").and_then(|n| n.parse().ok());
                self.number = number.or(self.number);
                self.out.extend(Form::read(&header.tracks).map(Piece::Form));
                self.header = Some(header);
            }
            Item::Timecode { ticks, .. } => self.timecode = ticks,
            Item::Block { bytes, block } => {
                let Some(header) = &self.header else { return };
                let at = self.timecode.checked_add_signed(i64::from(block.relative));
                let at_ms = at.and_then(|ticks| header.ticks_ms(ticks));
                let simple = bytes.starts_with(&[0xA3]) && block.len <= bytes.len();
                if let Some(at_ms) = at_ms.filter(|_| simple) {
                    let data = bytes.slice(bytes.len() - block.len..);
                    self.out.push_back(Piece::Frame(Frame { at_ms, key: block.key, data }));
                }
            }
            Item::ClusterStart { .. } | Item::ClusterEnd | Item::Other { .. } | Item::Trailing { .. } => {}
        }
    }
}
