//! Reading a track's stream back: documents of the store to frames in their places, stored or as they are written.

use std::collections::VecDeque;

use antiphon_store::{FragmentNumber, Reader};

use crate::clock::Clock;
use crate::documents::{Documents, Part, Tail};
use crate::matroska::Form;
use crate::take::Frame;

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
    tail: Tail,
    pieces: Pieces,
}

impl Footage {
    pub(super) fn new(reader: Reader, clock: Clock, until: Option<FragmentNumber>) -> Self {
        Self { tail: Tail::new(reader, clock, until), pieces: Pieces::default() }
    }

    /// What comes next; waits for it. `None`: nothing more will come.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        loop {
            let number = self.pieces.documents.number();
            if self.tail.ends_before(number) {
                return None;
            }
            if let Some(piece) = self.pieces.out.pop_front() {
                return Some(piece);
            }
            let bytes = self.tail.next(number).await?;
            self.pieces.push(&bytes);
        }
    }
}

/// Documents and what came of them.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    documents: Documents,
    pub(super) out: VecDeque<Piece>,
}

impl Pieces {
    /// Takes whole elements.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let out = &mut self.out;
        self.documents.push(bytes, |part| match part {
            Part::Header(_, header) => out.extend(Form::read(&header.tracks).map(Piece::Form)),
            Part::Block { at_ms, key, data, .. } => out.push_back(Piece::Frame(Frame { at_ms, key, data })),
            Part::Missing => {}
        });
    }
}
