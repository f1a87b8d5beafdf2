//! What is stored, without the live part: ListFragments and GetMediaForFragmentList.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::contact::Only;
use crate::crypt::hex;
use crate::document::{self, ReadFault};
use crate::error::Error;
use crate::index::{Clock, Entry};
use crate::layout::HeaderId;
use crate::number::FragmentNumber;
use crate::read;
use crate::store::Inner;
use crate::stream::Stream;

/// Fragments of one page, as Amazon has it.
pub const MAX_PAGE: usize = 1000;
/// Fragments of one list, as Amazon has it.
pub const MAX_LIST: usize = 1000;

/// A stored fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Its number.
    pub number: FragmentNumber,
    /// Bytes of its cluster and what follows it.
    pub size: u64,
    /// When it begins, by the producer's clock.
    pub producer_ms: u64,
    /// When its first byte arrived.
    pub server_ms: u64,
    /// How long it lasts.
    pub duration_ms: u64,
    /// Which header stands before it: fragments with the same one follow each other as one document's do.
    pub header: HeaderId,
}

impl From<&Entry> for FragmentInfo {
    fn from(e: &Entry) -> Self {
        Self {
            number: e.number,
            size: e.size.into(),
            producer_ms: e.producer_ms,
            server_ms: e.number.server_ms(),
            duration_ms: e.duration_ms.into(),
            header: e.header,
        }
    }
}

/// Which fragments: those that begin between two times, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Whose times.
    pub clock: Clock,
    /// The first time.
    pub start_ms: u64,
    /// The last time.
    pub end_ms: u64,
}

/// Some fragments, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of the range's clock; of the server's, without a range.
    pub fragments: Vec<FragmentInfo>,
    /// For the next page, if there is one.
    pub next: Option<String>,
}

/// Where a listing goes on: hexadecimal digits, which are within the alphabet clients expect of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    range: Range,
    /// The last entry that was given.
    at_ms: u64,
    after: FragmentNumber,
}

const TOKEN_BYTES: usize = 1 + 3 * 8 + 4 + 16;

impl Token {
    fn encode(self) -> String {
        let clock = [u8::from(self.range.clock == Clock::Producer)];
        let (high, low) = self.after.parts();
        let times = [self.range.start_ms, self.range.end_ms, self.at_ms].map(u64::to_be_bytes).concat();
        hex(&[&clock[..], &times, &high.to_be_bytes(), &low.to_be_bytes()].concat())
    }

    fn decode(text: &str) -> Option<Self> {
        let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        if text.len() != 2 * TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let bytes: Vec<u8> = (0..TOKEN_BYTES).map(|i| pair(2 * i)).collect::<Option<_>>()?;
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let clock = if bytes[0] == 0 { Clock::Server } else { Clock::Producer };
        let range = Range { clock, start_ms: number(1)?, end_ms: number(9)? };
        let high = u32::from_be_bytes(bytes[25..29].try_into().ok()?);
        let low = u128::from_be_bytes(bytes[29..45].try_into().ok()?);
        Some(Self { range, at_ms: number(17)?, after: FragmentNumber::from_parts(high, low) })
    }
}

pub(crate) fn retained(stream: &Stream) -> Result<(), Error> {
    let state = stream.state();
    if !state.active() {
        return Err(Error::StreamNotActive);
    }
    if state.record.retention_h == 0 { Err(Error::NoDataRetention) } else { Ok(()) }
}

pub(crate) fn list(
    stream: &Stream,
    only: Option<&Only>,
    range: Option<Range>,
    (max, token): (usize, Option<&str>),
    now_ms: u64,
) -> Result<Page, Error> {
    retained(stream)?;
    let bad_token = || Error::InvalidArgument("NextToken: not one of ours".into());
    let token = token.map(|t| Token::decode(t).ok_or_else(bad_token)).transpose()?;
    let everything = Range { clock: Clock::Server, start_ms: 0, end_ms: u64::MAX };
    let range = token.map_or(range.unwrap_or(everything), |t| t.range);
    if range.start_ms > range.end_ms {
        return Err(Error::InvalidArgument("TimestampRange: begins after its end".into()));
    }
    let state = stream.state();
    if range.end_ms.saturating_add(state.record.retention_ms()) <= now_ms {
        return Err(Error::BeforeRetention { end_ms: range.end_ms });
    }
    let (from, after) = token.map_or((range.start_ms, None), |t| (t.at_ms, Some(t.after)));
    let entries = state.index.since(range.clock, from, after);
    let within = entries.take_while(|e| e.time_ms(range.clock) <= range.end_ms);
    let theirs = within.filter(|e| only.is_none_or(|only| only.has(e)));
    let mut rest = theirs.filter(|e| !state.expired(e, now_ms));
    let page: Vec<&Entry> = rest.by_ref().take(max.clamp(1, MAX_PAGE)).collect();
    let more = rest.next().is_some();
    let next = page
        .last()
        .filter(|_| more)
        .map(|last| Token { range, at_ms: last.time_ms(range.clock), after: last.number }.encode());
    Ok(Page { fragments: page.into_iter().map(FragmentInfo::from).collect(), next })
}

/// A GetMediaForFragmentList response being made.
pub struct FragmentList {
    inner: Arc<Inner>,
    stream: Arc<Stream>,
    only: Option<Only>,
    numbers: VecDeque<FragmentNumber>,
    out: VecDeque<Bytes>,
    now_ms: u64,
}

impl FragmentList {
    pub(crate) fn open(
        inner: &Arc<Inner>,
        stream: Arc<Stream>,
        only: Option<Only>,
        numbers: Vec<FragmentNumber>,
        now_ms: u64,
    ) -> Result<Self, Error> {
        retained(&stream)?;
        if numbers.is_empty() || numbers.len() > MAX_LIST {
            return Err(Error::InvalidArgument(format!("Fragments: 1 to {MAX_LIST}")));
        }
        Ok(Self { inner: inner.clone(), stream, only, numbers: numbers.into(), out: VecDeque::new(), now_ms })
    }

    /// What comes next, `None` at the end. A fragment that is not there becomes an error document, and the rest follows.
    pub async fn next(&mut self) -> Option<Bytes> {
        while self.out.is_empty() {
            let number = self.numbers.pop_front()?;
            let (entry, contact) = {
                let state = self.stream.state();
                let theirs = |e: &&Entry| self.only.as_ref().is_none_or(|only| only.has(e));
                let entry = state.index.get(number).filter(theirs);
                let entry = entry.filter(|e| !state.expired(e, self.now_ms)).copied();
                let contact = match &self.only {
                    Some(only) => entry.as_ref().map(|e| only.name(e)).unwrap_or_default(),
                    None => state.whose(),
                };
                (entry, contact)
            };
            match entry {
                None => self.out.push_back(document::error(number, ReadFault::NotFound, &contact)),
                Some(entry) => match read::read(&self.inner, &self.stream, &entry).await {
                    Ok(pieces) => self.out.extend(pieces),
                    Err(e) => self.out.push_back(document::error(number, ReadFault::of(&e), &contact)),
                },
            }
        }
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_made_up_ones_are_refused() {
        let range = Range { clock: Clock::Producer, start_ms: 5, end_ms: u64::MAX };
        let token = Token { range, at_ms: 7, after: FragmentNumber::new(9, 8, 7) };
        assert_eq!(Token::decode(&token.encode()), Some(token));
        for bad in ["", "00", &"0".repeat(89), &"é".repeat(45), &"+1".repeat(45)] {
            assert_eq!(Token::decode(bad), None, "{bad}");
        }
    }
}
