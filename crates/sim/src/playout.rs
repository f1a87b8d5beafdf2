//! What a viewer sees and hears of what came in a slot: the frames that could be decoded, when they were shown, and where
//! the picture froze.
//!
//! A picture can be shown when all of its packets have come, up to the marker, and it is a key frame, or what it builds on could be
//! shown.
//! Pictures are shown in order. With a jitter buffer of some depth each is shown when its turn has come by its RTP time. The buffer
//! gets deeper where the server asks for it (`playout-delay`), as slowly as libwebrtc's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use antiphon_base::MediaKind;

use crate::client::{Received, SlotLog};
use crate::stamp::Stamp;

/// Ticks of the video clock in a second.
const CLOCK: f64 = 90_000.0;
/// A freeze as W3C's webrtc-stats counts it (`freezeCount`): an interval of three times the usual one, and 150 ms beyond it. What is usual
/// there is the mean of what was shown; here it is that of what was sent, so that nothing shown is a freeze, too.
const FREEZE_FACTOR: f64 = 3.0;
const FREEZE_EXTRA_S: f64 = 0.150;
/// Seconds by which a buffer's depth changes in one (libwebrtc, `modules/video_coding/timing/timing.cc`: `kDelayMaxChangeMsPerS`).
const DEEPER_S: f64 = 0.1;

/// Frames that later ones may build on: of four pictures of three layers.
const REFERENCES: usize = 12;

/// A picture that was shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// When.
    pub at: Instant,
    /// Its layer.
    pub layer: u8,
    /// Seconds of media time since the first one.
    pub media_s: f64,
}

#[derive(Debug)]
struct Picture {
    /// What came of each layer.
    frames: BTreeMap<u8, (Stamp, BTreeSet<u16>)>,
    /// The layer whose last packet has the marker.
    last: Option<u8>,
    since: Instant,
    kept: Option<Duration>,
}

/// A picture that was decoded.
#[derive(Debug, Clone, Copy)]
struct Decoded {
    /// RTP time, unwrapped.
    time: u64,
    at: Instant,
    layer: u8,
    /// For how long the server wants it kept.
    kept: Duration,
}

impl Picture {
    /// The highest layer of it, if all of it is there.
    fn whole(&self) -> Option<&Stamp> {
        let whole = |(stamp, came): &(Stamp, BTreeSet<u16>)| came.len() == usize::from(stamp.count);
        let (layer, (top, _)) = self.frames.last_key_value()?;
        (self.last == Some(*layer) && self.frames.values().all(whole)).then_some(top)
    }

    /// All that its frames build on is here, or was decoded.
    fn is_decodable(&self, references: &VecDeque<Stamp>) -> bool {
        let here = self.frames.values().map(|(stamp, _)| stamp);
        here.clone().all(|s| {
            s.references().all(|(frame, layer)| {
                let is = |r: &Stamp| (r.stream(), r.frame, r.layer) == (s.stream(), frame, layer);
                references.iter().any(is) || here.clone().any(is)
            })
        })
    }
}

/// What a receiver can decode of what has come in a video slot.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By RTP time, unwrapped: pictures that were not decoded yet.
    pictures: BTreeMap<u64, Picture>,
    newest: Option<u64>,
    /// Time of the last one that was.
    decoded: Option<u64>,
    /// The last ones, of one stream.
    references: VecDeque<Stamp>,
    /// For how long the server wants pictures kept, as told last.
    kept: Duration,
    all: Vec<Decoded>,
}

impl Decoder {
    /// Takes a packet that came.
    pub fn add(&mut self, packet: &Received) {
        let Some(parsed) = packet.parsed else { return };
        let last = *self.newest.get_or_insert(1 << 32 | u64::from(packet.rtp_time));
        let step = packet.rtp_time.wrapping_sub(low32(last)).cast_signed();
        let time = last.saturating_add_signed(i64::from(step));
        self.newest = self.newest.max(Some(time));
        if self.decoded.is_some_and(|decoded| time <= decoded) {
            return;
        }
        let new = || Picture { frames: BTreeMap::new(), last: None, since: packet.at, kept: packet.kept };
        let (picture, stamp) = (self.pictures.entry(time).or_insert_with(new), parsed.stamp);
        picture.frames.entry(stamp.layer).or_insert_with(|| (stamp, BTreeSet::new())).1.insert(stamp.index);
        if packet.marker {
            picture.last = Some(stamp.layer);
        }
        self.decode(packet.at);
    }

    /// In order; over a gap only with a key frame, or with what does not build on what is missing.
    fn decode(&mut self, now: Instant) {
        loop {
            let references = &self.references;
            let can = |p: &&Picture| p.whole().is_some() && p.is_decodable(references);
            let Some((&time, picture)) = self.pictures.iter().find(|(_, p)| can(p)) else { return };
            let Some(&Stamp { layer, key, .. }) = picture.whole() else { return };
            self.kept = picture.kept.unwrap_or(self.kept);
            self.all.push(Decoded { time, at: now, layer, kept: self.kept });
            if key {
                self.references.clear();
            }
            for (stamp, _) in picture.frames.values() {
                self.references.truncate(REFERENCES - 1);
                self.references.push_front(*stamp);
            }
            self.decoded = Some(time);
            self.pictures = self.pictures.split_off(&(time + 1));
        }
    }

    /// Since when there are pictures that cannot be decoded.
    pub fn stuck(&self) -> Option<Instant> {
        self.pictures.values().map(|p| p.since).min()
    }
}

/// The pictures of a video slot as shown with a jitter buffer that waits for `depth`, and longer where the server wants it; zero: each
/// as soon as it can be.
pub fn shown(slot: &SlotLog, depth: Duration) -> Vec<Shown> {
    let mut decoder = Decoder::default();
    slot.packets.iter().for_each(|p| decoder.add(p));
    buffer(&decoder.all, depth)
}

/// The quickest picture tells when the others were due.
fn buffer(all: &[Decoded], depth: Duration) -> Vec<Shown> {
    let Some(&Decoded { time: first, at: base, .. }) = all.first() else { return Vec::new() };
    let media_s = |time: u64| (time - first) as f64 / CLOCK;
    let early = |decoded: &Decoded| (decoded.at - base).as_secs_f64() - media_s(decoded.time);
    let quickest = all.iter().map(early).fold(0.0, f64::min);
    let (mut deep_s, mut before_s) = (depth.as_secs_f64(), 0.0);
    let show = |decoded: &Decoded| {
        let media_s = media_s(decoded.time);
        let step_s = (media_s - std::mem::replace(&mut before_s, media_s)) * DEEPER_S;
        deep_s = decoded.kept.max(depth).as_secs_f64().clamp(deep_s - step_s, deep_s + step_s);
        let due = base + Duration::from_secs_f64((media_s + quickest + deep_s).max(0.0));
        let at = if depth.is_zero() { decoded.at } else { decoded.at.max(due) };
        Shown { at, layer: decoded.layer, media_s }
    };
    all.iter().map(show).collect()
}

/// What of a time the picture did not move.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Freezes {
    /// Pictures shown.
    pub pictures: usize,
    /// The longest time between two of them, or to the end of the time.
    pub longest: Duration,
    /// Freezes, and how long they took together.
    pub count: usize,
    /// Sum of their lengths.
    pub total: Duration,
}

/// Looks for freezes between two moments, where so many pictures are sent in a second.
pub fn freezes(shown: &[Shown], from: Instant, to: Instant, fps: u32) -> Freezes {
    let inside = shown.iter().map(|s| s.at).filter(|at| (from..to).contains(at));
    let pictures = inside.clone().count();
    let before = shown.iter().map(|s| s.at).filter(|at| *at < from).max().unwrap_or(from);
    let times: Vec<Instant> = [before].into_iter().chain(inside).chain([to]).collect();
    let usual_s = 1.0 / f64::from(fps);
    let freeze_s = (FREEZE_FACTOR * usual_s).max(usual_s + FREEZE_EXTRA_S);
    let gaps = times.windows(2).map(|w| w[1] - w[0]);
    let frozen = gaps.clone().filter(|gap| gap.as_secs_f64() >= freeze_s);
    Freezes {
        pictures,
        longest: gaps.max().unwrap_or_default(),
        count: frozen.clone().count(),
        total: frozen.sum(),
    }
}

/// Frame number, RTP time, and when it came.
type Came = (u32, u32, Instant);

/// Frames of audio that came in time, by themselves or repeated by others, and those that were sent meanwhile: from the first to the
/// last that came, of each source. In time is what a jitter buffer of this depth still plays: the quickest frame tells when the
/// others were due. What is not heard is concealed.
pub fn heard(slot: &SlotLog, depth: Duration) -> (usize, usize) {
    assert_eq!(slot.kind, MediaKind::Audio, "pictures are shown");
    let of = |stamp: &Stamp| (stamp.publisher, stamp.source.index());
    let mut sources: BTreeMap<(u16, usize), Vec<Came>> = BTreeMap::new();
    let packets = || slot.packets.iter().filter_map(|p| Some((p, p.parsed?.stamp)));
    for (packet, stamp) in packets() {
        sources.entry(of(&stamp)).or_default().push((stamp.frame, packet.rtp_time, packet.at));
    }
    let ticks: BTreeMap<_, u32> = sources.iter().map(|(source, came)| (*source, ticks_of(came))).collect();
    for (packet, stamp) in packets() {
        let Some(came) = sources.get_mut(&of(&stamp)) else { continue };
        for Stamp { frame, .. } in packet.repeated.iter().map(|parsed| parsed.stamp) {
            let before = ticks[&of(&stamp)].wrapping_mul(stamp.frame.wrapping_sub(frame));
            came.push((frame, packet.rtp_time.wrapping_sub(before), packet.at));
        }
    }
    sources.values().fold((0, 0), |(came, sent), all| {
        let (in_time, meanwhile) = in_time(all, depth);
        (came + in_time, sent + meanwhile)
    })
}

/// Ticks of a frame: of the shortest step between two that came.
fn ticks_of(came: &[Came]) -> u32 {
    let steps = came.windows(2).filter(|w| w[1].0 > w[0].0);
    let ticks = steps.map(|w| w[1].1.wrapping_sub(w[0].1) / (w[1].0 - w[0].0));
    ticks.filter(|ticks| *ticks > 0).min().unwrap_or(AUDIO_TICKS)
}

/// Ticks of 20 ms.
const AUDIO_TICKS: u32 = 960;
/// Ticks of the audio clock in a second.
const AUDIO_CLOCK: f64 = 48_000.0;

fn in_time(all: &[Came], depth: Duration) -> (usize, usize) {
    let Some(&(_, begin, base)) = all.first() else { return (0, 0) };
    // How much later it came than its RTP time says, beside what all have.
    let late_s = |rtp_time: u32, at: Instant| {
        let media_s = f64::from(rtp_time.wrapping_sub(begin).cast_signed()) / AUDIO_CLOCK;
        (at - base).as_secs_f64() - media_s
    };
    let quickest = all.iter().map(|(_, time, at)| late_s(*time, *at)).fold(f64::MAX, f64::min);
    let due = quickest + depth.as_secs_f64();
    let heard: BTreeSet<u32> =
        all.iter().filter(|(_, time, at)| late_s(*time, *at) <= due).map(|(frame, ..)| *frame).collect();
    let frames = all.iter().map(|(frame, ..)| *frame);
    let sent = frames.clone().max().zip(frames.min()).map_or(0, |(last, first)| last - first + 1);
    (heard.len(), sent as usize)
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are the RTP time")]
fn low32(time: u64) -> u32 {
    time as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gets_deeper_by_a_tenth_of_the_time() {
        let base = Instant::now();
        let ms = Duration::from_millis;
        // Ten pictures a second that come at once, kept for 250 ms from the tenth on and no longer from the fortieth on.
        let decoded = |n: u64| {
            let kept = if (10..40).contains(&n) { ms(250) } else { Duration::ZERO };
            Decoded { time: n * 9_000, at: base + ms(n * 100), layer: 0, kept }
        };
        let shown = buffer(&(0..60).map(decoded).collect::<Vec<_>>(), ms(100));
        let late = |n: usize| (shown[n].at - base).as_millis() - n as u128 * 100;
        assert_eq!(
            [0, 9, 10, 15, 24, 39, 40, 54, 59].map(late),
            [100, 100, 110, 160, 250, 250, 240, 100, 100]
        );
    }

    #[test]
    fn what_stands_still_is_frozen() {
        let base = Instant::now();
        let at = |ms: u64| base + Duration::from_millis(ms);
        let of = |shown: &[u64]| {
            let shown: Vec<_> =
                shown.iter().map(|ms| Shown { at: at(*ms), layer: 0, media_s: 0.0 }).collect();
            let Freezes { pictures, longest, count, total } = freezes(&shown, at(0), at(1_000), 20);
            (pictures, longest.as_millis(), count, total.as_millis())
        };
        assert_eq!(of(&(0..20).map(|n| n * 50).collect::<Vec<_>>()), (20, 50, 0, 0));
        // Three of four are missing, but never for 200 ms: three times what is usual, and 150 ms more than that.
        assert_eq!(of(&[0, 190, 380, 570, 760, 950]), (6, 190, 0, 0));
        assert_eq!(of(&[0, 200, 400, 600, 800]), (5, 200, 5, 1_000));
        assert_eq!(of(&[0, 50, 500, 550, 900]), (5, 450, 2, 800));
        assert_eq!(of(&[]), (0, 1_000, 1, 1_000));
    }

    #[test]
    fn what_comes_after_its_turn_is_not_heard() {
        let base = Instant::now();
        let ms = Duration::from_millis;
        // Five frames of 20 ms over the wrap: the second comes first, the third 200 ms late, the fourth never.
        let came = |frame: u32, late: u64| {
            (frame, (u32::MAX - 1_000).wrapping_add(960 * frame), base + ms(u64::from(frame) * 20 + late))
        };
        let all = [came(1, 0), came(0, 30), came(4, 10), came(2, 200)];
        assert_eq!(in_time(&all, ms(250)), (4, 5));
        assert_eq!(in_time(&all, ms(199)), (3, 5));
        assert_eq!(ticks_of(&all), 960);
    }
}
