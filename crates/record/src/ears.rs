//! What is heard of one contact: its own voice, and what it hears of the others. Packets and roster in, 20 ms of PCM per tick
//! out. No clock, no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_base::{AudioCodec, Codec, ParticipantId, ParticipantKey, Source, TrackKey};
use antiphon_media::mix::{Input, Listener, Selection, mix};
use antiphon_media::playout::FRAMES_PER_SECOND;
use antiphon_media::voice::Voice;
use antiphon_shard::{Roster, TapRequest};
use antiphon_wire::control::{LeaveReason, ServerMessage};
use antiphon_wire::rtp::Packet;

/// Tracks decoded for what one contact hears; a room with more voices is a lecture. Those over it are left out.
const MAX_OTHERS: usize = 32;

/// 20 ms.
pub(crate) struct Heard {
    /// The contact's own voice.
    pub(crate) from: Arc<[i16]>,
    /// What it hears; empty unless asked for.
    pub(crate) to: Arc<[i16]>,
}

/// One contact's ears in one room.
pub(crate) struct Ears {
    participant: ParticipantId,
    rate: u32,
    with_others: bool,
    roster: Roster,
    voices: BTreeMap<TrackKey, Voice>,
    /// Why the participant has left, if it has.
    left: Option<LeaveReason>,
}

impl Ears {
    /// Ears for a participant of a room of which nothing is known yet.
    pub(crate) fn new(participant: ParticipantId, rate: u32, with_others: bool) -> Self {
        let (roster, voices) = (Roster::default(), BTreeMap::new());
        Self { participant, rate, with_others, roster, voices, left: None }
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
    fn wanted(&self) -> BTreeMap<TrackKey, AudioCodec> {
        let own = self.key();
        let audio = |source: Source| source == Source::Microphone || source == Source::ScreenAudio;
        let mut wanted = BTreeMap::new();
        for participant in self.roster.participants() {
            let is_own = Some(participant.key) == own;
            for track in participant.tracks.iter().filter(|t| audio(t.source)) {
                let Codec::Audio(codec) = track.codec else { continue };
                let key = TrackKey { participant: participant.key, source: track.source };
                let take = if is_own { track.source == Source::Microphone } else { self.with_others };
                if take && (is_own || wanted.len() < MAX_OTHERS) {
                    wanted.insert(key, codec);
                }
            }
        }
        wanted
    }

    fn settle(&mut self) -> Option<Vec<TapRequest>> {
        let wanted = self.wanted();
        let before: Vec<TrackKey> = self.voices.keys().copied().collect();
        self.voices.retain(|track, voice| wanted.get(track) == Some(&voice.codec()));
        for (track, codec) in wanted {
            if !self.voices.contains_key(&track) {
                match Voice::new(codec, self.rate) {
                    Ok(voice) => drop(self.voices.insert(track, voice)),
                    Err(error) => tracing::error!(%error, "no decoder"),
                }
            }
        }
        let changed = !self.voices.keys().copied().eq(before);
        changed.then(|| self.voices.keys().map(|t| TapRequest { track: *t, max_height: None }).collect())
    }

    /// A packet of a tapped track.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>) {
        if let Some(voice) = self.voices.get_mut(&packet.track) {
            voice.packet(packet);
        }
    }

    /// The next 20 ms, due at `due_us` since the Unix epoch. What is not there is silence.
    pub(crate) fn tick(&mut self, due_us: u64) -> Heard {
        let own = self.key().map(|participant| TrackKey { participant, source: Source::Microphone });
        let mut from = None;
        let mut others = Vec::new();
        for (track, voice) in &mut self.voices {
            let heard = voice.tick(due_us);
            if Some(*track) == own {
                from = Some(heard.frame.samples);
            } else if !heard.frame.silence {
                others.push((track.participant, heard.frame));
            }
        }
        let len = frame_len(self.rate);
        let to = if self.with_others { self.mixed(len, &others) } else { Arc::from([]) };
        Heard { from: from.unwrap_or_else(|| silence(len)), to }
    }

    fn mixed(&self, len: usize, others: &[(ParticipantKey, antiphon_media::playout::Frame)]) -> Arc<[i16]> {
        let input = |(participant, frame): &(ParticipantKey, antiphon_media::playout::Frame)| {
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
pub(crate) fn frame_len(rate: u32) -> usize {
    (rate / FRAMES_PER_SECOND) as usize
}

/// Nothing, for as long.
pub(crate) fn silence(len: usize) -> Arc<[i16]> {
    vec![0; len].into()
}
