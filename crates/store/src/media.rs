//! A stored fragment taken apart, for who repacks it: its session's header, and its frames with their times.

use bytes::Bytes;

use crate::archive::FragmentInfo;
use crate::error::Error;
use crate::index::Clock;
use crate::matroska::element::Elements;
use crate::matroska::{Block, Bounds, Header, Item, Parser, id};
use crate::number::FragmentNumber;
use crate::store::Inner;
use crate::stream::Stream;

/// One frame of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track's number.
    pub track: u64,
    /// When it is shown, in nanoseconds from the fragment's beginning; a frame may be before that.
    pub at_ns: i64,
    /// Nanoseconds it lasts, where its group says so.
    pub duration_ns: Option<u64>,
    /// Whether it needs no other.
    pub key: bool,
    /// What is in it.
    pub data: Bytes,
}

/// A fragment with what stands before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// What is known of it.
    pub info: FragmentInfo,
    /// Scale, tracks and tags of its session.
    pub header: Header,
    /// In the order in which they were sent.
    pub frames: Vec<Frame>,
}

/// Whether playback has to begin anew between a fragment and the one behind it.
pub type Breaks<'a> = dyn Fn(&FragmentInfo, &FragmentInfo) -> bool + 'a;

fn damaged(what: &'static str) -> Error {
    Error::Damaged { path: String::new(), what }
}

fn parser(inner: &Inner) -> Parser {
    let rules = &inner.config.rules;
    // Of what was taken once, nothing is too large.
    let fragment_bytes = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    Parser::new(Bounds { header_bytes: rules.header_bytes.max(1 << 20), fragment_bytes })
}

/// The header of bytes that are one, and what is behind it can be read with the parser.
fn read_header(parser: &mut Parser, header: &[u8]) -> Result<Header, Error> {
    parser.push(header);
    // A header ends where a cluster begins.
    parser.push(&crate::matroska::write::live_cluster_head());
    match parser.next_item() {
        Ok(Some(Item::Header { header, .. })) => Ok(header),
        _ => Err(damaged("the header is none")),
    }
}

/// The header of a fragment's session; `None`: no such fragment.
pub(crate) async fn header(
    inner: &Inner,
    stream: &Stream,
    number: FragmentNumber,
) -> Result<Option<Header>, Error> {
    let entry = stream.state().index.get(number).copied();
    let Some(entry) = entry else { return Ok(None) };
    let bytes = inner.header(stream, entry.header).await?;
    read_header(&mut parser(inner), &bytes).map(Some)
}

/// A fragment; `None`: no such one, or past its retention.
pub(crate) async fn read(
    inner: &Inner,
    stream: &Stream,
    number: FragmentNumber,
    now_ms: u64,
) -> Result<Option<Media>, Error> {
    let entry = {
        let state = stream.state();
        state.index.get(number).filter(|e| !state.expired(e, now_ms)).copied()
    };
    let Some(entry) = entry else { return Ok(None) };
    let opened = inner.fragment(stream, &entry).await?;
    let bytes = inner.header(stream, entry.header).await?;
    let header = read_header(&mut parser(inner), &bytes)?;
    let mut rest = parser(inner);
    rest.push(&bytes);
    rest.push(&opened.media);
    let mut frames = Vec::new();
    while let Some(item) = rest.next_item().map_err(|_| damaged("the media is no Matroska"))? {
        if let Item::Block { bytes, block } = item {
            frames.push(frame(&bytes, &block, header.scale_ns).ok_or_else(|| damaged("a block is none"))?);
        }
    }
    Ok(Some(Media { info: FragmentInfo::from(&entry), header, frames }))
}

fn frame(element: &Bytes, block: &Block, scale_ns: u64) -> Option<Frame> {
    let scale = i64::try_from(scale_ns).ok()?;
    Some(Frame {
        track: block.track,
        at_ns: i64::from(block.relative) * scale,
        duration_ns: block.duration.map(|ticks| ticks.saturating_mul(scale_ns)),
        key: block.key,
        data: data(element, block)?,
    })
}

/// The frame's own bytes: the last ones of the block, which in a group has elements beside it.
fn data(element: &Bytes, block: &Block) -> Option<Bytes> {
    let whole = Elements::new(element).next()?.ok()?;
    let within = if whole.id == id::BLOCK_GROUP {
        Elements::new(whole.data).flatten().find(|e| e.id == id::BLOCK)?.data
    } else {
        whole.data
    };
    Some(element.slice_ref(&within[within.len().checked_sub(block.len)?..]))
}

/// The newest fragments by a clock, not older than a time, oldest first.
pub(crate) fn newest(
    stream: &Stream,
    clock: Clock,
    since_ms: u64,
    max: usize,
    now_ms: u64,
) -> Vec<FragmentInfo> {
    let state = stream.state();
    let kept = state.index.newest(clock).filter(|e| !state.expired(e, now_ms));
    let mut found: Vec<_> =
        kept.take_while(|e| e.time_ms(clock) >= since_ms).take(max).map(FragmentInfo::from).collect();
    found.reverse();
    found
}

/// How often fragments break, from one to another, in the order of their numbers.
pub(crate) fn breaks(stream: &Stream, from: FragmentNumber, to: FragmentNumber, breaks: &Breaks<'_>) -> u64 {
    let state = stream.state();
    let mut last = state.index.get(from).map(FragmentInfo::from);
    let mut count = 0;
    for entry in state.index.after(from).take_while(|e| e.number <= to) {
        let next = FragmentInfo::from(entry);
        count += u64::from(last.is_some_and(|last| breaks(&last, &next)));
        last = Some(next);
    }
    count
}
