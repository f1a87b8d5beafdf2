//! One participant as the engine keeps it: its tracks, its receive slots, its taps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{
    AudioCodec, Codec, MediaKind, ParticipantId, ParticipantKey, Source, TrackKey, VideoCodec,
};
use antiphon_wire::control::{
    ContentHint, LimitReason, ParticipantInfo, ParticipantKind, Policy, Presence, SlotAssignment, TrackInfo,
};
use antiphon_wire::whep::Selection;

use crate::Bandwidth;
use crate::allocate::Pace;
use crate::join::{Grants, Join, SlotPlan};
use crate::loudness::Loudness;
use crate::output::{Feed, MAX_LAYERS};
use crate::rates::Rates;
use crate::topics::Allowance;
use crate::wish::Wish;

/// Whether a source is published, as far as its owner has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Intent {
    /// Nothing was said: it begins with the first packet.
    #[default]
    Auto,
    /// `publish` with `active: true`.
    On,
    /// `publish` with `active: false`: packets are ignored.
    Off,
}

/// Packets that have been seen of a source.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    pub(crate) codec: Codec,
    /// Bit `n`: layer `n` is sent.
    pub(crate) layers: u8,
    /// Bit `n`: layer `n` is not sent, because its publisher was told that nobody wants it.
    pub(crate) paused: u8,
    pub(crate) rates: [Rates; MAX_LAYERS as usize],
    /// It sends more than it was told: it is not told again.
    pub(crate) deaf: bool,
    pub(crate) heights: [Option<u16>; MAX_LAYERS as usize],
    pub(crate) widths: [Option<u16>; MAX_LAYERS as usize],
    /// The most that each was measured to take.
    pub(crate) peaks: [u64; MAX_LAYERS as usize],
    /// The layers are spatial layers of one RTP stream, each with all below it.
    pub(crate) nested: bool,
    pub(crate) last: Instant,
    /// Of a publisher without control channel: packets have stopped.
    pub(crate) idle: bool,
    pub(crate) loudness: Loudness,
}

impl Media {
    /// Layers that can be had.
    pub(crate) fn available(&self) -> u8 {
        self.layers | self.paused
    }
}

/// One source of a participant.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceState {
    pub(crate) intent: Intent,
    pub(crate) muted: bool,
    pub(crate) hint: Option<ContentHint>,
    /// Apart: most participants of a large room send nothing.
    pub(crate) media: Option<Box<Media>>,
    /// What its publisher calls its layers (rids), the lowest first; empty: nothing.
    pub(crate) names: Arc<[String]>,
    /// What its publisher was told of it.
    pub(crate) wish: Wish,
    /// Position in the order in which the room's tracks began; 0 while it is not published.
    pub(crate) began: u64,
}

impl SourceState {
    /// Published: others see it in the roster.
    pub(crate) fn listed(&self) -> bool {
        match self.intent {
            Intent::On => true,
            Intent::Off => false,
            Intent::Auto => self.media.as_ref().is_some_and(|m| !m.idle),
        }
    }

    /// Packets may go to others.
    pub(crate) fn routable(&self) -> Option<&Media> {
        self.media.as_deref().filter(|m| self.listed() && !self.muted && !m.idle && m.available() != 0)
    }
}

/// What a receive slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Audio,
    Video,
    Screen,
}

/// One receive slot.
#[derive(Debug, Clone)]
pub(crate) struct SlotState {
    pub(crate) mid: String,
    pub(crate) role: Role,
    /// What it shall show.
    pub(crate) routed: Option<Feed>,
    /// The highest temporal layer of it; `None`: all.
    pub(crate) temporal: Option<u8>,
    /// What its subscriber has chosen of whatever is shown (WHEP); `None`: the policy chooses.
    pub(crate) selection: Option<Box<Selection>>,
    /// What it shall show as soon as that layer is sent.
    pub(crate) desired: Option<Feed>,
    /// What the lowest layer may take of the bandwidth, where that is less than it does.
    pub(crate) squeezed: Option<u64>,
    /// What really flows, as the host said.
    pub(crate) flowing: Option<Feed>,
    /// RTP time at which that began.
    pub(crate) since: u32,
    /// What the subscriber has been told.
    pub(crate) told: Option<TrackKey>,
    /// Whom it carried last: a slot prefers its old occupant.
    pub(crate) last: Option<TrackKey>,
}

/// One tap.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TapState {
    pub(crate) max_height: Option<u16>,
    pub(crate) feed: Option<Feed>,
    /// The earlier layer, on until a keyframe of `feed` was seen.
    pub(crate) old: Option<Feed>,
}

/// Requests in the current second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) since: Instant,
    pub(crate) count: u32,
}

/// One participant.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) key: ParticipantKey,
    pub(crate) id: ParticipantId,
    pub(crate) name: String,
    pub(crate) kind: ParticipantKind,
    pub(crate) grants: Grants,
    pub(crate) policy: Policy,
    pub(crate) decodes: Vec<VideoCodec>,
    pub(crate) hidden: bool,
    /// It makes, or made, a recording: what it taps is what may be kept.
    pub(crate) records: bool,
    pub(crate) only: Option<ParticipantId>,
    pub(crate) resume_token: String,
    pub(crate) control: bool,
    pub(crate) presence: Presence,
    /// Kept apart from the others.
    pub(crate) held: bool,
    /// The control channel is open: messages go out.
    pub(crate) open: bool,
    /// Media can flow.
    pub(crate) up: bool,
    /// Without a control channel: it can be told by RTCP how much it shall send, and was told this (`None`: no bound).
    pub(crate) boundable: bool,
    pub(crate) bound: Option<u64>,
    pub(crate) sources: [SourceState; 4],
    pub(crate) slots: Vec<SlotState>,
    pub(crate) taps: BTreeMap<TrackKey, TapState>,
    /// Tracks it was told it cannot decode.
    pub(crate) unavailable: BTreeSet<TrackKey>,
    /// The shard that serves it.
    pub(crate) shard: u16,
    /// What its line carries; `None`: nothing limits it.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// What the host was told of its demand, in bits per second.
    pub(crate) demand: u64,
    /// Its bandwidth keeps something below its top.
    pub(crate) tight: bool,
    pub(crate) pace: Pace,
    /// Videos that it wants, and those that it is served.
    pub(crate) videos: (usize, usize),
    /// What it was told of them.
    pub(crate) limits: Option<(u16, LimitReason)>,
    /// Since when somebody is louder than the quietest occupant of its audio slots.
    pub(crate) contested: Option<Instant>,
    pub(crate) rate: Rate,
    pub(crate) data: Allowance,
}

impl Participant {
    pub(crate) fn new(now: Instant, key: ParticipantKey, join: Join) -> Self {
        let mut sources: [SourceState; 4] = Default::default();
        for source in &join.muted {
            sources[source.index()].muted = true;
        }
        Self {
            key,
            id: join.id,
            name: join.name,
            kind: join.kind,
            grants: join.grants,
            policy: join.policy,
            decodes: join.decodes,
            hidden: join.hidden,
            records: false,
            only: join.only,
            resume_token: join.resume_token,
            control: join.control,
            presence: Presence::Connected,
            held: false,
            open: false,
            up: false,
            boundable: false,
            bound: None,
            sources,
            slots: slots(&join.slots),
            taps: BTreeMap::new(),
            unavailable: BTreeSet::new(),
            shard: 0,
            bandwidth: None,
            demand: 0,
            tight: false,
            pace: Pace::default(),
            videos: (0, 0),
            limits: None,
            contested: None,
            rate: Rate { since: now, count: 0 },
            data: Allowance::default(),
        }
    }

    pub(crate) fn track(&self, source: Source) -> TrackKey {
        TrackKey { participant: self.key, source }
    }

    pub(crate) fn publishes(&self) -> bool {
        self.sources.iter().any(SourceState::listed)
    }

    /// Counts a request; false: too many in this second.
    pub(crate) fn may_request(&mut self, now: Instant, per_second: u32) -> bool {
        if now.saturating_duration_since(self.rate.since) >= Duration::from_secs(1) {
            self.rate = Rate { since: now, count: 0 };
        }
        self.rate.count = self.rate.count.saturating_add(1);
        self.rate.count <= per_second
    }

    pub(crate) fn decodes(&self, codec: Codec) -> bool {
        match codec {
            Codec::Audio(_) => true,
            Codec::Video(v) => self.decodes.is_empty() || self.decodes.contains(&v),
        }
    }

    /// As others see it.
    pub(crate) fn info(&self) -> ParticipantInfo {
        let tracks = Source::ALL
            .into_iter()
            .filter_map(|source| {
                let state = &self.sources[source.index()];
                let media = state.media.as_ref();
                state.listed().then(|| TrackInfo {
                    source,
                    codec: media.map_or_else(|| expected_codec(source), |m| m.codec),
                    muted: state.muted,
                    layers: media.map_or(1, |m| u8::try_from(m.available().count_ones()).unwrap_or(8).max(1)),
                })
            })
            .collect();
        ParticipantInfo {
            id: self.id.clone(),
            key: self.key,
            name: self.name.clone(),
            kind: self.kind,
            presence: self.presence,
            held: self.held,
            tracks,
        }
    }
}

/// What publishers are answered first: shown in the roster until the first packet tells.
fn expected_codec(source: Source) -> Codec {
    match source.kind() {
        MediaKind::Audio => Codec::Audio(AudioCodec::Opus),
        MediaKind::Video => Codec::Video(VideoCodec::Vp8),
    }
}

/// Empty slots of a plan.
pub(crate) fn slots(plan: &SlotPlan) -> Vec<SlotState> {
    let slot = |role: Role| {
        move |mid: &String| SlotState {
            mid: mid.clone(),
            role,
            routed: None,
            temporal: None,
            selection: None,
            desired: None,
            squeezed: None,
            flowing: None,
            since: 0,
            told: None,
            last: None,
        }
    };
    let audio = plan.audio.iter().map(slot(Role::Audio));
    let video = plan.video.iter().map(slot(Role::Video));
    audio.chain(video).chain(plan.screen.iter().map(slot(Role::Screen))).collect()
}

impl SlotState {
    /// What the subscriber is told of it; `owner` names a participant.
    pub(crate) fn assignment(
        &self,
        owner: impl Fn(ParticipantKey) -> Option<ParticipantId>,
    ) -> SlotAssignment {
        let id = self.told.and_then(|track| owner(track.participant));
        let track = self.told.filter(|_| id.is_some());
        SlotAssignment {
            mid: self.mid.clone(),
            participant: id,
            source: track.map(|t| t.source),
            csrc: track.map(|t| t.participant.0),
            rtp_time: track.map(|_| self.since),
        }
    }
}
