//! From a producer's bytes to fragments, without I/O: validation, times, live pieces. `now` is an argument.
//!
//! A fragment is a cluster with the level-1 elements that follow it. It opens with the cluster's timecode, hands out each
//! element as it is complete, and is sealed when the next cluster begins, by a flush, or at the end.

mod fault;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

pub use fault::{Fault, FaultKind};

use crate::matroska::write;
use crate::matroska::{Block, Bounds, Header, Item, Parser, Tag};
use timing::Timing;

/// Milliseconds of the year 2286: producer times have 13 digits in a fragment's path.
const MAX_PRODUCER_MS: u64 = 9_999_999_999_999;

/// What a producer may do. Amazon's quotas are stricter; these only keep one producer from harming others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Bytes before the first cluster.
    pub header_bytes: usize,
    /// Bytes of a fragment.
    pub fragment_bytes: usize,
    /// Milliseconds of a fragment; 0: any.
    pub fragment_ms: u64,
    /// Tracks.
    pub tracks: usize,
    /// Tags of a fragment, those of its session's header included.
    pub tags: usize,
    /// Bytes of a tag's name.
    pub tag_name_bytes: usize,
    /// Bytes of a tag's value.
    pub tag_value_bytes: usize,
    /// Whether each track must have a block in each fragment. Off for telephony: a silent side must not end the call.
    pub every_track: bool,
}

impl Default for Rules {
    /// Fragments of 50 MB and 3 tracks as Amazon has them, any duration, generous metadata.
    fn default() -> Self {
        Self {
            header_bytes: 1 << 20,
            fragment_bytes: 50_000_000,
            fragment_ms: 0,
            tracks: 3,
            tags: 64,
            tag_name_bytes: 128,
            tag_value_bytes: 1024,
            every_track: false,
        }
    }
}

/// What a cluster's timecode counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timecodes {
    /// From 1970.
    Absolute,
    /// From the session's start.
    Relative {
        /// Milliseconds since 1970.
        start_ms: u64,
    },
}

/// A session's header: what stands before each of its fragments when they are read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionHeader {
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A fragment began.
    Opened(Opening),
    /// Whole elements of the open fragment, for who watches live.
    Live(Bytes),
    /// The fragment is complete.
    Sealed(Sealed),
}

/// The beginning of a fragment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Opening {
    pub(crate) header: Arc<SessionHeader>,
    /// The cluster's timecode as sent, in milliseconds.
    pub(crate) timecode_ms: u64,
    pub(crate) producer_ms: u64,
    /// When its first byte arrived.
    pub(crate) server_ms: u64,
    /// Whose it is, unless it says otherwise itself.
    pub(crate) contact: String,
}

/// A complete fragment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) duration_ms: u32,
    /// Cluster and what follows it, byte for byte; a salvaged one has an unknown size instead of the one it claimed.
    pub(crate) media: Vec<Bytes>,
    pub(crate) salvaged: bool,
    pub(crate) contact: String,
}

#[derive(Debug)]
struct Open {
    server_ms: u64,
    /// `None` until the timecode was read.
    timecode_ms: Option<u64>,
    media: Vec<Bytes>,
    known_size: bool,
    tags: usize,
    timing: Timing,
}

/// One producer's document. After a fault it is of no more use.
#[derive(Debug)]
pub(crate) struct Ingest {
    rules: Rules,
    timecodes: Timecodes,
    parser: Parser,
    header: Option<Arc<SessionHeader>>,
    contact: String,
    /// Whose a fragment is that is put together again, whatever its session's header says.
    inherited: Option<String>,
    open: Option<Open>,
    last_timecode_ms: u64,
    timing: Timing,
    /// Bytes of all pushes.
    received: u64,
    /// When the first byte of the element arrived that is not complete yet.
    rest_ms: u64,
    events: VecDeque<Event>,
}

impl Ingest {
    pub(crate) fn new(rules: Rules, timecodes: Timecodes) -> Self {
        let bounds = Bounds { header_bytes: rules.header_bytes, fragment_bytes: rules.fragment_bytes };
        Self {
            rules,
            timecodes,
            parser: Parser::new(bounds),
            header: None,
            contact: String::new(),
            inherited: None,
            open: None,
            last_timecode_ms: 0,
            timing: Timing::default(),
            received: 0,
            rest_ms: 0,
            events: VecDeque::new(),
        }
    }

    /// From here on a fragment without a block of each track is a fault.
    pub(crate) fn want_every_track(&mut self) {
        self.rules.every_track = true;
    }

    /// What happened, in order; at most what one push brought.
    pub(crate) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what was received.
    pub(crate) fn push(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Fault> {
        let began_at = self.received;
        self.received += bytes.len() as u64;
        self.parser.push(bytes);
        let result = self.drain(began_at, now_ms);
        if self.parser.pending() >= began_at {
            self.rest_ms = now_ms;
        }
        result.map_err(|fault| self.with_timecode(fault))
    }

    fn drain(&mut self, began_at: u64, now_ms: u64) -> Result<(), Fault> {
        while let Some(item) = self.parser.next_item()? {
            match item {
                Item::Header { bytes, header } => self.header(bytes, header)?,
                Item::ClusterStart { bytes, known_size, offset } => {
                    let server_ms = if offset >= began_at { now_ms } else { self.rest_ms };
                    self.cluster(bytes, known_size, server_ms)?;
                }
                Item::Timecode { bytes, ticks } => self.timecode(bytes, ticks)?,
                Item::Block { bytes, block } => self.block(bytes, block)?,
                Item::Other { bytes } => self.other(bytes),
                Item::ClusterEnd => {}
                Item::Trailing { bytes, tags } => self.trailing(bytes, &tags)?,
            }
        }
        Ok(())
    }

    fn with_timecode(&self, mut fault: Fault) -> Fault {
        fault.timecode_ms = fault.timecode_ms.or(self.open.as_ref().and_then(|o| o.timecode_ms));
        fault
    }

    fn header(&mut self, bytes: Bytes, header: Header) -> Result<(), Fault> {
        if header.tracks.len() > self.rules.tracks {
            return Err(FaultKind::TrackCount.into());
        }
        self.check_tags(&header.tags, 0)?;
        let said = || header.tag("ContactId").unwrap_or_default().to_owned();
        self.contact = self.inherited.take().unwrap_or_else(said);
        self.header = Some(Arc::new(SessionHeader { bytes, header }));
        Ok(())
    }

    /// Tags of which `before` were counted already.
    fn check_tags(&self, tags: &[Tag], before: usize) -> Result<(), Fault> {
        let rules = &self.rules;
        // A reader could not tell a producer's tag with our prefix from ours.
        let good = |t: &Tag| {
            t.name.len() <= rules.tag_name_bytes
                && t.value.len() <= rules.tag_value_bytes
                && !t.name.starts_with("AWS")
        };
        if before + tags.len() > rules.tags || !tags.iter().all(good) {
            return Err(FaultKind::MetadataLimit.into());
        }
        Ok(())
    }

    fn cluster(&mut self, bytes: Bytes, known_size: bool, server_ms: u64) -> Result<(), Fault> {
        self.seal(false)?;
        let header = self.header.as_ref().expect("the parser gives a header before any cluster");
        self.open = Some(Open {
            server_ms,
            timecode_ms: None,
            known_size,
            media: vec![bytes],
            tags: header.header.tags.len(),
            timing: self.timing.next_fragment(),
        });
        Ok(())
    }

    fn timecode(&mut self, bytes: Bytes, ticks: u64) -> Result<(), Fault> {
        let (Some(open), Some(header)) = (&mut self.open, &self.header) else {
            return Err(FaultKind::Internal.into());
        };
        if open.timecode_ms.is_some() {
            return Err(FaultKind::InvalidMkv.into());
        }
        let timecode_ms = header.header.ticks_ms(ticks).ok_or(FaultKind::ProducerTimestamp)?;
        open.timecode_ms = Some(timecode_ms);
        if timecode_ms < self.last_timecode_ms {
            return Err(FaultKind::TimecodeBackwards.into());
        }
        let producer_ms = match self.timecodes {
            Timecodes::Absolute => Some(timecode_ms),
            Timecodes::Relative { start_ms } => start_ms.checked_add(timecode_ms),
        };
        let producer_ms =
            producer_ms.filter(|ms| *ms <= MAX_PRODUCER_MS).ok_or(FaultKind::ProducerTimestamp)?;
        self.last_timecode_ms = timecode_ms;
        open.timing.begin(header.header.scale_ns);
        let early = open.media[1..].iter().flat_map(|b| b.iter().copied());
        let live = write::live_cluster_head().into_iter().chain(early).chain(bytes.iter().copied());
        let live = Bytes::from_iter(live);
        open.media.push(bytes);
        let server_ms = open.server_ms;
        let (header, contact) = (header.clone(), self.contact.clone());
        let opening = Opening { header, timecode_ms, producer_ms, server_ms, contact };
        self.events.push_back(Event::Opened(opening));
        self.events.push_back(Event::Live(live));
        Ok(())
    }

    fn block(&mut self, bytes: Bytes, block: Block) -> Result<(), Fault> {
        let (Some(open), Some(header)) = (&mut self.open, &self.header) else {
            return Err(FaultKind::Internal.into());
        };
        if open.timecode_ms.is_none() {
            return Err(FaultKind::InvalidMkv.into());
        }
        let track = header.header.tracks.iter().find(|t| t.number == block.track);
        open.timing.block(&block, track.ok_or(FaultKind::TrackNumber)?);
        let limit = self.rules.fragment_ms;
        if limit > 0 && open.timing.span_ms() > limit {
            return Err(FaultKind::FragmentDuration.into());
        }
        open.media.push(bytes.clone());
        self.events.push_back(Event::Live(bytes));
        Ok(())
    }

    fn other(&mut self, bytes: Bytes) {
        let Some(open) = &mut self.open else { return };
        open.media.push(bytes.clone());
        // What stands before the timecode goes out with it.
        if open.timecode_ms.is_some() {
            self.events.push_back(Event::Live(bytes));
        }
    }

    fn trailing(&mut self, bytes: Bytes, tags: &[Tag]) -> Result<(), Fault> {
        let before = self.open.as_ref().map_or(0, |o| o.tags);
        self.check_tags(tags, before)?;
        if let Some(contact) = tags.iter().find(|t| t.name == "ContactId") {
            self.contact.clone_from(&contact.value);
        }
        // Between header and first cluster nothing can be trailing; after a flush there is no fragment to belong to.
        let Some(open) = &mut self.open else { return Ok(()) };
        open.tags += tags.len();
        open.media.push(bytes.clone());
        self.events.push_back(Event::Live(bytes));
        Ok(())
    }

    /// Ends the open fragment.
    fn seal(&mut self, salvaged: bool) -> Result<(), Fault> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        if open.timecode_ms.is_none() {
            return Err(FaultKind::InvalidMkv.into());
        }
        let tracks = self.header.as_ref().map_or(0, |h| h.header.tracks.len());
        if self.rules.every_track && !salvaged && open.timing.tracks() < tracks {
            return Err(Fault { timecode_ms: open.timecode_ms, ..FaultKind::FramesMissing.into() });
        }
        if salvaged && open.known_size {
            open.media[0] = write::live_cluster_head().into();
        }
        let duration_ms = open.timing.duration_ms();
        self.timing = open.timing;
        let contact = self.contact.clone();
        self.events.push_back(Event::Sealed(Sealed { duration_ms, media: open.media, salvaged, contact }));
        Ok(())
    }

    /// Ends the open fragment now, for producers of our own that write whole elements and clusters of unknown size.
    /// The next element has to be a cluster.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        if !self.parser.end_cluster() {
            return Err(FaultKind::InvalidMkv.into());
        }
        self.seal(false)
    }

    /// The producer sends nothing more. What is complete of an open fragment is kept; says whether the document ended
    /// where it may.
    pub(crate) fn finish(&mut self) -> Result<bool, Fault> {
        let clean = self.parser.may_end();
        let opened = self.open.as_ref().is_some_and(|o| o.timecode_ms.is_some());
        self.parser.drop_rest();
        if opened {
            self.seal(!clean)?;
        }
        self.open = None;
        Ok(clean)
    }

    /// Puts a fragment together of what live readers were given of it: its session's header, and whole elements. `None`: there
    /// is no frame in it.
    pub(crate) fn salvage(
        rules: &Rules,
        header: &[u8],
        contact: String,
        media: &[Bytes],
    ) -> Result<Option<Sealed>, Fault> {
        // It was let in as it is once; a silent side is no reason to throw the other away.
        let rules = Rules { every_track: false, fragment_ms: 0, ..rules.clone() };
        let mut ingest = Self { inherited: Some(contact), ..Self::new(rules, Timecodes::Absolute) };
        ingest.push(header, 0)?;
        media.iter().try_for_each(|elements| ingest.push(elements, 0))?;
        if ingest.open.as_ref().is_none_or(|open| open.timing.tracks() == 0) {
            return Ok(None);
        }
        ingest.seal(true)?;
        let sealed = |event| if let Event::Sealed(sealed) = event { Some(sealed) } else { None };
        Ok(ingest.events.into_iter().find_map(sealed))
    }

    /// Whether a fragment is open that was announced.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.timecode_ms.is_some())
    }
}
