//! What is heard of one contact: its own voice, and what it hears of the others. Packets and roster in, 20 ms of PCM per tick
//! out. Its eyes go with them: they look at one camera of the same roster. No clock, no I/O.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec, ParticipantId, ParticipantKey, Source, TrackKey};
use antiphon_media::mix::{Input, Listener, Selection, mix};
use antiphon_media::playout::{FRAME_US, FRAMES_PER_SECOND, Frame};
use antiphon_media::voice::Voice;
use antiphon_shard::{Roster, TapRequest};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::rtp::Packet;

use crate::eyes::{Eyes, Picture};
use crate::interleave::{MAX_DELAY_US, USUAL_DELAY_US};
use crate::matroska;
use crate::options::Form;
use crate::packets::{self, Packets, Placed};

/// Tracks decoded for what one contact hears; a room with more voices is a lecture. Those over it are left out.
const MAX_OTHERS: usize = 32;
/// How long packets wait for those before them: a retransmission over a long way, as in recordings. Whoever listens to what is kept is in no
/// hurry; who listens live hears it so much later.
pub(crate) const PATIENCE_US: u64 = crate::take::WAIT_US;
/// Tracks that are gone and of which something is still to be heard: all there can be at a moment, twice.
const MAX_LEAVING: usize = 2 * (MAX_OTHERS + 1);
/// The same of the contact's own, as they were sent: connections that replace each other within [`PATIENCE_US`].
const MAX_PACKETS_LEAVING: usize = 4;

/// 20 ms.
pub(crate) enum Heard {
    /// Decoded.
    Pcm {
        /// The contact's own voice.
        from: Arc<[i16]>,
        /// What it hears; empty unless asked for.
        to: Arc<[i16]>,
    },
    /// As it was sent.
    Opus(Vec<Placed>),
}

/// What is to be heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) form: Form,
    /// Samples per second of PCM.
    pub(crate) rate: u32,
    /// What the contact hears, too.
    pub(crate) others: bool,
    /// Its camera, too.
    pub(crate) video: bool,
}

impl Wanted {
    /// 20 ms in which nothing was.
    pub(crate) fn nothing(self) -> Heard {
        let len = frame_len(self.rate);
        match self.form {
            Form::Opus => Heard::Opus(packets::nothing()),
            Form::Pcm => {
                let to = if self.others { silence(len) } else { Arc::from([]) };
                Heard::Pcm { from: silence(len), to }
            }
        }
    }
}

impl Heard {
    /// With what is heard at a place to which the contact went from this one. Both speak at a time only by accident.
    pub(crate) fn and(self, rest: Self) -> Self {
        match (self, rest) {
            (Self::Pcm { from, to }, Self::Pcm { from: rest_from, to: rest_to }) => {
                Self::Pcm { from: sum(&from, &rest_from), to: sum(&to, &rest_to) }
            }
            (Self::Opus(packets), Self::Opus(rest)) => Self::Opus(packets::merged(packets, rest)),
            (heard, _) => heard,
        }
    }
}

fn sum(a: &Arc<[i16]>, b: &[i16]) -> Arc<[i16]> {
    if b.iter().all(|sample| *sample == 0) {
        return a.clone();
    }
    a.iter().zip(b).map(|(a, b)| a.saturating_add(*b)).collect()
}

/// A voice whose track is gone.
struct Leaving {
    participant: ParticipantKey,
    own: bool,
    voice: Voice,
}

/// One contact's ears in one room.
pub(crate) struct Ears {
    participant: ParticipantId,
    wanted: Wanted,
    roster: Roster,
    /// The contact's own microphone, as it was last.
    own: Option<TrackKey>,
    voices: BTreeMap<TrackKey, Voice>,
    /// What came of tracks that are gone is heard to its end.
    leaving: Vec<Leaving>,
    /// The contact's own, where it is wanted as it was sent.
    packets: Option<(TrackKey, Packets)>,
    /// Of its connections before, the oldest first.
    packets_leaving: VecDeque<Packets>,
    /// Of how many that left the last was not waited for.
    tails_cut: u64,
    eyes: Eyes,
    /// How much later than its capture its voice stands on the time axis.
    delay_us: u64,
    /// Why the participant has left, if it has.
    left: Option<LeaveReason>,
}

impl Ears {
    /// Ears for a participant of a room of which nothing is known yet.
    pub(crate) fn new(participant: ParticipantId, wanted: Wanted) -> Self {
        Self {
            participant,
            wanted,
            roster: Roster::default(),
            own: None,
            voices: BTreeMap::new(),
            leaving: Vec::new(),
            packets: None,
            packets_leaving: VecDeque::new(),
            tails_cut: 0,
            eyes: Eyes::default(),
            delay_us: USUAL_DELAY_US,
            left: None,
        }
    }

    /// The room says something. The whole set of tracks to be tapped, if it changed.
    pub(crate) fn control(&mut self, message: ServerMessage) -> Option<Vec<TapRequest>> {
        match &message {
            ServerMessage::ParticipantLeft { participant, reason, .. }
                if *participant == self.participant =>
            {
                self.left = Some(*reason);
            }
            ServerMessage::ParticipantJoined { participant, .. } if participant.id == self.participant => {
                self.left = None;
            }
            _ => {}
        }
        self.roster.update(message).then(|| self.settle()).flatten()
    }

    /// Whether the participant is in the room, connected or coming back.
    pub(crate) fn present(&self) -> bool {
        self.key().is_some()
    }

    /// Why the participant has left.
    pub(crate) fn left(&self) -> Option<LeaveReason> {
        self.left
    }

    fn key(&self) -> Option<ParticipantKey> {
        self.roster.key(&self.participant)
    }

    /// The audio tracks that are wanted now.
    fn tracks(&self) -> BTreeMap<TrackKey, AudioCodec> {
        let own = self.key();
        let audio = |source: Source| source == Source::Microphone || source == Source::ScreenAudio;
        // On hold it hears nobody, and who is on hold is heard by nobody.
        let apart = self.roster.participants().any(|p| Some(p.key) == own && p.held);
        let mut wanted = BTreeMap::new();
        for participant in self.roster.participants() {
            let is_own = Some(participant.key) == own;
            for track in participant.tracks.iter().filter(|t| audio(t.source)) {
                let Codec::Audio(codec) = track.codec else { continue };
                let key = TrackKey { participant: participant.key, source: track.source };
                let take = if is_own {
                    track.source == Source::Microphone
                } else {
                    self.wanted.others && !apart && !participant.held
                };
                if take && (is_own || wanted.len() < MAX_OTHERS) {
                    wanted.insert(key, codec);
                }
            }
        }
        wanted
    }

    /// The contact's own camera, where it is wanted and there; and whether it is on.
    fn camera(&self) -> Option<(TrackKey, bool)> {
        let own = self.roster.participants().find(|p| p.id == self.participant)?;
        let camera = own.tracks.iter().find(|t| t.source == Source::Camera && self.wanted.video)?;
        Some((TrackKey { participant: own.key, source: Source::Camera }, !camera.muted))
    }

    fn settle(&mut self) -> Option<Vec<TapRequest>> {
        let wanted = self.tracks();
        let changed = match self.wanted.form {
            Form::Opus => self.settle_packets(&wanted),
            Form::Pcm => self.settle_voices(wanted),
        };
        let microphone = |participant| TrackKey { participant, source: Source::Microphone };
        self.own = self.key().map(microphone).or(self.own);
        let camera = self.camera().map(|(camera, _)| camera);
        let looks_elsewhere = self.eyes.look_at(camera);
        let heard = self.packets.iter().map(|(track, _)| *track).chain(self.voices.keys().copied());
        let tap = |track| TapRequest { track, max_height: None };
        (changed || looks_elsewhere).then(|| heard.chain(camera).map(tap).collect())
    }

    /// Whether something changed.
    fn settle_voices(&mut self, wanted: BTreeMap<TrackKey, AudioCodec>) -> bool {
        let before: Vec<TrackKey> = self.voices.keys().copied().collect();
        let gone = self.voices.extract_if(.., |track, voice| wanted.get(track) != Some(&voice.codec()));
        let own = self.own;
        self.leaving.extend(gone.map(|(track, voice)| Leaving {
            participant: track.participant,
            own: own == Some(track),
            voice,
        }));
        let over = self.leaving.len().saturating_sub(MAX_LEAVING);
        self.leaving.drain(..over);
        self.tails_cut += over as u64;
        for (track, codec) in wanted {
            if let Entry::Vacant(entry) = self.voices.entry(track) {
                match Voice::patient(codec, self.wanted.rate, PATIENCE_US) {
                    Ok(voice) => drop(entry.insert(voice)),
                    Err(error) => tracing::error!(%error, "no decoder"),
                }
            }
        }
        !self.voices.keys().copied().eq(before)
    }

    /// Whether something changed.
    fn settle_packets(&mut self, wanted: &BTreeMap<TrackKey, AudioCodec>) -> bool {
        let opus = wanted.iter().find(|(_, codec)| **codec == AudioCodec::Opus).map(|(track, _)| *track);
        let changed = opus != self.packets.as_ref().map(|(track, _)| *track);
        if changed {
            let new = opus.map(|track| (track, Packets::new(PATIENCE_US)));
            let gone = std::mem::replace(&mut self.packets, new);
            self.packets_leaving.extend(gone.map(|(_, packets)| packets));
            if self.packets_leaving.len() > MAX_PACKETS_LEAVING {
                self.packets_leaving.pop_front();
                self.tails_cut += 1;
            }
        }
        changed
    }

    /// A packet of a tapped track. Gives the track and layer of which a key frame is to be asked for now.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>) -> Option<(TrackKey, u8)> {
        if let Some((_, packets)) = self.packets.as_mut().filter(|(track, _)| *track == packet.track) {
            packets.packet(packet);
        }
        if let Some(voice) = self.voices.get_mut(&packet.track) {
            voice.packet(packet);
        }
        self.look(packet)
    }

    /// A packet of a tapped track, of which only pictures are taken.
    pub(crate) fn look(&mut self, packet: &Arc<Packet>) -> Option<(TrackKey, u8)> {
        Some((packet.track, self.eyes.packet(packet)?))
    }

    /// Whether a first picture is to be expected, of a camera that is on.
    pub(crate) fn expects_picture(&self) -> bool {
        self.eyes.form().is_none() && self.camera().is_some_and(|(_, on)| on)
    }

    /// What a decoder has to be told of the camera's pictures, once there was one.
    pub(crate) fn form(&self) -> Option<Arc<matroska::Form>> {
        self.eyes.form().cloned()
    }

    /// Pictures since this was asked last.
    pub(crate) fn pictures(&mut self) -> impl Iterator<Item = Picture> {
        self.eyes.pictures()
    }

    /// How much later than its capture the voice stands on the time axis.
    pub(crate) fn delay_us(&self) -> u64 {
        self.delay_us
    }

    /// The voice of `capture_us` stands at `place_us`.
    fn placed(&mut self, place_us: u64, capture_us: u64) {
        self.delay_us = place_us.saturating_sub(capture_us).min(MAX_DELAY_US);
    }

    /// Of how many that left since this was asked last the end is not heard, because there were too many.
    pub(crate) fn tails_cut(&mut self) -> u64 {
        std::mem::take(&mut self.tails_cut)
    }

    /// Whether nothing that has come is still to be heard.
    pub(crate) fn is_drained(&self) -> bool {
        self.leaving.iter().map(|leaving| &leaving.voice).chain(self.voices.values()).all(Voice::is_drained)
            && self
                .packets
                .iter()
                .map(|(_, packets)| packets)
                .chain(&self.packets_leaving)
                .all(Packets::is_drained)
    }

    /// The 20 ms that are due at `due_us` since the Unix epoch, [`PATIENCE_US`] after they came. What is not there is silence.
    pub(crate) fn tick(&mut self, due_us: u64) -> Heard {
        let place_us = due_us - FRAME_US - PATIENCE_US;
        match self.wanted.form {
            Form::Opus => self.tick_packets(due_us, place_us),
            Form::Pcm => self.tick_voices(due_us, place_us),
        }
    }

    fn tick_packets(&mut self, due_us: u64, place_us: u64) -> Heard {
        let heard = match &mut self.packets {
            Some((_, packets)) => {
                let heard = packets.tick(due_us);
                if let Some((at_us, capture_us)) = packets.newest() {
                    self.placed(place_us + at_us, capture_us);
                }
                heard
            }
            None => packets::nothing(),
        };
        self.packets_leaving.retain(|leaving| !leaving.is_drained());
        let leaving = self.packets_leaving.iter_mut().map(|leaving| leaving.tick(due_us));
        Heard::Opus(match leaving.reduce(packets::merged) {
            Some(before) => packets::merged(before, heard),
            None => heard,
        })
    }

    fn tick_voices(&mut self, due_us: u64, place_us: u64) -> Heard {
        let len = frame_len(self.wanted.rate);
        let (mut from, mut others) = (silence(len), Vec::new());
        let mut said = None;
        for (track, voice) in &mut self.voices {
            let frame = voice.tick(due_us).frame;
            if Some(*track) == self.own {
                said = Some(frame.capture_us).filter(|_| !frame.silence && !frame.gap);
                from = frame.samples;
            } else if !frame.silence {
                others.push((track.participant, frame));
            }
        }
        // To the last packet that came of them, and nothing made up behind it.
        self.leaving.retain(|leaving| !leaving.voice.is_drained());
        for leaving in &mut self.leaving {
            let frame = leaving.voice.tick(due_us).frame;
            if leaving.own {
                from = sum(&from, &frame.samples);
            } else if !frame.silence {
                others.push((leaving.participant, frame));
            }
        }
        if let Some(capture_us) = said {
            self.placed(place_us, capture_us);
        }
        let to = if self.wanted.others { self.mixed(len, &others) } else { Arc::from([]) };
        Heard::Pcm { from, to }
    }

    fn mixed(&self, len: usize, others: &[(ParticipantKey, Frame)]) -> Arc<[i16]> {
        let input = |(participant, frame): &(ParticipantKey, Frame)| {
            (*participant, Arc::clone(&frame.samples), frame.level)
        };
        let all: Vec<_> = others.iter().map(input).collect();
        let inputs: Vec<Input<'_>> = all
            .iter()
            .map(|(participant, samples, level)| Input { participant: *participant, samples, level: *level })
            .collect();
        let ranking: Vec<ParticipantKey> = self.roster.order().collect();
        let listener = Listener { participant: self.key(), selection: Selection::Dominant };
        let mixes = mix(len, &inputs, &ranking, &[listener]);
        mixes.first().map_or_else(|| silence(len), |m| Arc::clone(&m.samples))
    }
}

/// Samples of 20 ms.
fn frame_len(rate: u32) -> usize {
    (rate / FRAMES_PER_SECOND) as usize
}

/// Nothing, for as long.
fn silence(len: usize) -> Arc<[i16]> {
    vec![0; len].into()
}
