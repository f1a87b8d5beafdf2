//! Who is in the room, who listens, and what follows from both: streams, taps, decoders. No clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use antiphon_base::{Codec, ErrorKind, MediaKind, ParticipantKey, TrackKey, VideoCodec};
use antiphon_media::convert::Fit;
use antiphon_media::video::Decoders;
use antiphon_shard::{Roster, TapRequest};
use antiphon_wire::bot::{BotEvent, MediaSession, StreamForm, VideoSession};
use antiphon_wire::control::{ErrorBody, ServerMessage};
use antiphon_wire::rtp::Packet;

use super::wants::{Want, Wants};
use crate::hear::{Ear, Hearing, MixEar};
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::outbox::{Lane, StreamInfo};
use crate::see::worker::{AskKeyframe, Worker};
use crate::see::{Output, Sink};

struct Listener {
    bot: ParticipantKey,
    media: MediaSession,
    mailbox: Arc<Mailbox>,
    streams: BTreeMap<Want, u32>,
    /// What it was told that it cannot have.
    told: BTreeSet<(TrackKey, VideoCodec)>,
}

/// The state of one room.
pub(crate) struct Room {
    limits: Limits,
    decoders: Decoders,
    roster: Roster,
    listeners: BTreeMap<u64, Listener>,
    hearing: Hearing,
    seeing: BTreeMap<TrackKey, Worker>,
    taps: BTreeMap<TrackKey, Option<u16>>,
    /// Makes the way by which a decoder asks for a keyframe.
    ask: Box<dyn Fn() -> AskKeyframe + Send>,
    dirty: bool,
}

impl Room {
    /// An empty one.
    pub(crate) fn new(limits: Limits, decoders: Decoders, ask: Box<dyn Fn() -> AskKeyframe + Send>) -> Self {
        Self {
            limits,
            decoders,
            roster: Roster::default(),
            listeners: BTreeMap::new(),
            hearing: Hearing::default(),
            seeing: BTreeMap::new(),
            taps: BTreeMap::new(),
            ask,
            dirty: false,
        }
    }

    /// A bot's session begins or changes.
    pub(crate) fn listen(
        &mut self,
        id: u64,
        bot: ParticipantKey,
        media: MediaSession,
        mailbox: &Arc<Mailbox>,
    ) {
        let listener = self.listeners.entry(id).or_insert_with(|| Listener {
            bot,
            media: MediaSession::default(),
            mailbox: Arc::clone(mailbox),
            streams: BTreeMap::new(),
            told: BTreeSet::new(),
        });
        listener.media = media;
        self.dirty = true;
    }

    /// A bot is gone.
    pub(crate) fn leave(&mut self, id: u64) {
        self.dirty |= self.listeners.remove(&id).is_some();
    }

    /// Everybody's mailbox.
    pub(crate) fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.listeners.values().map(|l| &l.mailbox)
    }

    /// A bot asks for a keyframe of a stream. `false`: it has no such stream of access units.
    pub(crate) fn ask_keyframe(&self, id: u64, stream: u32) -> bool {
        let Some(listener) = self.listeners.get(&id) else { return false };
        let track = listener.streams.iter().find_map(|(want, s)| match want {
            Want::AccessUnits { track, .. } | Want::Pictures { track, .. } if *s == stream => Some(*track),
            _ => None,
        });
        let worker = track.and_then(|t| self.seeing.get(&t));
        worker.inspect(|w| w.ask_keyframe()).is_some()
    }

    /// The room says something.
    pub(crate) fn control(&mut self, mut message: ServerMessage) {
        silence_held(&mut message);
        self.dirty |= self.roster.update(message);
    }

    /// A packet of a tapped track.
    pub(crate) fn packet(&mut self, packet: Arc<Packet>) {
        match packet.track.source.kind() {
            MediaKind::Audio => self.hearing.packet(&packet),
            MediaKind::Video => {
                if let Some(worker) = self.seeing.get(&packet.track) {
                    worker.packet(packet);
                }
            }
        }
    }

    /// Whether [`Room::tick`] is wanted every 20 ms.
    pub(crate) fn ticks(&self) -> bool {
        self.hearing.is_wanted()
    }

    /// 20 ms have passed; `due_us` is when that was, Unix us.
    pub(crate) fn tick(&mut self, due_us: u64) {
        self.hearing.tick(due_us);
    }

    /// Brings streams and decoders in line with what was said. The whole set of taps, if it changed.
    pub(crate) fn settle(&mut self) -> Option<Vec<TapRequest>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        for listener in self.listeners.values_mut() {
            listener.settle(&self.roster, &self.limits, &self.decoders);
        }
        self.settle_hearing();
        let mut taps: BTreeMap<TrackKey, Option<u16>> = self.hearing.tracks().map(|t| (t, None)).collect();
        taps.extend(self.settle_seeing());
        if taps == self.taps {
            return None;
        }
        self.taps = taps;
        let request = |(track, max_height): (&TrackKey, &Option<u16>)| TapRequest {
            track: *track,
            max_height: *max_height,
        };
        Some(self.taps.iter().map(request).collect())
    }

    fn settle_hearing(&mut self) {
        let (mut ears, mut mixes) = (Vec::new(), Vec::new());
        for listener in self.listeners.values() {
            for (want, stream) in &listener.streams {
                let (mailbox, stream) = (Arc::clone(&listener.mailbox), *stream);
                match *want {
                    Want::Voice { track, rate } => {
                        ears.push(Ear { track, rate: Some(rate), mailbox, stream });
                    }
                    Want::Packets { track, .. } => ears.push(Ear { track, rate: None, mailbox, stream }),
                    Want::Mixed { source, rate, all } => {
                        mixes.push(MixEar { source, rate, all, without: listener.bot, mailbox, stream });
                    }
                    Want::Pictures { .. } | Want::AccessUnits { .. } => {}
                }
            }
        }
        let codecs = self.roster.participants().flat_map(|p| {
            let audio = p.tracks.iter().filter_map(|t| match t.codec {
                Codec::Audio(codec) => Some((t.source, codec)),
                Codec::Video(_) => None,
            });
            audio.map(|(source, codec)| (TrackKey { participant: p.key, source }, codec))
        });
        self.hearing.set(ears, mixes, codecs.collect(), self.roster.order().collect());
    }

    /// Starts and ends workers; the tapped video tracks with their heights.
    fn settle_seeing(&mut self) -> BTreeMap<TrackKey, Option<u16>> {
        let mut sinks: BTreeMap<(TrackKey, VideoCodec), (Vec<Sink>, Option<u16>)> = BTreeMap::new();
        for listener in self.listeners.values() {
            for (want, stream) in &listener.streams {
                let (track, codec, output, height) = match *want {
                    Want::Pictures { track, format } => {
                        let Some(Codec::Video(codec)) = self.roster.codec(track) else { continue };
                        let video = video_session(&listener.media, track);
                        let fit = video.height.map_or(Fit::Native, |h| Fit::Height(u32::from(h)));
                        let max_frame_rate = video.max_frame_rate;
                        (
                            track,
                            codec,
                            Output::Raw { format: format.get(), fit, max_frame_rate },
                            video.height,
                        )
                    }
                    Want::AccessUnits { track, codec } => {
                        (track, codec, Output::Encoded, video_session(&listener.media, track).height)
                    }
                    Want::Voice { .. } | Want::Packets { .. } | Want::Mixed { .. } => continue,
                };
                let sink = Sink { mailbox: Arc::clone(&listener.mailbox), stream: *stream, output };
                let entry = sinks.entry((track, codec)).or_insert_with(|| (Vec::new(), height));
                entry.0.push(sink);
                entry.1 = entry.1.zip(height).map(|(a, b)| a.max(b));
            }
        }
        self.seeing.retain(|track, worker| sinks.contains_key(&(*track, worker.codec())));
        let mut taps = BTreeMap::new();
        for ((track, codec), (sinks, height)) in sinks {
            if !self.seeing.contains_key(&track) {
                match Worker::start(track, codec, self.decoders.clone(), (self.ask)()) {
                    Ok(worker) => drop(self.seeing.insert(track, worker)),
                    Err(error) => tracing::error!(%error, "no thread for video"),
                }
            }
            if let Some(worker) = self.seeing.get(&track) {
                worker.set_sinks(sinks);
                taps.insert(track, height);
            }
        }
        taps
    }
}

/// Who is on hold is there, and bots get nothing of it.
fn silence_held(message: &mut ServerMessage) {
    let everybody = match message {
        ServerMessage::Roster { participants, .. } => participants.as_mut_slice(),
        ServerMessage::ParticipantJoined { participant, .. }
        | ServerMessage::ParticipantUpdated { participant, .. } => std::slice::from_mut(participant),
        _ => return,
    };
    everybody.iter_mut().filter(|p| p.held).for_each(|p| p.tracks.clear());
}

fn video_session(media: &MediaSession, track: TrackKey) -> &VideoSession {
    if track.source == antiphon_base::Source::Screen { &media.screen } else { &media.camera }
}

impl Listener {
    /// Ends streams that are not wanted any more, starts new ones, and says what cannot be had.
    fn settle(&mut self, roster: &Roster, limits: &Limits, decoders: &Decoders) {
        let wants = Wants::of(self.bot, &self.media, roster, limits, decoders);
        let mailbox = Arc::clone(&self.mailbox);
        self.streams.retain(|want, stream| {
            let keep = wants.streams.contains(want);
            if !keep {
                mailbox.with(|o| o.end(*stream));
            }
            keep
        });
        for want in wants.streams {
            if !self.streams.contains_key(&want)
                && let Some(info) = info(&want, roster)
            {
                self.streams.insert(want, mailbox.with(|o| o.start(info)));
            }
        }
        self.told.retain(|t| wants.undecodable.contains(t));
        for (track, codec) in wants.undecodable {
            let Some(id) = roster.id(track.participant) else { continue };
            if self.told.insert((track, codec)) {
                let message =
                    format!("this server cannot decode {}: ask for the encoded form", codec.as_str());
                let error = ErrorBody { code: ErrorKind::UnsupportedCodec, message };
                let event =
                    BotEvent::StreamUnavailable { participant: id.clone(), source: track.source, error };
                mailbox.with(|o| o.event(&event));
            }
        }
    }
}

fn info(want: &Want, roster: &Roster) -> Option<StreamInfo> {
    let (track, form, lane) = match *want {
        Want::Voice { track, rate } => (track, StreamForm::Pcm { sample_rate: rate }, Lane::Audio),
        Want::Packets { track, codec } => {
            (track, StreamForm::Encoded { codec: Codec::Audio(codec) }, Lane::Audio)
        }
        Want::Mixed { source, rate, .. } => {
            let form = StreamForm::Pcm { sample_rate: rate };
            return Some(StreamInfo { participant: None, source, form, lane: Lane::Audio });
        }
        Want::Pictures { track, format } => {
            (track, StreamForm::Picture { pixel_format: format.get() }, Lane::Picture)
        }
        Want::AccessUnits { track, codec } => {
            (track, StreamForm::Encoded { codec: Codec::Video(codec) }, Lane::AccessUnit)
        }
    };
    let id = roster.id(track.participant)?.clone();
    Some(StreamInfo { participant: Some((id, track.participant)), source: track.source, form, lane })
}

#[cfg(test)]
mod tests;
