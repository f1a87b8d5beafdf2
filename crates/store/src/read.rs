//! GetMedia: stored fragments byte for byte, then live ones element by element.
//!
//! A reader never makes its producer wait: it follows fragments that are shared, at its own pace, and what it has not
//! read yet of stored ones lies in the storage.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::contact::Only;
use crate::document::{self, ReadFault};
use crate::error::{Error, Limit};
use crate::index::{Clock, Entry};
use crate::live::{End, LiveFragment};
use crate::matroska::write;
use crate::number::FragmentNumber;
use crate::store::Inner;
use crate::stream::{Next, State, Stream};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the latest fragment.
    Now,
    /// With the oldest.
    Earliest,
    /// With the first behind this number, which need not exist. A continuation token is such a number.
    After(FragmentNumber),
    /// With the fragment that the time falls into, or else the first one later.
    At(Clock, u64),
}

/// What a reader has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More of the response: whole elements.
    Bytes(Bytes),
    /// Nothing now. Call [`Reader::next`] again after [`Reader::changed`], or at [`Reader::deadline_ms`].
    Wait,
    /// The response is complete.
    End,
}

/// Of pieces that are handed out as one: some blocks of sound.
const MAX_JOINED_BYTES: usize = 16 << 10;

enum Cursor {
    Seek(Clock, u64),
    After(FragmentNumber),
    /// Following a live fragment, of which so many chunks were read.
    Live(Arc<LiveFragment>, usize),
    End,
}

/// One GetMedia response being made.
pub struct Reader {
    inner: Arc<Inner>,
    stream: Arc<Stream>,
    only: Option<Only>,
    cursor: Cursor,
    changed: watch::Receiver<u64>,
    out: VecDeque<Bytes>,
    id: u64,
    opened_ms: u64,
    /// When the last fragment was given.
    delivered_ms: Option<u64>,
    deadline_ms: Option<u64>,
}

impl Reader {
    pub(crate) fn open(
        inner: &Arc<Inner>,
        stream: Arc<Stream>,
        only: Option<Only>,
        start: Start,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let (cursor, id) = {
            let mut state = stream.state();
            if !state.active() {
                return Err(Error::StreamNotActive);
            }
            if state.readers >= inner.config.max_readers {
                return Err(Limit::Readers.into());
            }
            state.readers += 1;
            state.next_reader += 1;
            (cursor(&state, start, now_ms), state.next_reader)
        };
        Ok(Self {
            inner: inner.clone(),
            changed: stream.watch(),
            stream,
            only,
            cursor,
            out: VecDeque::new(),
            id,
            opened_ms: now_ms,
            delivered_ms: None,
            deadline_ms: None,
        })
    }

    /// What comes next. Errors of the storage and damaged fragments become error documents in the response, so this
    /// cannot fail.
    pub async fn next(&mut self, now_ms: u64) -> Step {
        loop {
            if let Some(bytes) = joined(&mut self.out) {
                return Step::Bytes(bytes);
            }
            // Before looking: what changes from here on wakes us again.
            self.changed.borrow_and_update();
            let more = match &self.cursor {
                Cursor::End => return Step::End,
                Cursor::Live(live, seen) => self.follow(live.clone(), *seen, now_ms),
                Cursor::Seek(..) | Cursor::After(_) => self.advance(now_ms).await,
            };
            if !more {
                return Step::Wait;
            }
        }
    }

    /// Waits until something may be new.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The stream is held by us: its sender cannot be gone.
            std::future::pending::<()>().await;
        }
    }

    /// When [`Reader::next`] has to be called although nothing changed: it may be the end then.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// Reads on in a live fragment; `false`: nothing new.
    fn follow(&mut self, live: Arc<LiveFragment>, seen: usize, now_ms: u64) -> bool {
        let news = live.news(seen);
        if news.chunks.is_empty() && news.end.is_none() {
            self.deadline_ms = None;
            return false;
        }
        let seen = seen + news.chunks.len();
        self.out.extend(news.chunks);
        let Some(end) = news.end else {
            self.cursor = Cursor::Live(live, seen);
            return true;
        };
        self.out.push_back(document::closing(live.number, now_ms));
        if end == End::Dropped {
            let contact = self.stream.state().whose();
            self.out.push_back(document::error(live.number, ReadFault::Write, &contact));
        }
        self.delivered(live.number, now_ms);
        true
    }

    fn delivered(&mut self, number: FragmentNumber, now_ms: u64) {
        self.cursor = Cursor::After(number);
        self.delivered_ms = Some(now_ms);
        self.stream.state().positions.insert(self.id, number.server_ms());
    }

    /// Goes to the next fragment; `false`: there is none yet.
    async fn advance(&mut self, now_ms: u64) -> bool {
        let next = {
            let state = self.stream.state();
            match self.cursor {
                _ if !state.active() => None,
                Cursor::Seek(clock, at_ms) => {
                    Some(self.theirs(&state, state.at(clock, at_ms, now_ms), now_ms))
                }
                Cursor::After(number) => Some(match &self.only {
                    Some(only) => state.next_of(only, number, now_ms),
                    None => state.next(number, now_ms),
                }),
                Cursor::Live(..) | Cursor::End => None,
            }
        };
        match next {
            Some(Next::Live(live)) => {
                self.out.push_back(live.header.bytes.clone());
                self.out.push_back(document::opening(live.number, live.producer_ms));
                self.cursor = Cursor::Live(live, 0);
                true
            }
            Some(Next::Stored(entry)) => {
                self.stored(&entry, now_ms).await;
                true
            }
            Some(Next::Nothing) => self.wait_or_end(now_ms),
            None => self.end(),
        }
    }

    /// From what a time has found on, the first one that this reader may have.
    fn theirs(&self, state: &State, found: Next, now_ms: u64) -> Next {
        let Some(only) = &self.only else { return found };
        match found {
            Next::Live(live) => state.next_of(only, live.number.before(), now_ms),
            Next::Stored(entry) => state.next_of(only, entry.number.before(), now_ms),
            Next::Nothing => Next::Nothing,
        }
    }

    async fn stored(&mut self, entry: &Entry, now_ms: u64) {
        match read(&self.inner, &self.stream, entry).await {
            Ok(pieces) => {
                self.out.extend(pieces);
                self.out.push_back(document::closing(entry.number, now_ms));
                self.delivered(entry.number, now_ms);
            }
            // Removed between looking and reading, because its time was over or the stream is going.
            Err(_) if self.stream.state().index.get(entry.number).is_none() => {
                self.cursor = Cursor::After(entry.number);
            }
            Err(error) => {
                let fault = ReadFault::of(&error);
                let contact = match &self.only {
                    Some(only) => only.name(entry),
                    None => self.stream.state().whose(),
                };
                self.out.push_back(document::error(entry.number, fault, &contact));
                self.delivered(entry.number, now_ms);
                // What will fail for the next one too ends the response.
                if fault != ReadFault::Lost {
                    self.end();
                }
            }
        }
    }

    /// Nothing is there to read: wait for more, or end.
    fn wait_or_end(&mut self, now_ms: u64) -> bool {
        let deadline = {
            let state = self.stream.state();
            let config = &self.inner.config;
            match (state.places.count(), state.ended, self.delivered_ms) {
                (1.., ..) => None,
                (0, Some(ended), Some(_)) if ended.stopped => Some(ended.at_ms),
                (0, ended, Some(delivered)) => {
                    Some(delivered.max(ended.map_or(0, |e| e.at_ms)) + config.idle_close_ms)
                }
                (0, ended, None) => {
                    let since = self.opened_ms.max(ended.map_or(0, |e| e.at_ms));
                    Some(since + config.first_wait_ms)
                }
            }
        };
        self.deadline_ms = deadline;
        deadline.is_some_and(|at| at <= now_ms) && self.end()
    }

    fn end(&mut self) -> bool {
        if !matches!(self.cursor, Cursor::End) {
            self.cursor = Cursor::End;
            if self.inner.config.tail_flush {
                self.out.push_back(write::ebml_head().into());
            }
        }
        true
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        state.readers -= 1;
        state.positions.remove(&self.id);
    }
}

/// The pieces that are ready, as far as they are small: copying them is cheaper than one write each.
fn joined(out: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let mut bytes = 0;
    let fit = out.iter().take_while(|piece| {
        bytes += piece.len();
        bytes <= MAX_JOINED_BYTES
    });
    match fit.count() {
        0 | 1 => out.pop_front(),
        many => Some(out.drain(..many).collect::<Vec<_>>().concat().into()),
    }
}

fn cursor(state: &State, start: Start, now_ms: u64) -> Cursor {
    match start {
        Start::Earliest => Cursor::After(FragmentNumber::MIN),
        Start::After(number) => Cursor::After(number),
        Start::At(clock, at_ms) => Cursor::Seek(clock, at_ms),
        Start::Now => {
            let latest = state.live.values().next_back();
            match latest.filter(|live| now_includes(live, state.last_duration_ms, now_ms)) {
                Some(live) => Cursor::After(live.number.before()),
                None => Cursor::After(state.latest()),
            }
        }
    }
}

/// Whether `NOW` begins with a fragment that is open already. Not verified against Amazon, whose words are "the latest
/// chunk": an open one counts while it is younger than fragments of this stream last.
fn now_includes(live: &LiveFragment, usual_ms: u32, now_ms: u64) -> bool {
    let age = now_ms.saturating_sub(live.number.server_ms());
    live.end().is_none() && (usual_ms == 0 || age <= u64::from(usual_ms))
}

/// A stored fragment with what stands before it.
pub(crate) async fn read(inner: &Inner, stream: &Stream, entry: &Entry) -> Result<[Bytes; 3], Error> {
    let opened = inner.fragment(stream, entry).await?;
    let header = inner.header(stream, entry.header).await?;
    Ok([header, document::opening(entry.number, entry.producer_ms), opened.media])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_one_and_large_ones_are_not_copied() {
        let large = Bytes::from(vec![9; MAX_JOINED_BYTES]);
        let mut out: VecDeque<Bytes> = [&b"1"[..], b"22", b"", b"333"].map(Bytes::from_static).into();
        out.extend([large.clone(), Bytes::from_static(b"4"), Bytes::from_static(b"5")]);
        assert_eq!(joined(&mut out).unwrap(), "122333");
        let same = joined(&mut out).unwrap();
        assert!(same.as_ptr() == large.as_ptr() && same.len() == large.len());
        assert_eq!(joined(&mut out).unwrap(), "45");
        assert_eq!(joined(&mut out), None);
    }
}
