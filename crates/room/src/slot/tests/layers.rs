//! Layers of one stream, chosen at random times, and a receiver's view of what came: a model of the encoder knows what each
//! frame refers to, and checks that it was there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{Codec, MediaKind, VideoCodec};
use antiphon_wire::rtp::dependency::{
    Dependency, Indication, Indications, Reader, References, Structure, Template,
};
use antiphon_wire::rtp::{Descriptor, Packet};

use super::{admit, feed, video};
use crate::output::Feed;
use crate::slot::{Outgoing, Slot};
use crate::testing::{Random, base};

/// How spatial layers depend on each other (the names are those of W3C WebRTC-SVC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// L3T3: each on the one below.
    Full,
    /// L3T3_KEY: likewise in key pictures only.
    Key,
    /// S3T3: never.
    Simulcast,
}

/// What tells of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Descriptor,
    Vp9,
    Vp8,
}

/// Temporal layers of the pictures of a group.
const PATTERNS: [&[u8]; 3] = [&[0], &[0, 1], &[0, 2, 1, 2]];

/// A frame by its picture and spatial layer.
type Id = (u64, u8);

struct Encoder {
    base: Instant,
    mode: Mode,
    form: Form,
    spatial: u8,
    temporal: u8,
    structure: Arc<Structure>,
    /// Next picture, and the one with the newest key.
    picture: u64,
    key: u64,
    seq: u64,
    references: BTreeMap<Id, Vec<Id>>,
    /// Packets of each frame, and temporal layer.
    frames: BTreeMap<Id, (u64, u8)>,
}

impl Encoder {
    fn new(mode: Mode, form: Form, spatial: u8, temporal: u8) -> Self {
        Self {
            base: base(),
            mode,
            form,
            spatial,
            temporal,
            structure: Arc::new(structure(mode, spatial, temporal, 7)),
            picture: 0,
            key: 0,
            seq: 70_000,
            references: BTreeMap::new(),
            frames: BTreeMap::new(),
        }
    }

    fn pattern(&self) -> &'static [u8] {
        PATTERNS[usize::from(self.temporal) - 1]
    }

    /// All packets of the next picture.
    fn encode(&mut self, key: bool, random: &mut Random) -> Vec<Arc<Packet>> {
        let n = self.picture;
        if key {
            self.key = n;
            if n > 0 {
                // As senders do: another structure has other template numbers.
                let first = (self.structure.first_template + 20) % 64;
                self.structure = Arc::new(structure(self.mode, self.spatial, self.temporal, first));
            }
        }
        self.picture += 1;
        let position = (n - self.key) % self.pattern().len() as u64;
        let tid = self.pattern()[usize::try_from(position).unwrap()];
        let mut packets = Vec::new();
        for sid in 0..self.spatial {
            let parts = 1 + random.below(3);
            self.frames.insert((n, sid), (parts, tid));
            self.references.insert((n, sid), self.refers(n, sid, position));
            for part in 0..parts {
                packets.push(self.packet((n, sid), position, part, parts));
                self.seq += 1;
            }
        }
        packets
    }

    fn refers(&self, n: u64, sid: u8, position: u64) -> Vec<Id> {
        let key = n == self.key;
        let mut all = Vec::new();
        if sid > 0 && (self.mode == Mode::Full || (self.mode == Mode::Key && key)) {
            all.push((n, sid - 1));
        }
        if !key {
            all.push((n - back(position, self.pattern().len() as u64), sid));
        }
        all
    }

    fn packet(&self, (n, sid): Id, position: u64, part: u64, parts: u64) -> Arc<Packet> {
        let key = n == self.key;
        let (first, last) = (part == 0, part + 1 == parts);
        let tid = self.frames[&(n, sid)].1;
        let codec = match self.form {
            Form::Vp8 => Codec::Video(VideoCodec::Vp8),
            Form::Vp9 => Codec::Video(VideoCodec::Vp9),
            Form::Descriptor => Codec::Video(VideoCodec::Av1),
        };
        let [high, low] = u16::try_from(n & 0x7fff).unwrap().to_be_bytes();
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let payload = match self.form {
            Form::Vp9 => vec![
                0xa0 | bit(!key, 0x40) | bit(first, 8) | bit(last, 4),
                0x80 | high,
                low,
                tid << 5 | bit(position < 3, 0x10) | sid << 1 | bit(sid > 0, 1),
                u8::try_from((n / self.pattern().len() as u64) & 0xff).unwrap(),
                9,
            ],
            Form::Vp8 => {
                let sync = position == 1 || position == 2;
                let tl0 = u8::try_from((n / self.pattern().len() as u64) & 0xff).unwrap();
                vec![
                    0x80 | bit(first, 0x10),
                    0xe0,
                    0x80 | high,
                    low,
                    tl0,
                    tid << 6 | bit(sync, 0x20),
                    bit(!(key && first), 1),
                    0,
                    0,
                ]
            }
            Form::Descriptor => vec![0x10 | bit(key && first && sid == 0, 8) | bit(!first, 0x80), 0x30, 1],
        };
        let dependency = (self.form == Form::Descriptor).then(|| {
            let number =
                u16::try_from((n * u64::from(self.spatial) + u64::from(sid) + 65_000) & 0xffff).unwrap();
            let index = template(self.temporal, sid, key, position);
            let attached = key && first && sid == 0;
            Dependency::of_template(&self.structure, index, number, (first, last), attached).unwrap()
        });
        let arrival = self.base + Duration::from_millis(n * 33);
        Arc::new(Packet {
            track: feed(1, 0).track,
            layer: 0,
            codec,
            seq: self.seq,
            rtp_time: 90_000 + n * 3000,
            marker: last && sid + 1 == self.spatial,
            descriptor: Descriptor::parse(codec, &payload),
            payload: payload.into(),
            arrival,
            arrival_us: 0,
            capture_us: 0,
            capture_estimated: false,
            audio_level: None,
            dependency: dependency.map(Arc::new),
            spatial_layers: self.spatial,
        })
    }

    fn id(&self, packet: &Packet) -> Id {
        ((packet.rtp_time - 90_000) / 3000, packet.spatial_id())
    }
}

/// How many pictures back a delta picture at this position of its group refers to.
fn back(position: u64, group: u64) -> u64 {
    match position {
        0 => group,
        1 | 3 => 1,
        _ => 2,
    }
}

/// Kinds of frames of one spatial layer, in the order of their templates: key, and positions of the group.
const KINDS: [&[Option<u64>]; 3] =
    [&[None, Some(0)], &[None, Some(0), Some(1)], &[None, Some(0), Some(2), Some(1), Some(3)]];

fn template(temporal: u8, sid: u8, key: bool, position: u64) -> u8 {
    let kinds = KINDS[usize::from(temporal) - 1];
    let kind = kinds.iter().position(|k| *k == (!key).then_some(position)).unwrap();
    sid * u8::try_from(kinds.len()).unwrap() + u8::try_from(kind).unwrap()
}

fn structure(mode: Mode, spatial: u8, temporal: u8, first_template: u8) -> Structure {
    let pattern = PATTERNS[usize::from(temporal) - 1];
    let mut templates = Vec::new();
    for sid in 0..spatial {
        for kind in KINDS[usize::from(temporal) - 1] {
            let position = kind.unwrap_or(0);
            let temporal_id = pattern[usize::try_from(position).unwrap()];
            let mut references = References::default();
            if sid > 0 && (mode == Mode::Full || (mode == Mode::Key && kind.is_none())) {
                references.push(1).unwrap();
            }
            if kind.is_some() {
                let distance = back(position, pattern.len() as u64) * u64::from(spatial);
                references.push(u16::try_from(distance).unwrap()).unwrap();
            }
            let mut indications = Indications::default();
            for s in 0..spatial {
                for t in 0..temporal {
                    let i = indication(mode, (sid, temporal_id), kind.is_none(), (s, t));
                    indications = indications.with(s * temporal + t, i);
                }
            }
            templates.push(Template {
                spatial_id: sid,
                temporal_id,
                indications,
                references,
                chains: vec![],
            });
        }
    }
    let resolutions = (0..spatial).map(|s| (320 << s, 180 << s)).collect();
    let targets = spatial * temporal;
    Structure { first_template, targets, templates, chains: 0, protected_by: vec![], resolutions }
}

/// As libwebrtc's scalability structures have it.
fn indication(mode: Mode, (sid, tid): (u8, u8), key: bool, (s, t): (u8, u8)) -> Indication {
    let spatial = match mode {
        Mode::Full => sid <= s,
        Mode::Key if key => sid <= s,
        Mode::Key | Mode::Simulcast => sid == s,
    };
    match (spatial && tid <= t, key) {
        (false, _) => Indication::NotPresent,
        (true, true) => Indication::Switch,
        (true, false) if sid < s => Indication::Required,
        (true, false) if tid == 0 || tid < t => Indication::Switch,
        (true, false) => Indication::Discardable,
    }
}

/// What came out, checked packet by packet.
#[derive(Default)]
struct Receiver {
    /// Packets of each frame.
    got: BTreeMap<Id, u64>,
    numbers: BTreeSet<u64>,
    /// RTP time whose marker came.
    ended: Option<u32>,
    reader: Reader,
    frame_numbers: BTreeSet<u16>,
}

impl Receiver {
    /// Nothing was lost: all must be there.
    fn take(&mut self, encoder: &Encoder, o: &Outgoing, what: &str) {
        let id = encoder.id(&o.packet);
        *self.got.entry(id).or_default() += 1;
        if let Some(last) = self.numbers.last() {
            assert_eq!(o.rewritten.seq, last + 1, "{what}: a hole");
        }
        self.numbers.insert(o.rewritten.seq);
        for reference in &encoder.references[&id] {
            let whole = self.got.get(reference).copied() == Some(encoder.frames[reference].0);
            assert!(whole, "{what}: {id:?} refers to {reference:?}, which was not sent");
        }
        assert_ne!(self.ended, Some(o.rewritten.rtp_time), "{what}: {id:?} after the marker of its picture");
        if o.marker {
            self.ended = Some(o.rewritten.rtp_time);
        }
        if let (Some(d), Some(patch)) = (&o.packet.dependency, &o.rewritten.dependency) {
            let mut bytes = Vec::new();
            assert!(d.write(patch, &mut bytes) > 0);
            let seen = self.reader.read(&bytes).unwrap_or_else(|e| panic!("{what}: {id:?}: {e}"));
            assert_eq!(seen.references, d.references);
            for distance in seen.references.as_slice() {
                let number = seen.frame_number.wrapping_sub(*distance);
                assert!(self.frame_numbers.contains(&number), "{what}: {id:?} refers to number {number}");
            }
            self.frame_numbers.insert(seen.frame_number);
        }
    }

    /// A picture was sent: its highest spatial layer is whole and has the marker.
    fn picture(&self, encoder: &Encoder, n: u64, rtp_time: Option<u32>, what: &str) -> Option<(u8, u8)> {
        let sent: Vec<(&Id, &u64)> = self.got.range((n, 0)..=(n, 255)).collect();
        for (id, packets) in &sent {
            assert_eq!(**packets, encoder.frames[*id].0, "{what}: {id:?} is torn");
        }
        let ((_, top), _) = sent.last()?;
        assert_eq!(self.ended, rtp_time, "{what}: picture {n} has no marker");
        Some((*top, encoder.frames[&(n, *top)].1))
    }
}

/// Runs a stream with random targets. Gives how many packets were sent and left out.
fn run(mode: Mode, form: Form, (spatial, temporal): (u8, u8), seed: u64) -> (u64, u64) {
    let what = format!("{mode:?} {form:?} {spatial} {temporal} seed {seed}");
    let mut random = Random(seed);
    let mut encoder = Encoder::new(mode, form, spatial, temporal);
    let mut receiver = Receiver::default();
    let mut slot = video();
    let mut wanted = feed(1, spatial - 1);
    slot.want(Some(wanted));
    let (mut limit, mut since, mut told) = (u8::MAX, 0, None);
    for n in 0..120 {
        if random.below(15) == 0 {
            wanted = feed(1, u8::try_from(random.below(u64::from(spatial))).unwrap());
            limit = u8::try_from(random.below(u64::from(temporal))).unwrap();
            slot.want(Some(wanted));
            slot.limit_temporal(Some(limit).filter(|l| l + 1 < temporal));
            since = n;
        }
        let key = n == 0 || slot.needs_keyframe().is_some() || random.below(40) == 0;
        let mut out = Vec::new();
        for packet in encoder.encode(key, &mut random) {
            slot.admit(&packet, &mut out);
        }
        for o in &out {
            receiver.take(&encoder, o, &what);
            told = o.switched.or(told);
        }
        assert!(out.is_empty() || told == slot.current(), "{what}: {n}: {told:?}");
        let rtp_time = out.last().map(|o| o.rewritten.rtp_time);
        let seen = receiver.picture(&encoder, n, rtp_time, &what);
        // Two groups are enough to follow.
        if n >= since + 8 {
            let limit = limit.min(temporal - 1);
            let tid = encoder.frames[&(n, 0)].1;
            let expected = (tid <= limit).then_some((wanted.layer, tid));
            assert_eq!(seen, expected, "{what}: {n}, limit {limit}");
        }
    }
    (slot.counters().sent, slot.counters().left_out)
}

#[test]
fn what_is_sent_of_layers_can_be_decoded() {
    let (mut sent, mut left_out) = (0, 0);
    for seed in 0..60 {
        for layers in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)] {
            for mode in [Mode::Full, Mode::Key, Mode::Simulcast] {
                let counts = run(mode, Form::Descriptor, layers, seed);
                (sent, left_out) = (sent + counts.0, left_out + counts.1);
            }
            run(Mode::Full, Form::Vp9, layers, seed);
            run(Mode::Key, Form::Vp9, layers, seed);
            if layers.0 == 1 {
                run(Mode::Full, Form::Vp8, layers, seed);
            }
        }
    }
    assert!(left_out > sent / 4 && sent > left_out / 4, "{sent} {left_out}: the test would prove nothing");
}

#[test]
fn over_loss_and_reorder_a_frame_is_sent_whole_or_not_at_all() {
    let (mut lost_frames, mut sent) = (0, 0);
    for seed in 0..200 {
        let mut random = Random(seed);
        let mode = [Mode::Full, Mode::Key][random.index(2)];
        let form = [Form::Descriptor, Form::Vp9][random.index(2)];
        let mut encoder = Encoder::new(mode, form, 3, 3);
        let mut wire: Vec<(u64, Arc<Packet>)> = Vec::new();
        let mut lost: BTreeSet<Id> = BTreeSet::new();
        for n in 0..150 {
            for packet in encoder.encode(n % 30 == 0, &mut random) {
                let at = packet.seq * 10 + random.below(80);
                // A key frame's first packet is not lost: without it the stream would be another one.
                if n % 30 != 0 && random.below(40) == 0 {
                    lost.insert(encoder.id(&packet));
                } else {
                    wire.push((at, packet));
                }
            }
        }
        wire.sort_by_key(|(at, _)| *at);
        let mut slot = video();
        slot.want(Some(feed(1, 2)));
        let mut out = Vec::new();
        for (_, packet) in &wire {
            if random.below(60) == 0 {
                slot.want(Some(feed(1, u8::try_from(random.below(3)).unwrap())));
                slot.limit_temporal(Some(u8::try_from(random.below(3)).unwrap()));
            }
            slot.admit(packet, &mut out);
        }
        lost_frames += lost.len();
        check(&encoder, &out, &lost, &format!("{mode:?} {form:?} seed {seed}"));
        // The lowest layers alone, to which a seed may soon come, are 38 frames.
        assert!(slot.counters().sent > 50, "seed {seed}: the test would prove nothing");
        sent += slot.counters().sent;
    }
    assert!(lost_frames > 1_000 && sent > 200 * 150, "{lost_frames} {sent}: the test would prove nothing");
}

fn check(encoder: &Encoder, out: &[Outgoing], lost: &BTreeSet<Id>, what: &str) {
    let numbers: BTreeSet<u64> = out.iter().map(|o| o.rewritten.seq).collect();
    assert_eq!(numbers.len(), out.len(), "{what}: a number was used twice");
    let mut sent: BTreeMap<Id, u64> = BTreeMap::new();
    for o in out {
        *sent.entry(encoder.id(&o.packet)).or_default() += 1;
    }
    let first = sent.keys().next().copied().unwrap();
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for o in out {
        let end = ends.entry(encoder.id(&o.packet).0).or_default();
        *end = o.rewritten.seq.max(*end);
    }
    for o in out.iter().filter(|o| o.marker) {
        let id = encoder.id(&o.packet);
        assert_eq!(
            o.rewritten.seq, ends[&id.0],
            "{what}: more of its picture after {id:?}, which has the marker"
        );
    }
    for (id, packets) in &sent {
        let whole = *packets == encoder.frames[id].0;
        assert!(whole || lost.contains(id) || id.0 == first.0, "{what}: {id:?} is torn");
        for reference in &encoder.references[id] {
            // What came after the key frame behind it is of no use any more.
            let overtaken = reference.0 % 30 >= 26;
            let there = sent.contains_key(reference) || lost.contains(reference) || overtaken;
            assert!(there, "{what}: {id:?} refers to {reference:?}, which was left out");
        }
    }
}

/// Found by the simulation's seed 381: layers were changed twice while a layer of a key picture was being sent again.
#[test]
fn a_layer_that_comes_late_is_judged_as_its_picture_was() {
    let mut random = Random(5);
    let mut encoder = Encoder::new(Mode::Full, Form::Vp9, 3, 3);
    let mut slot = video();
    slot.want(Some(feed(1, 1)));
    let (late, soon): (Vec<_>, Vec<_>) =
        encoder.encode(true, &mut random).into_iter().partition(|p| p.spatial_id() == 2);
    let out = admit(&mut slot, &soon);
    assert!(out.last().is_some_and(|o| o.marker && o.packet.spatial_id() == 1));
    slot.want(Some(feed(1, 2)));
    for (key, limit) in [(true, None), (false, Some(0))] {
        slot.limit_temporal(limit);
        admit(&mut slot, &encoder.encode(key, &mut random));
    }
    assert!(admit(&mut slot, &late).is_empty(), "its picture has ended with the layer below");
}

/// Found by the simulation's seed 3949: the numbers of what is left out close, so that no later one tells of the hole.
#[test]
fn a_lost_end_of_the_layer_that_is_sent_leaves_a_hole() {
    let mut random = Random(5);
    let mut encoder = Encoder::new(Mode::Full, Form::Vp9, 2, 1);
    let mut slot = video();
    slot.want(Some(feed(1, 0)));
    let mut out = admit(&mut slot, &encoder.encode(true, &mut random));
    loop {
        let picture = encoder.encode(false, &mut random);
        let sent = picture.iter().filter(|p| p.spatial_id() == 0).count();
        let lost = |i: usize| sent > 1 && i + 1 == sent;
        let came: Vec<_> =
            picture.into_iter().enumerate().filter(|(i, _)| !lost(*i)).map(|(_, p)| p).collect();
        out.extend(admit(&mut slot, &came));
        if sent > 1 {
            break;
        }
    }
    slot.want(None);
    out.extend(admit(&mut slot, &encoder.encode(false, &mut random)));
    slot.want(Some(feed(1, 0)));
    let last = out.last().unwrap().rewritten.seq;
    let next = admit(&mut slot, &encoder.encode(true, &mut random));
    assert_eq!((next[0].rewritten.seq, slot.counters().torn), (last + 2, 1));
}

/// Found by the simulation's seed 741: one went up to a layer that had been left out since, and the layer below had no marker.
#[test]
fn a_key_frame_that_comes_late_begins_nothing() {
    let mut random = Random(5);
    let mut encoder = Encoder::new(Mode::Full, Form::Descriptor, 3, 3);
    let mut slot = video();
    slot.want(Some(feed(1, 1)));
    let (late, soon): (Vec<_>, Vec<_>) =
        encoder.encode(true, &mut random).into_iter().partition(|p| p.spatial_id() == 1);
    admit(&mut slot, &soon);
    admit(&mut slot, &encoder.encode(false, &mut random));
    assert_eq!(admit(&mut slot, &late).len(), late.len());
    slot.want(Some(feed(1, 2)));
    for _ in 0..4 {
        let out = admit(&mut slot, &encoder.encode(false, &mut random));
        assert!(out.last().is_some_and(|o| o.marker && o.packet.spatial_id() == 1));
    }
    let out = admit(&mut slot, &encoder.encode(true, &mut random));
    assert!(out.last().is_some_and(|o| o.marker && o.packet.spatial_id() == 2));
}

/// Found by the simulation's seed 8810: what was left out of a key picture before its lowest layer came was taken for sent.
#[test]
fn a_key_frame_that_upper_layers_overtake_begins_nothing_but_what_is_sent_of_it() {
    let mut random = Random(5);
    let mut encoder = Encoder::new(Mode::Full, Form::Descriptor, 3, 3);
    let mut slot = video();
    slot.want(Some(feed(1, 0)));
    admit(&mut slot, &encoder.encode(true, &mut random));
    let mut key = encoder.encode(true, &mut random);
    key.sort_by_key(|p| std::cmp::Reverse(p.spatial_id()));
    let out = admit(&mut slot, &key);
    assert!(out.iter().all(|o| o.packet.spatial_id() == 0));
    slot.want(Some(feed(1, 2)));
    for _ in 0..4 {
        let out = admit(&mut slot, &encoder.encode(false, &mut random));
        assert!(out.last().is_some_and(|o| o.marker && o.packet.spatial_id() == 0));
    }
    assert_eq!(slot.needs_keyframe(), Some(feed(1, 2)));
    let out = admit(&mut slot, &encoder.encode(true, &mut random));
    assert!(out.last().is_some_and(|o| o.marker && o.packet.spatial_id() == 2));
}

#[test]
fn spatial_layers_need_no_switch_of_the_source() {
    let mut random = Random(3);
    let mut encoder = Encoder::new(Mode::Full, Form::Descriptor, 3, 1);
    let mut slot = video();
    slot.want(Some(feed(1, 2)));
    let mut all = |slot: &mut Slot, key| {
        let mut out = Vec::new();
        for packet in encoder.encode(key, &mut random) {
            slot.admit(&packet, &mut out);
        }
        out
    };
    let switched = |out: &[Outgoing]| out.iter().filter_map(|o| o.switched).collect::<Vec<Feed>>();
    assert_eq!(switched(&all(&mut slot, true)), [feed(1, 2)]);
    slot.want(Some(feed(1, 0)));
    assert_eq!(slot.needs_keyframe(), None, "down at once");
    let out = all(&mut slot, false);
    assert_eq!(switched(&out), [feed(1, 0)]);
    assert!(out.iter().all(|o| o.packet.spatial_id() == 0));
    assert!(out.last().is_some_and(|o| o.marker && !o.packet.marker));
    let mask = out[0].rewritten.dependency.and_then(|patch| patch.active);
    assert_eq!(mask, Some(0b001), "the receiver is told");
    slot.want(Some(feed(1, 1)));
    assert_eq!(slot.needs_keyframe(), Some(feed(1, 1)), "up with a key frame");
    assert!(switched(&all(&mut slot, false)).is_empty());
    assert_eq!(switched(&all(&mut slot, true)), [feed(1, 1)]);
    assert_eq!((slot.needs_keyframe(), slot.rewrite_counters().switches), (None, 1));
}

#[test]
fn a_layer_that_the_sender_stopped_is_not_waited_for() {
    let mut random = Random(5);
    let mut encoder = Encoder::new(Mode::Full, Form::Descriptor, 3, 1);
    let mut slot = video();
    slot.want(Some(feed(1, 2)));
    let mut out = Vec::new();
    let only_two = |p: &Arc<Packet>| {
        let mut d = p.dependency.as_deref().unwrap().clone();
        d.active = 0b011;
        Arc::new(Packet { dependency: Some(Arc::new(d)), ..(**p).clone() })
    };
    for n in 0..2 {
        for packet in encoder.encode(n == 0, &mut random).iter().filter(|p| p.spatial_id() < 2) {
            slot.admit(&only_two(packet), &mut out);
        }
    }
    assert_eq!((slot.current(), slot.needs_keyframe()), (Some(feed(1, 1)), None));
    assert!(out.iter().any(|o| o.packet.spatial_id() == 1 && o.marker));
}

#[test]
fn nothing_of_one_stream_is_read_by_the_structure_of_another() {
    let mut random = Random(11);
    let mut receiver = Reader::new();
    let mut slot = video();
    let mut last = None;
    for (round, layers) in [(3u8, 3u8), (1, 3), (2, 2), (3, 1)].into_iter().enumerate() {
        let mut encoder = Encoder::new(Mode::Full, Form::Descriptor, layers.0, layers.1);
        let who = u32::try_from(round).unwrap() + 1;
        slot.want(Some(feed(who, layers.0 - 1)));
        for n in 0..5 {
            let mut out = Vec::new();
            for packet in encoder.encode(n == 0, &mut random) {
                let packet = Packet { track: feed(who, 0).track, ..(*packet).clone() };
                slot.admit(&Arc::new(packet), &mut out);
            }
            for o in &out {
                let mut bytes = Vec::new();
                let d = o.packet.dependency.as_ref().unwrap();
                d.write(&o.rewritten.dependency.unwrap(), &mut bytes);
                let seen = receiver.read(&bytes).unwrap();
                assert_eq!((seen.spatial_id, seen.temporal_id), (d.spatial_id, d.temporal_id));
                if n == 0 && o.switched.is_some() && round > 0 {
                    // The first packet of a source, read by who has lost what told its structure.
                    let mut plain = bytes.clone();
                    plain.truncate(3);
                    let mut old = last.take().unwrap_or_else(Reader::new);
                    assert!(Reader::read(&mut old, &plain).is_err());
                }
                if d.starts_frame {
                    let number = seen.frame_number;
                    assert!(o.packet.payload.len() > 1 && number < 60_000, "goes on from the source before");
                }
            }
        }
        last = Some(receiver.clone());
    }
    assert_eq!(MediaKind::Video, slot.kind);
}
