//! What has come and was not taken yet. A program that is too slow loses the oldest of it, counted.

use std::collections::{HashMap, VecDeque};

use antiphon_base::MediaKind;
use antiphon_wire::bot::BotEvent;
use antiphon_wire::frame::Format;
use antiphon_wire::topic::Message;

use crate::frames::Received;

/// Frames of one audio stream that wait: 2 s, a long pause of a program that still wants every word.
const MAX_AUDIO: usize = 100;
/// Raw pictures of one stream that wait: older ones are of no use, and ten 720p cameras fill 110 MB with this.
const MAX_PICTURES: usize = 4;
/// Access units of one video stream that wait: 4 s, since each loss costs all up to the next keyframe.
const MAX_ENCODED: usize = 120;
/// Events that wait: several times a full room coming and going.
const MAX_EVENTS: usize = 1024;
/// Messages on topics that wait: as many as the server keeps for a bot.
const MAX_DATA: usize = 1024;

/// One thing taken out.
#[derive(Debug)]
pub(crate) enum Item {
    /// A frame, and how many of its stream were dropped here just before it.
    Frame(Received, u32),
    /// An event.
    Event(Box<BotEvent>),
    /// A message on a topic, and how many were lost before it.
    Data(Message, u32),
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Stream(u32),
    Event,
    Data,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Received>,
    lost: u32,
}

/// One turn per waiting thing, in the order of arrival. When a frame is dropped for a newer one of its stream, its
/// turn stays; so pictures never push out voices, and all of it is constant time.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    turns: VecDeque<Turn>,
    streams: HashMap<u32, Waiting>,
    events: VecDeque<Box<BotEvent>>,
    data: VecDeque<(Message, u32)>,
    /// Events dropped in all.
    pub(crate) lost_events: u64,
}

impl Inbox {
    /// A frame has come.
    pub(crate) fn put_frame(&mut self, frame: Received) {
        let stream = frame.header.stream;
        let waiting = self.streams.entry(stream).or_default();
        if waiting.frames.len() >= limit(&frame) {
            let gone = waiting.frames.pop_front().map_or(0, |f| f.header.dropped_before);
            waiting.lost = waiting.lost.saturating_add(1).saturating_add(gone);
        } else {
            self.turns.push_back(Turn::Stream(stream));
        }
        waiting.frames.push_back(frame);
    }

    /// Something has happened.
    pub(crate) fn put_event(&mut self, event: BotEvent) {
        if let BotEvent::StreamEnded { stats } = &event {
            self.forget(stats.stream);
        }
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.lost_events += 1;
        } else {
            self.turns.push_back(Turn::Event);
        }
        self.events.push_back(Box::new(event));
    }

    /// A message on a topic has come; so many were lost on the way before it.
    pub(crate) fn put_data(&mut self, message: Message, lost: u32) {
        if self.data.len() >= MAX_DATA {
            let gone = self.data.pop_front().map_or(0, |(_, lost)| lost);
            // The next one tells of it.
            if let Some((_, lost)) = self.data.front_mut() {
                *lost = lost.saturating_add(gone).saturating_add(1);
            }
        } else {
            self.turns.push_back(Turn::Data);
        }
        self.data.push_back((message, lost));
    }

    /// The next thing.
    pub(crate) fn take(&mut self) -> Option<Item> {
        match self.turns.pop_front()? {
            Turn::Event => self.events.pop_front().map(Item::Event),
            Turn::Data => self.data.pop_front().map(|(message, lost)| Item::Data(message, lost)),
            Turn::Stream(stream) => {
                let waiting = self.streams.get_mut(&stream)?;
                let frame = waiting.frames.pop_front()?;
                Some(Item::Frame(frame, std::mem::take(&mut waiting.lost)))
            }
        }
    }

    fn forget(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|w| w.frames.is_empty()) {
            self.streams.remove(&stream);
        }
    }
}

fn limit(frame: &Received) -> usize {
    match frame.header.format {
        Format::Picture { .. } => MAX_PICTURES,
        _ if frame.header.source.kind() == MediaKind::Video => MAX_ENCODED,
        _ => MAX_AUDIO,
    }
}

#[cfg(test)]
mod tests {
    use antiphon_base::{PixelFormat, Source};
    use tokio_tungstenite::tungstenite::Bytes;

    use super::*;
    use crate::frames::own;

    fn frame(source: Source, stream: u32, sequence: u32) -> Received {
        let format = match source.kind() {
            MediaKind::Audio => Format::Pcm { sample_rate: 16_000, channels: 1, samples: 0 },
            MediaKind::Video => Format::Picture {
                format: PixelFormat::I420,
                width: 0,
                height: 0,
                source_width: 0,
                source_height: 0,
            },
        };
        let mut header = own(source, format, sequence);
        header.stream = stream;
        Received { header, payload: Bytes::new() }
    }

    #[test]
    fn the_oldest_of_a_full_stream_go_and_nothing_else() {
        let mut inbox = Inbox::default();
        inbox.put_event(BotEvent::Draining { deadline_s: 1 });
        for i in 0..10 {
            inbox.put_frame(frame(Source::Microphone, 1, i));
            inbox.put_frame(frame(Source::Camera, 2, i));
        }
        assert!(matches!(inbox.take(), Some(Item::Event(_))));
        let (mut voices, mut pictures) = (Vec::new(), Vec::new());
        while let Some(Item::Frame(f, lost)) = inbox.take() {
            let of = if f.header.stream == 1 { &mut voices } else { &mut pictures };
            of.push((f.header.sequence, lost));
        }
        assert_eq!(voices, (0..10).map(|i| (i, 0)).collect::<Vec<_>>());
        assert_eq!(pictures, [(6, 6), (7, 0), (8, 0), (9, 0)]);
    }

    #[test]
    fn messages_are_bounded_and_the_next_one_tells_of_the_lost() {
        let mut inbox = Inbox::default();
        for i in 0..u32::try_from(MAX_DATA).unwrap() + 5 {
            let (topic, payload) = ("t".into(), i.to_le_bytes().as_slice().into());
            let message = Message {
                from: antiphon_base::ParticipantKey(1),
                lossy: false,
                addressed: false,
                topic,
                payload,
            };
            inbox.put_data(message, 0);
        }
        let Some(Item::Data(first, lost)) = inbox.take() else { panic!("a message waits") };
        assert_eq!((&*first.payload, lost), (&5u32.to_le_bytes()[..], 5));
        assert!(matches!(inbox.take(), Some(Item::Data(_, 0))));
    }

    #[test]
    fn events_are_bounded_and_counted() {
        let mut inbox = Inbox::default();
        for i in 0..u32::try_from(MAX_EVENTS).unwrap() + 5 {
            inbox.put_event(BotEvent::Draining { deadline_s: i });
        }
        assert_eq!(inbox.lost_events, 5);
        let Some(Item::Event(first)) = inbox.take() else { panic!("an event waits") };
        assert_eq!(*first, BotEvent::Draining { deadline_s: 5 });
    }
}
