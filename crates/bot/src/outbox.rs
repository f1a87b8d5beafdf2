//! What waits for one bot: events first, then audio, then video; bounded per stream, counted exactly.
//!
//! Sans-IO. For every stream, at any time, `received = delivered + dropped + queued`, and a frame's sequence number is
//! its place among the received ones; so `dropped_before` is always the hole in the sequence before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use antiphon_base::{ClockFlags, Clocks, ParticipantId, ParticipantKey, Source, SpeakerLevel};
use antiphon_shard::TopicQueue;
use antiphon_wire::bot::{BotEvent, StreamForm, StreamStats};
use antiphon_wire::frame::{Format, Header};
use antiphon_wire::topic::Message;

use crate::limits::Limits;
use crate::transport::{CLOSE_TOO_SLOW, Outbound};

/// A frame on its way to bots: shared by all who get the same, so without what differs from bot to bot.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) format: Format,
    pub(crate) capture_us: u64,
    pub(crate) capture_estimated: bool,
    pub(crate) arrival_us: u64,
    /// Where it stands in time, Unix us; a session's media time is this less its epoch.
    pub(crate) due_us: u64,
    pub(crate) silence: bool,
    pub(crate) gap: bool,
    pub(crate) key: bool,
    pub(crate) speakers: Arc<[SpeakerLevel]>,
    pub(crate) payload: Arc<[u8]>,
}

/// How a stream's frames wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Before video; the oldest goes when full.
    Audio,
    /// The oldest goes when full.
    Picture,
    /// All go when full, and none is taken until the next keyframe.
    AccessUnit,
}

/// What a stream is.
#[derive(Debug, Clone)]
pub(crate) struct StreamInfo {
    /// Whose; `None`: a mix.
    pub(crate) participant: Option<(ParticipantId, ParticipantKey)>,
    pub(crate) source: Source,
    pub(crate) form: StreamForm,
    pub(crate) lane: Lane,
}

/// Why a frame never became one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The bot asked for fewer.
    Rate,
    /// It could not be decoded.
    Undecodable,
}

/// What became of a pushed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Queued,
    /// It, or an older one, was dropped.
    Dropped,
    /// It was dropped, and only a keyframe helps this stream.
    NeedsKey,
    /// No such stream (it has just ended).
    Unknown,
}

struct Stream {
    info: StreamInfo,
    /// Place in the order of all pushes, sequence number, frame.
    queue: VecDeque<(u64, u32, Frame)>,
    next_sequence: u32,
    next_expected: u32,
    needs_key: bool,
    ended: bool,
    stats: StreamStats,
}

impl Stream {
    fn drop_oldest(&mut self) {
        if self.queue.pop_front().is_some() {
            self.stats.dropped_slow += 1;
        }
    }

    fn stats(&self) -> StreamStats {
        StreamStats { queued: self.queue.len() as u64, ..self.stats.clone() }
    }
}

/// The queue to one bot.
pub(crate) struct Outbox {
    limits: Limits,
    epoch_us: u64,
    events: VecDeque<Outbound>,
    topics: TopicQueue,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    next_place: u64,
    /// Nothing may follow a close.
    closing: bool,
}

impl Outbox {
    /// An empty one of a session that began at `epoch_us`.
    pub(crate) fn new(limits: Limits, epoch_us: u64) -> Self {
        Self {
            limits,
            epoch_us,
            events: VecDeque::new(),
            topics: TopicQueue::default(),
            streams: BTreeMap::new(),
            next_stream: 1,
            next_place: 0,
            closing: false,
        }
    }

    /// When `media_us` was 0.
    pub(crate) fn epoch_us(&self) -> u64 {
        self.epoch_us
    }

    /// Queues an event. Too many of them end the connection.
    pub(crate) fn event(&mut self, event: &BotEvent) {
        if self.closing {
            return;
        }
        if self.events.len() >= self.limits.events {
            self.close(CLOSE_TOO_SLOW, "events were not read".into());
            return;
        }
        self.events.push_back(Outbound::Text(event.to_json()));
    }

    /// Queues a message on a topic; a slow bot loses some.
    pub(crate) fn data(&mut self, message: Arc<Message>) {
        if !self.closing {
            self.topics.push(message);
        }
    }

    /// Queues the end. Media that waits is thrown away.
    pub(crate) fn close(&mut self, code: u16, reason: String) {
        if !std::mem::replace(&mut self.closing, true) {
            self.streams.clear();
            self.topics = TopicQueue::default();
            self.events.push_back(Outbound::Close { code, reason });
        }
    }

    /// A new stream, told to the bot before its first frame.
    pub(crate) fn start(&mut self, info: StreamInfo) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.event(&BotEvent::StreamStarted {
            stream,
            participant: info.participant.as_ref().map(|(id, _)| id.clone()),
            source: info.source,
            form: info.form.clone(),
        });
        if !self.closing {
            let needs_key = info.lane == Lane::AccessUnit;
            let stats = StreamStats { stream, ..StreamStats::default() };
            let queue = VecDeque::new();
            let new =
                Stream { info, queue, next_sequence: 0, next_expected: 0, needs_key, ended: false, stats };
            self.streams.insert(stream, new);
        }
        stream
    }

    /// No more frames come. The bot is told when it has those that wait.
    pub(crate) fn end(&mut self, stream: u32) {
        if let Some(s) = self.streams.get_mut(&stream) {
            s.ended = true;
            self.finish(stream);
        }
    }

    fn finish(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|s| s.ended && s.queue.is_empty()) {
            let s = self.streams.remove(&stream).expect("it was just found");
            self.event(&BotEvent::StreamEnded { stats: s.stats() });
        }
    }

    /// Queues a frame; what is over the limit goes.
    pub(crate) fn push(&mut self, stream: u32, frame: Frame) -> Pushed {
        let Some(s) = self.streams.get_mut(&stream).filter(|s| !s.ended) else { return Pushed::Unknown };
        let sequence = s.next_sequence;
        s.next_sequence = sequence.wrapping_add(1);
        s.stats.received += 1;
        s.stats.gaps += u64::from(frame.gap);
        let limit = match s.info.lane {
            Lane::Audio => self.limits.audio_frames,
            Lane::Picture => self.limits.pictures,
            Lane::AccessUnit => self.limits.access_units,
        };
        let full = s.queue.len() >= limit;
        if s.info.lane == Lane::AccessUnit {
            while full && !s.queue.is_empty() {
                s.drop_oldest();
            }
            s.needs_key = (s.needs_key || full) && !frame.key;
            if s.needs_key {
                let count = if full { &mut s.stats.dropped_slow } else { &mut s.stats.dropped_undecodable };
                *count += 1;
                return Pushed::NeedsKey;
            }
        } else if full {
            s.drop_oldest();
        }
        s.queue.push_back((self.next_place, sequence, frame));
        self.next_place += 1;
        if full { Pushed::Dropped } else { Pushed::Queued }
    }

    /// Counts a frame that never became one that waits.
    pub(crate) fn count(&mut self, stream: u32, loss: Loss) {
        let Some(s) = self.streams.get_mut(&stream) else { return };
        match loss {
            Loss::Rate => s.stats.dropped_rate += 1,
            Loss::Undecodable => s.stats.dropped_undecodable += 1,
        }
        s.stats.received += 1;
        s.next_sequence = s.next_sequence.wrapping_add(1);
    }

    /// The next message for the bot.
    pub(crate) fn pop(&mut self) -> Option<Outbound> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some((message, lost)) = self.topics.pop() {
            let (head, payload) = (message.to_head(lost), message.payload.clone());
            return Some(Outbound::Binary { head, payload });
        }
        let first = |audio: bool| {
            let of_lane = self.streams.iter().filter(move |(_, s)| (s.info.lane == Lane::Audio) == audio);
            of_lane.filter_map(|(id, s)| Some((s.queue.front()?.0, *id))).min()
        };
        let (_, stream) = first(true).or_else(|| first(false))?;
        let message = self.take(stream);
        self.finish(stream);
        message
    }

    fn take(&mut self, stream: u32) -> Option<Outbound> {
        let s = self.streams.get_mut(&stream)?;
        let (_, sequence, frame) = s.queue.pop_front()?;
        s.stats.delivered += 1;
        let dropped_before = sequence.wrapping_sub(s.next_expected);
        s.next_expected = sequence.wrapping_add(1);
        let header = Header {
            format: frame.format,
            source: s.info.source,
            stream,
            participant: s.info.participant.as_ref().map_or(ParticipantKey(0), |(_, key)| *key),
            sequence,
            clocks: Clocks {
                capture_us: frame.capture_us,
                arrival_us: frame.arrival_us,
                media_us: frame.due_us.saturating_sub(self.epoch_us).max(1),
                flags: ClockFlags { capture_estimated: frame.capture_estimated },
            },
            dropped_before,
            silence: frame.silence,
            gap: frame.gap,
            key: frame.key,
            mixed: s.info.participant.is_none(),
            speakers: frame.speakers.to_vec(),
        };
        let mut head = Vec::new();
        header.write(&mut head);
        Some(Outbound::Binary { head, payload: frame.payload })
    }

    /// Counts of every stream.
    pub(crate) fn stats(&self) -> Vec<StreamStats> {
        self.streams.values().map(Stream::stats).collect()
    }
}

#[cfg(test)]
mod tests {
    use antiphon_base::{Codec, PixelFormat, VideoCodec};
    use antiphon_wire::frame;

    use super::*;

    fn info(lane: Lane) -> StreamInfo {
        let id = ParticipantId::new("ann").unwrap();
        let form = match lane {
            Lane::Audio => StreamForm::Pcm { sample_rate: 16_000 },
            Lane::Picture => StreamForm::Picture { pixel_format: PixelFormat::I420 },
            Lane::AccessUnit => StreamForm::Encoded { codec: Codec::Video(VideoCodec::Vp8) },
        };
        StreamInfo { participant: Some((id, ParticipantKey(3))), source: Source::Camera, form, lane }
    }

    fn frame(lane: Lane, n: u8, key: bool) -> Frame {
        let format = match lane {
            Lane::Audio => Format::Pcm { sample_rate: 16_000, channels: 1, samples: 1 },
            Lane::Picture | Lane::AccessUnit => {
                Format::EncodedVideo { codec: VideoCodec::Vp8, width: 0, height: 0 }
            }
        };
        Frame {
            format,
            capture_us: 5,
            capture_estimated: false,
            arrival_us: 6,
            due_us: 1_000 + u64::from(n),
            silence: false,
            gap: false,
            key,
            speakers: Arc::new([]),
            payload: Arc::new([n, 0]),
        }
    }

    fn outbox() -> Outbox {
        let limits = Limits { audio_frames: 3, pictures: 2, access_units: 3, events: 8, ..Limits::default() };
        Outbox::new(limits, 1_000)
    }

    fn next_frame(outbox: &mut Outbox) -> Option<(Header, u8)> {
        loop {
            match outbox.pop()? {
                Outbound::Binary { mut head, payload } => {
                    head.extend_from_slice(&payload);
                    return frame::parse(&head).map(|(h, p)| (h, p[0])).ok();
                }
                Outbound::Text(_) => {}
                Outbound::Close { .. } => return None,
            }
        }
    }

    fn check_sum(outbox: &Outbox) {
        for s in outbox.stats() {
            let dropped = s.dropped_slow + s.dropped_rate + s.dropped_undecodable;
            assert_eq!(s.received, s.delivered + dropped + s.queued, "{s:?}");
        }
    }

    #[test]
    fn events_go_before_audio_before_video() {
        let mut o = outbox();
        let video = o.start(info(Lane::Picture));
        let audio = o.start(info(Lane::Audio));
        o.push(video, frame(Lane::Picture, 1, false));
        o.push(audio, frame(Lane::Audio, 2, false));
        o.event(&BotEvent::Reply { id: 1, error: None });
        let kinds: Vec<_> = std::iter::from_fn(|| o.pop())
            .map(|m| match m {
                Outbound::Text(_) => 'e',
                Outbound::Binary { head, .. } if head[1] == 1 => 'a',
                Outbound::Binary { .. } => 'v',
                Outbound::Close { .. } => 'c',
            })
            .collect();
        assert_eq!(kinds, ['e', 'e', 'e', 'a', 'v']);
    }

    #[test]
    fn a_slow_bot_gets_the_latest_and_exact_counts() {
        let mut o = outbox();
        let s = o.start(info(Lane::Picture));
        for n in 0..10 {
            if n % 3 == 2 {
                o.count(s, Loss::Rate);
            }
            o.push(s, frame(Lane::Picture, n, false));
            check_sum(&o);
        }
        let (header, payload) = next_frame(&mut o).unwrap();
        assert_eq!(
            (payload, header.sequence, header.dropped_before),
            (8, 11, 11),
            "eight dropped, three by rate"
        );
        assert_eq!(header.clocks.media_us, 8);
        let (header, payload) = next_frame(&mut o).unwrap();
        assert_eq!((payload, header.dropped_before), (9, 0));
        assert_eq!(next_frame(&mut o), None);
        check_sum(&o);
        assert_eq!(o.stats()[0].delivered, 2);
    }

    #[test]
    fn encoded_streams_begin_and_go_on_at_keyframes() {
        let mut o = outbox();
        let s = o.start(info(Lane::AccessUnit));
        let lane = Lane::AccessUnit;
        assert_eq!(o.push(s, frame(lane, 0, false)), Pushed::NeedsKey);
        for n in 1..4 {
            assert_eq!(o.push(s, frame(lane, n, n == 1)), Pushed::Queued);
        }
        assert_eq!(o.push(s, frame(lane, 4, false)), Pushed::NeedsKey, "full");
        assert_eq!(o.push(s, frame(lane, 5, false)), Pushed::NeedsKey);
        assert_eq!(o.push(s, frame(lane, 6, true)), Pushed::Queued);
        check_sum(&o);
        let (header, payload) = next_frame(&mut o).unwrap();
        assert_eq!((payload, header.dropped_before), (6, 6));
    }

    #[test]
    fn a_stream_ends_after_what_waits() {
        let mut o = outbox();
        let s = o.start(info(Lane::Audio));
        o.push(s, frame(Lane::Audio, 1, false));
        o.end(s);
        assert_eq!(o.push(s, frame(Lane::Audio, 2, false)), Pushed::Unknown);
        assert!(matches!(o.pop().unwrap().event(), Some(BotEvent::StreamStarted { .. })));
        assert!(matches!(o.pop(), Some(Outbound::Binary { .. })));
        let Some(BotEvent::StreamEnded { stats }) = o.pop().unwrap().event() else { panic!("ended") };
        assert_eq!((stats.received, stats.delivered, stats.queued), (1, 1, 0));
        assert!(o.pop().is_none());
    }

    #[test]
    fn unread_events_end_the_connection() {
        let mut o = outbox();
        for id in 0..20 {
            o.event(&BotEvent::Reply { id, error: None });
        }
        let last = std::iter::from_fn(|| o.pop()).last().unwrap();
        assert!(matches!(last, Outbound::Close { code: CLOSE_TOO_SLOW, .. }));
    }
}
