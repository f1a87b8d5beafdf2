//! A source layer as it comes in: its clock, its layers, and what must wait to be read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antiphon_base::Source;
use antiphon_room::MAX_LAYERS;
use antiphon_wire::rtp::Descriptor;
use antiphon_wire::rtp::dependency::{self, Dependency};
use str0m::rtp::{RtpPacket, Ssrc};

use crate::redundancy::Heard;

/// For how long a packet waits for the one that tells the structure of its descriptor: a few round trips, after which that was sent again.
const WAIT: Duration = Duration::from_millis(500);
/// Packets that wait at most: a key frame of 150 kB.
pub(crate) const MAX_EARLY: usize = 128;

/// A source layer, found by its SSRC.
pub(crate) struct Stream {
    pub(crate) ssrc: Ssrc,
    pub(crate) source: Source,
    pub(crate) layer: u8,
    /// Numbers heard, where it came as RED.
    pub(crate) heard: Option<Heard>,
    /// The only one of its line: its spatial layers are the track's.
    alone: bool,
    pub(crate) spatial_layers: u8,
    dependency: dependency::Reader,
    /// RTP time of the packet before, with rollovers.
    rtp_time: Option<u64>,
    /// RTP time and number of the packet with which the newest key frame began, of H.264.
    began: Option<(u64, u64)>,
    pub(crate) early: Early<RtpPacket>,
}

impl Stream {
    pub(crate) fn new(ssrc: Ssrc, (source, layer): (Source, u8), alone: bool) -> Self {
        let dependency = dependency::Reader::new();
        let (heard, rtp_time, began, spatial_layers, early) = (None, None, None, 1, Early::default());
        Self { ssrc, source, layer, heard, alone, spatial_layers, dependency, rtp_time, began, early }
    }

    /// A packet's RTP time with rollovers: the nearest to the one before. Not str0m's (`RtpPacket::time`): where the first
    /// packet after a pause is older than the last before it (sent again, overtaken), that is half a cycle off.
    pub(crate) fn extend(&mut self, timestamp: u32) -> u64 {
        // Not from zero on, so that what is older than the first packet has a time, too.
        let before = self.rtp_time.unwrap_or(1 << 32 | u64::from(timestamp));
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what packets carry")]
        let step = timestamp.wrapping_sub(before as u32).cast_signed();
        *self.rtp_time.insert(before.wrapping_add_signed(i64::from(step)))
    }

    /// A key frame begins once. Where an encoder sends parameter sets and the first slice of H.264 in packets of their own, both look like
    /// it (RFC 6184 marks ends alone); who began with the slice could not decode it. `seq`: with rollovers.
    pub(crate) fn begin(&mut self, (rtp_time, seq): (u64, u64), descriptor: &mut Descriptor) {
        let Descriptor::H264(descriptor) = descriptor else { return };
        if !descriptor.starts_keyframe {
            return;
        }
        if self.began.is_some_and(|(time, first)| time == rtp_time && first < seq) {
            descriptor.starts_frame = false;
            descriptor.starts_keyframe = false;
        } else {
            self.began = Some((rtp_time, seq));
        }
    }

    /// What a dependency descriptor says.
    pub(crate) fn read(&mut self, raw: &[u8]) -> Result<Dependency, dependency::Error> {
        self.dependency.read(raw)
    }

    /// How many spatial layers there are by what a packet says; `described`: it has a dependency descriptor, if an unreadable one.
    pub(crate) fn layers(
        &mut self,
        described: bool,
        dependency: Option<&Dependency>,
        descriptor: &Descriptor,
    ) -> u8 {
        match (dependency, descriptor) {
            _ if !self.alone => {}
            (Some(d), _) => self.spatial_layers = d.structure.spatial_layers(),
            // A structure may come with any picture: senders add and take layers as they can.
            (None, Descriptor::Vp9(d)) if d.starts_keyframe() || d.spatial_layers.is_some() => {
                self.spatial_layers = d.spatial_layers.unwrap_or(1).min(MAX_LAYERS);
            }
            (None, d) if d.starts_keyframe() && !described => self.spatial_layers = 1,
            _ => {}
        }
        self.spatial_layers
    }
}

/// Packets `P` that came before the one that tells the structure of their dependency descriptors, which was overtaken or lost: until
/// that comes nobody can tell which layer they are of, and without it their key frame is of no use either. So they wait, bounded in
/// time and number (libwebrtc's receiver stashes them likewise).
pub(crate) struct Early<P> {
    waiting: VecDeque<(Instant, P)>,
    /// Number of the packet that told the newest structure.
    told: Option<u64>,
}

impl<P> Default for Early<P> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), told: None }
    }
}

impl<P> Early<P> {
    /// Takes a packet with its number, when it came and how its descriptor read; gives it back, unless it is to wait, and those that
    /// have waited and shall be taken after it: for the structure, or for too long.
    pub(crate) fn admit(
        &mut self,
        (seq, now): (u64, Instant),
        read: Result<&Dependency, dependency::Error>,
        packet: P,
    ) -> (Option<P>, Vec<P>) {
        match read {
            Ok(d) if d.attached => {
                self.told = Some(self.told.unwrap_or(seq).max(seq));
                let waited = std::mem::take(&mut self.waiting);
                (Some(packet), waited.into_iter().map(|(_, packet)| packet).collect())
            }
            Err(dependency::Error::Structure) if self.may_wait(seq) => {
                self.waiting.push_back((now, packet));
                (None, self.overdue(now))
            }
            _ => (Some(packet), self.overdue(now)),
        }
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn overdue(&mut self, now: Instant) -> Vec<P> {
        let in_time = |(at, _): &&(Instant, P)| now.saturating_duration_since(*at) < WAIT;
        let count = self.waiting.iter().rev().take(MAX_EARLY).take_while(in_time).count();
        let overdue = self.waiting.len() - count;
        self.waiting.drain(..overdue).map(|(_, packet)| packet).collect()
    }

    /// What is older than the newest structure belongs to one that has been forgotten.
    fn may_wait(&self, seq: u64) -> bool {
        self.told.is_none_or(|told| seq > told)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use antiphon_base::{Codec, VideoCodec};
    use antiphon_wire::rtp::dependency::{Error, Indications, References, Structure, Template};

    use super::*;

    /// A descriptor that was read, with its structure or without.
    fn readable(attached: bool) -> Dependency {
        let (indications, references) = (Indications::default(), References::default());
        let template = Template { spatial_id: 0, temporal_id: 0, indications, references, chains: vec![] };
        let structure = Structure {
            first_template: 0,
            targets: 1,
            templates: vec![template],
            chains: 0,
            protected_by: vec![],
            resolutions: vec![],
        };
        Dependency::of_template(&Arc::new(structure), 0, 0, (true, false), attached).unwrap()
    }

    fn come(early: &mut Early<u64>, seq: u64, at: Instant, tells: bool) -> (Option<u64>, Vec<u64>) {
        let read = if tells { Ok(readable(true)) } else { Err(Error::Structure) };
        early.admit((seq, at), read.as_ref().map_err(|e| *e), seq)
    }

    #[test]
    fn a_key_frame_of_h264_begins_with_its_parameter_sets() {
        let mut stream = Stream::new(1.into(), (Source::Camera, 0), true);
        // STAP-A of access unit delimiter, SPS and PPS; the first slice of an IDR picture; one of another picture.
        let sets: &[u8] = &[0x78, 0, 2, 9, 0x10, 0, 4, 0x67, 0x42, 0xc0, 0x0a, 0, 2, 0x68, 0xce];
        let (key, other): (&[u8], &[u8]) = (&[0x65, 0x88, 0x84], &[0x61, 0x9a]);
        let mut come = |seq: u64, rtp_time: u64, payload: &[u8]| {
            let mut descriptor = Descriptor::parse(Codec::Video(VideoCodec::H264), payload);
            stream.begin((rtp_time, seq), &mut descriptor);
            (descriptor.starts_frame(), descriptor.starts_keyframe())
        };
        let (begins, continues) = ((true, true), (false, false));
        assert_eq!([come(10, 0, sets), come(11, 0, key)], [begins, continues]);
        assert_eq!(come(12, 3_000, other), (true, false));
        // Without sets of its own, or where they are overtaken or lost, with the slice.
        assert_eq!(come(13, 6_000, key), begins);
        assert_eq!([come(15, 9_000, key), come(14, 9_000, sets)], [begins, begins]);
    }

    #[test]
    fn what_overtook_its_structure_follows_it() {
        let (mut early, now) = (Early::default(), Instant::now());
        assert_eq!(come(&mut early, 11, now, false), (None, vec![]));
        assert_eq!(come(&mut early, 12, now, false), (None, vec![]));
        assert_eq!(come(&mut early, 10, now + WAIT / 2, true), (Some(10), vec![11, 12]));
        assert_eq!(come(&mut early, 9, now, false), (Some(9), vec![]), "of a structure before");
        assert_eq!(early.admit((13, now), Ok(&readable(false)), 13), (Some(13), vec![]));
        assert_eq!(
            early.admit((14, now), Err(Error::Length), 14),
            (Some(14), vec![]),
            "nothing will explain it"
        );
    }

    #[test]
    fn the_wait_is_bounded_in_time_and_number() {
        let now = Instant::now();
        let mut early = Early::default();
        assert_eq!(come(&mut early, 1, now, false), (None, vec![]));
        assert_eq!(come(&mut early, 2, now + WAIT / 2, false), (None, vec![]));
        assert_eq!(come(&mut early, 3, now + WAIT, false), (None, vec![1]));
        assert_eq!(come(&mut early, 4, now + WAIT * 2, true), (Some(4), vec![2, 3]));
        let last = 5 + MAX_EARLY as u64;
        for seq in 5..last {
            assert_eq!(come(&mut early, seq, now, false), (None, vec![]));
        }
        assert_eq!(come(&mut early, last, now, false), (None, vec![5]));
        let (read, at) = (readable(false), now + WAIT);
        assert_eq!(
            early.admit((0, at), Ok(&read), 0),
            (Some(0), (6..=last).collect()),
            "with whatever comes"
        );
    }
}
