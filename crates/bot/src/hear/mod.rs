//! Hearing: packets of all tapped audio tracks of a room to 20 ms frames in bots' mailboxes. No clock, no thread.
//!
//! Each track is decoded once, at the highest rate that anybody wants, and resampled once per lower rate. A mix is
//! the exact sum of the frames of the same tick that unmixed streams of its rate carry ([`antiphon_media::mix`]).

mod reorder;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use antiphon_base::{AudioCodec, ParticipantKey, Source, SpeakerLevel, TrackKey};
use antiphon_media::mix::{Input, Listener, Mix, Selection, mix};
use antiphon_media::voice::{Heard, Voice};
use antiphon_wire::frame::Format;
use antiphon_wire::rtp::Packet;

use crate::mailbox::Mailbox;
use crate::outbox::Frame;
use reorder::Reorder;

/// Who is quieter than this (-dBov) is not named as heard in a mix: the noise of a quiet room, the tail of a decoder.
const HEARD: u8 = 60;

/// A consumer of one track: one stream of one bot.
pub(crate) struct Ear {
    pub(crate) track: TrackKey,
    /// Samples per second; `None`: packets as they come.
    pub(crate) rate: Option<u32>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) stream: u32,
}

/// A consumer of a mix of all tracks of one source.
pub(crate) struct MixEar {
    pub(crate) source: Source,
    pub(crate) rate: u32,
    /// Everybody, or the dominant ones.
    pub(crate) all: bool,
    /// The bot itself.
    pub(crate) without: ParticipantKey,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) stream: u32,
}

/// All sound of one room.
#[derive(Default)]
pub(crate) struct Hearing {
    ears: Vec<Ear>,
    mixes: Vec<MixEar>,
    ranking: Vec<ParticipantKey>,
    voices: BTreeMap<TrackKey, Voice>,
    orders: BTreeMap<TrackKey, Reorder>,
}

impl Hearing {
    /// The whole set of consumers, the tracks there are, and the order of dominance.
    pub(crate) fn set(
        &mut self,
        ears: Vec<Ear>,
        mixes: Vec<MixEar>,
        codecs: BTreeMap<TrackKey, AudioCodec>,
        ranking: Vec<ParticipantKey>,
    ) {
        let rates = ears.iter().filter_map(|e| e.rate).chain(mixes.iter().map(|m| m.rate));
        let highest = rates.max().unwrap_or(0);
        let mut wanted: BTreeMap<TrackKey, BTreeSet<u32>> = BTreeMap::new();
        for ear in &ears {
            if let Some(rate) = ear.rate {
                wanted.entry(ear.track).or_default().insert(rate);
            }
        }
        for m in &mixes {
            for track in codecs.keys().filter(|t| t.source == m.source && t.participant != m.without) {
                wanted.entry(*track).or_default().insert(m.rate);
            }
        }
        self.voices.retain(|track, voice| {
            let same = codecs.get(track) == Some(&voice.codec()) && voice.rate() == highest;
            same && wanted.contains_key(track)
        });
        for (track, rates) in wanted {
            let Some(codec) = codecs.get(&track) else { continue };
            if let Entry::Vacant(entry) = self.voices.entry(track) {
                match Voice::new(*codec, highest) {
                    Ok(voice) => drop(entry.insert(voice)),
                    Err(error) => tracing::error!(%error, "no decoder"),
                }
            }
            if let Some(voice) = self.voices.get_mut(&track) {
                voice.set_rates(&rates);
            }
        }
        let packets = |track: &TrackKey| ears.iter().any(|e| e.track == *track && e.rate.is_none());
        self.orders.retain(|track, _| packets(track));
        for ear in ears.iter().filter(|e| e.rate.is_none()) {
            if let Some(codec) = codecs.get(&ear.track) {
                self.orders.entry(ear.track).or_insert_with(|| Reorder::new(*codec));
            }
        }
        (self.ears, self.mixes, self.ranking) = (ears, mixes, ranking);
    }

    /// The tracks to be tapped.
    pub(crate) fn tracks(&self) -> impl Iterator<Item = TrackKey> + '_ {
        self.voices.keys().chain(self.orders.keys()).copied()
    }

    /// Whether anybody listens.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.ears.is_empty() || !self.mixes.is_empty()
    }

    /// A packet of a tapped track.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>) {
        if let Some(voice) = self.voices.get_mut(&packet.track) {
            voice.packet(packet);
        }
        if let Some(order) = self.orders.get_mut(&packet.track) {
            order.packet(packet);
            Self::hand_on(&self.ears, packet.track, order);
        }
    }

    /// Gives packets that are in order to those who want them as they are.
    fn hand_on(ears: &[Ear], track: TrackKey, order: &mut Reorder) {
        while let Some(frame) = order.poll() {
            for ear in ears.iter().filter(|e| e.track == track && e.rate.is_none()) {
                ear.mailbox.with(|o| o.push(ear.stream, frame.clone()));
            }
        }
    }

    /// 20 ms have passed at `due_us` since the Unix epoch.
    pub(crate) fn tick(&mut self, due_us: u64) {
        for (track, order) in &mut self.orders {
            order.tick(due_us);
            Self::hand_on(&self.ears, *track, order);
        }
        let heard: BTreeMap<TrackKey, Heard> =
            self.voices.iter_mut().map(|(track, voice)| (*track, voice.tick(due_us))).collect();
        self.unmixed(&heard, due_us);
        self.mixed(&heard, due_us);
    }

    fn unmixed(&self, heard: &BTreeMap<TrackKey, Heard>, due_us: u64) {
        let mut made: BTreeMap<(TrackKey, u32), Frame> = BTreeMap::new();
        for ear in &self.ears {
            let Some((h, rate)) = heard.get(&ear.track).zip(ear.rate) else { continue };
            let frame = made.entry((ear.track, rate)).or_insert_with(|| {
                let samples = h.samples(rate);
                Frame {
                    format: pcm(rate, samples.len()),
                    capture_us: h.frame.capture_us,
                    capture_estimated: h.frame.capture_estimated,
                    arrival_us: h.frame.arrival_us,
                    due_us,
                    silence: h.frame.silence,
                    gap: h.frame.gap,
                    key: false,
                    speakers: Arc::new([SpeakerLevel {
                        participant: ear.track.participant,
                        level: h.frame.level,
                    }]),
                    payload: bytes(samples),
                }
            });
            ear.mailbox.with(|o| o.push(ear.stream, frame.clone()));
        }
    }

    fn mixed(&self, heard: &BTreeMap<TrackKey, Heard>, due_us: u64) {
        let kinds: BTreeSet<(Source, u32)> = self.mixes.iter().map(|m| (m.source, m.rate)).collect();
        for (source, rate) in kinds {
            let of_source = || heard.iter().filter(|(track, h)| track.source == source && !h.frame.silence);
            let inputs: Vec<Input<'_>> = of_source()
                .map(|(track, h)| Input {
                    participant: track.participant,
                    samples: h.samples(rate),
                    level: h.frame.level,
                })
                .collect();
            let ears: Vec<&MixEar> =
                self.mixes.iter().filter(|m| (m.source, m.rate) == (source, rate)).collect();
            let listener = |m: &&MixEar| Listener {
                participant: Some(m.without),
                selection: if m.all { Selection::All } else { Selection::Dominant },
            };
            let listeners: Vec<Listener> = ears.iter().map(listener).collect();
            let len = (rate / 50) as usize;
            let mut made: Vec<(Arc<Mix>, Frame)> = Vec::new();
            for (ear, mixed) in ears.iter().zip(mix(len, &inputs, &self.ranking, &listeners)) {
                let found = made.iter().find(|(m, _)| Arc::ptr_eq(m, &mixed)).map(|(_, f)| f.clone());
                let frame = found.unwrap_or_else(|| {
                    let frame = mix_frame(&mixed, source, rate, heard, due_us);
                    made.push((mixed, frame.clone()));
                    frame
                });
                ear.mailbox.with(|o| o.push(ear.stream, frame));
            }
        }
    }
}

/// A mix as a frame: its clocks are those of its loudest voice.
fn mix_frame(
    mixed: &Mix,
    source: Source,
    rate: u32,
    heard: &BTreeMap<TrackKey, Heard>,
    due_us: u64,
) -> Frame {
    let of = |participant: ParticipantKey| heard.get(&TrackKey { participant, source });
    let lead = mixed.speakers.first().and_then(|s| of(s.participant));
    Frame {
        format: pcm(rate, mixed.samples.len()),
        capture_us: lead.map_or(due_us, |h| h.frame.capture_us),
        capture_estimated: lead.is_none_or(|h| h.frame.capture_estimated),
        arrival_us: lead.map_or(due_us, |h| h.frame.arrival_us),
        due_us,
        silence: mixed.inputs.is_empty(),
        gap: mixed.inputs.iter().filter_map(|p| of(*p)).any(|h| h.frame.gap),
        key: false,
        speakers: mixed.speakers.iter().filter(|s| s.level < HEARD).copied().collect(),
        payload: bytes(&mixed.samples),
    }
}

fn pcm(sample_rate: u32, samples: usize) -> Format {
    Format::Pcm { sample_rate, channels: 1, samples: u32::try_from(samples).unwrap_or(0) }
}

fn bytes(samples: &[i16]) -> Arc<[u8]> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests;
