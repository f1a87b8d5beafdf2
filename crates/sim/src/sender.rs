//! One layer of one track that a client sends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, Source, VideoCodec};
use antiphon_wire::rtp::dependency::Dependency;
use str0m::Rtc;
use str0m::media::{Mid, Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite};

use crate::extension;
use crate::net::Place;
use crate::stamp::Stamp;
use crate::stamp::nested::{Mode, Nested};

/// An encoder that has fallen silent sends one packet in so long (Opus' DTX).
const SILENT_TIME: Duration = Duration::from_millis(400);
/// Levels from here on are silence, -dBov.
const SILENCE: u8 = 100;
/// The largest offset of a block of RED (RFC 2198, 3: 14 bits).
const MAX_OFFSET: u32 = 0x3fff;
/// Bytes of a synthetic audio packet.
const AUDIO_BYTES: usize = 60;
/// Bytes of a synthetic video packet: small, since only CPU time is to be saved here.
const VIDEO_BYTES: usize = 200;
/// Bytes of a video packet where a rate is wanted: as browsers send.
const FULL_BYTES: usize = 1_100;
/// A key frame is as large as so many others, where a rate is wanted: libvpx's, in real time.
const KEY_SIZE: usize = 6;
/// Packets of a key frame of the lowest layer; each layer has as many more.
const KEY_PACKETS: u16 = 4;
/// A voice flag goes with levels above this, -dBov.
const VOICE_BELOW: u8 = 60;

/// A layer that is sent.
#[derive(Debug)]
pub struct Sender {
    /// Of which track.
    pub source: Source,
    /// Which layer.
    pub layer: u8,
    /// Its rid.
    pub rid: Option<&'static str>,
    /// When the next frame is due.
    pub next: Instant,
    /// Sends nothing any more.
    pub stopped: bool,
    /// The next frame shall be a key frame.
    pub keyframe_wanted: bool,
    /// When key frames were asked for.
    pub keyframe_requests: Vec<Instant>,
    /// Key frames sent.
    pub keyframes: u32,
    /// Audio level, -dBov.
    pub level: u8,
    /// Frames sent.
    pub frames: u32,
    /// Packets sent.
    pub packets: u64,
    /// Width and height told in key frames.
    pub size: (u16, u16),
    /// Bits per second of payload, for video; `None`: few small packets.
    pub bps: Option<u64>,
    /// Three temporal layers: the place of the next picture in their pattern.
    pub place: Option<u8>,
    /// Spatial layers in one stream.
    pub mode: Option<Mode>,
    /// A key frame is as large as so many others, where a rate is wanted.
    pub key_size: usize,
    /// Of video.
    pub codec: VideoCodec,
    /// Audio that is sent before anything stamped, one of them in each packet.
    pub payloads: VecDeque<Vec<u8>>,
    /// Audio repeats the packet before it, under this payload type.
    pub red: Option<Pt>,
    /// Its stream's, once something was sent.
    pub ssrc: Option<u32>,
    before: Option<(u32, Vec<u8>)>,
    publisher: u16,
    /// Of each packet: when it was sent, its sequence number, its frame.
    log: Vec<(Instant, u16, u32)>,
    line: (Mid, Pt),
    interval: Duration,
    ticks: u32,
    seq: u64,
    rtp_time: u32,
    picture_id: u16,
    /// TL0PICIDX of the last picture.
    lowest: u8,
    /// Of the next frame in its dependency descriptor.
    number: u16,
}

impl Sender {
    /// A layer that begins at `now`.
    pub(crate) fn new(
        publisher: u16,
        (source, layer): (Source, u8),
        rid: Option<&'static str>,
        line: (Mid, Pt),
        now: Instant,
        interval: Duration,
    ) -> Self {
        let rate = if source.kind() == MediaKind::Audio { 48_000 } else { 90_000 };
        let ticks = (interval.as_nanos() * rate).div_ceil(1_000_000_000);
        let ticks = u32::try_from(ticks).expect("an interval of a test");
        let number = u32::from(publisher) * 16 + u32::from(layer);
        let size = match (rid, layer) {
            (Some(_), 0) => (320, 180),
            (Some(_), 1) => (640, 360),
            _ => (1_280, 720),
        };
        Self {
            source,
            layer,
            rid,
            next: now,
            stopped: false,
            keyframe_wanted: true,
            keyframe_requests: Vec::new(),
            keyframes: 0,
            level: 40,
            frames: 0,
            packets: 0,
            size,
            bps: None,
            place: None,
            mode: None,
            key_size: KEY_SIZE,
            codec: VideoCodec::Vp8,
            payloads: VecDeque::new(),
            red: None,
            before: None,
            publisher,
            ssrc: None,
            log: Vec::new(),
            line,
            interval,
            ticks,
            // Near the ends, so that they are passed within a test.
            seq: 65_400 - u64::from(number % 100),
            rtp_time: (u32::MAX - 500_000).wrapping_add(number * 7_919),
            number: u16::MAX - 40,
            lowest: 250,
            picture_id: 0x7fff - u16::try_from(number % 64).expect("below 64"),
        }
    }

    /// Goes on where it was stopped, as a browser's does: numbers that begin anew in one SSRC would be replays to SRTP.
    pub(crate) fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.stopped) {
            let missed =
                now.saturating_duration_since(self.next).as_nanos().div_ceil(self.interval.as_nanos());
            let missed = u32::try_from(missed).expect("less than years");
            self.rtp_time = self.rtp_time.wrapping_add(self.ticks * missed);
            self.next = now;
            self.keyframe_wanted = true;
        }
    }

    /// Something of it left in that time.
    pub(crate) fn sent_between(&self, from: Instant, to: Instant) -> bool {
        let begin = self.log.partition_point(|(at, ..)| *at < from);
        self.log.get(begin).is_some_and(|(at, ..)| *at < to)
    }

    /// The frame of a packet that was under way at that time; `None`: it is of another stream.
    pub(crate) fn frame_of(&self, at: Instant, place: Place) -> Option<u32> {
        let before = self.log.partition_point(|(sent, _, _)| *sent <= at);
        let found = self.log[..before].iter().rev().find(|(_, seq, _)| *seq == place.seq);
        found.filter(|_| self.ssrc == Some(place.ssrc)).map(|(_, _, frame)| *frame)
    }

    /// When and where a frame of its went first.
    #[cfg(test)]
    pub(crate) fn sent(&self, frame: u32) -> Option<(Instant, Place)> {
        let (at, seq, _) = *self.log.iter().find(|(_, _, of)| *of == frame)?;
        Some((at, Place { ssrc: self.ssrc?, seq }))
    }

    pub(crate) fn mid(&self) -> Mid {
        self.line.0
    }

    /// Sends the frames that are due.
    pub(crate) fn send_due(&mut self, now: Instant, rtc: &mut Rtc) {
        while self.next <= now {
            match self.source.kind() {
                MediaKind::Audio => self.send_audio(now, rtc),
                MediaKind::Video => self.send_picture(now, rtc),
            }
            self.frames += 1;
            let silent = self.source.kind() == MediaKind::Audio && self.level >= SILENCE;
            let quiet = u32::try_from(SILENT_TIME.as_micros() / self.interval.as_micros()).unwrap_or(1);
            let intervals = if silent { quiet } else { 1 };
            self.rtp_time = self.rtp_time.wrapping_add(self.ticks * intervals);
            self.next += self.interval * intervals;
        }
    }

    fn stamp(&self, index: u16, count: u16, key: bool) -> Stamp {
        Stamp {
            publisher: self.publisher,
            source: self.source,
            layer: self.layer,
            frame: self.frames,
            index,
            count,
            key,
            place: self.place,
            nested: None,
        }
    }

    fn write(&mut self, now: Instant, rtc: &mut Rtc, payload: Vec<u8>, marker: bool) {
        self.write_with(now, rtc, payload, (marker, None));
    }

    fn write_with(
        &mut self,
        now: Instant,
        rtc: &mut Rtc,
        payload: Vec<u8>,
        (marker, dependency): (bool, Option<Dependency>),
    ) {
        let video = self.source.kind() == MediaKind::Video;
        let mut write = RtpWrite::new(self.line.1, self.seq.into(), self.rtp_time, now, payload)
            .marker(marker)
            .nackable(video);
        if !video {
            let level = i8::try_from(self.level.min(127)).expect("it is below 128");
            write = write.ext_vals(ExtensionValues {
                audio_level: Some(-level),
                voice_activity: Some(self.level < VOICE_BELOW),
                ..ExtensionValues::default()
            });
        }
        if let Some(dependency) = dependency {
            let mut values = ExtensionValues::default();
            values.user_values.set(extension::Raw(dependency.as_bytes().into()));
            write = write.ext_vals(values);
        }
        // Sixteen bits of it are on the wire.
        let seq = u16::try_from(self.seq & 0xffff).expect("sixteen bits");
        self.log.push((now, seq, self.frames));
        self.seq += 1;
        self.packets += 1;
        let mut api = rtc.direct_api();
        if let Some(tx) = api.stream_tx_by_mid(self.line.0, self.rid.map(Rid::from)) {
            self.ssrc = Some(*tx.ssrc());
            tx.write_rtp(write);
        }
    }

    fn send_audio(&mut self, now: Instant, rtc: &mut Rtc) {
        let given = self.payloads.pop_front();
        let payload = given.unwrap_or_else(|| self.stamp(0, 1, true).opus(AUDIO_BYTES));
        let Some(red) = self.red else { return self.write(now, rtc, payload, false) };
        let before = self.before.replace((self.rtp_time, payload.clone()));
        // Not after a silence that is longer than an offset may be.
        let before = before.map(|(at, bytes)| (self.rtp_time.wrapping_sub(at), bytes));
        let before = before.filter(|(offset, _)| *offset <= MAX_OFFSET);
        let mut wrapped = Vec::new();
        if let Some((offset, bytes)) = &before {
            let length = u32::try_from(bytes.len()).expect("a packet of a test");
            let head = 1 << 31 | u32::from(*self.line.1) << 24 | offset << 10 | length;
            wrapped.extend(head.to_be_bytes());
        }
        wrapped.push(*self.line.1);
        wrapped.extend(before.into_iter().flat_map(|(_, bytes)| bytes));
        wrapped.extend(payload);
        let plain = std::mem::replace(&mut self.line.1, red);
        self.write(now, rtc, wrapped, false);
        self.line.1 = plain;
    }

    /// Packets of a frame and bytes of each. Of three temporal layers the lowest takes two fifths, as libvpx has it.
    fn frame(&self, key: bool, layer: u8) -> (u16, usize) {
        let size = 1 + u16::from(layer);
        let Some(bps) = self.bps else {
            let other = size + u16::try_from(self.frames % 2).expect("0 or 1");
            return (if key { KEY_PACKETS * size } else { other }, VIDEO_BYTES);
        };
        let bits = u128::from(bps) * self.interval.as_micros() / 1_000_000;
        let tenths = match self.place {
            _ if key => 10 * self.key_size,
            None => 10,
            Some(0) => 16,
            Some(_) => 8,
        };
        let share = self.mode.map_or(100, |mode| share(mode, layer));
        let bytes = usize::try_from(bits / 8).expect("a picture of a test") * tenths / 10 * share / 100;
        let count = bytes.div_ceil(FULL_BYTES).max(1);
        (u16::try_from(count).expect("a picture of a test"), bytes.div_ceil(count))
    }

    fn send_picture(&mut self, now: Instant, rtc: &mut Rtc) {
        let key = std::mem::take(&mut self.keyframe_wanted);
        self.keyframes += u32::from(key);
        self.place = self.place.map(|place| if key { 0 } else { place });
        if self.place.is_none_or(|place| place == 0) {
            self.lowest = self.lowest.wrapping_add(1);
        }
        match self.mode {
            Some(mode) => (0..mode.layers).for_each(|layer| self.send_frame(now, rtc, key, layer)),
            None => self.send_frame(now, rtc, key, self.layer),
        }
        self.place = self.place.map(|place| (place + 1) % 4);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
    }

    fn send_frame(&mut self, now: Instant, rtc: &mut Rtc, key: bool, layer: u8) {
        let (count, bytes) = self.frame(key, layer);
        let is_top = self.mode.is_none_or(|mode| layer + 1 == mode.layers);
        let nested = self.mode.map(|mode| Nested { mode, number: self.number });
        for index in 0..count {
            let stamp = Stamp { layer, nested, ..self.stamp(index, count, key) };
            let payload = stamp.video(self.codec, (self.picture_id, self.lowest), self.size, bytes);
            let dependency = (self.codec == VideoCodec::Av1).then(|| stamp.dependency(self.number));
            self.write_with(now, rtc, payload, (is_top && index + 1 == count, dependency));
        }
        self.number = self.number.wrapping_add(1);
    }
}

/// What a spatial layer takes of its stream, percent.
fn share(mode: Mode, layer: u8) -> usize {
    match (mode.layers, layer) {
        (2, 0) => 30,
        (2, _) => 70,
        (_, 0) => 12,
        (_, 1) => 28,
        _ => 60,
    }
}
