//! One audio stream from packets to frames: jitter buffer, decoder, and exactly one 20 ms frame per tick.
//!
//! Whatever arrives, [`Playout::tick`] gives a frame of [`Playout::frame_len`] samples: voice, concealment (`gap`)
//! or silence (`silence`), with the clocks of its first sample. Packets of 10, 40 or 60 ms are cut and joined.

use std::collections::VecDeque;
use std::sync::Arc;

use antiphon_base::AudioCodec;

use crate::audio::{Decoder, Error};
use crate::jitter::{self, Packet};
use crate::mix::level_dbov;

/// Frames per second of every raw audio stream.
pub const FRAMES_PER_SECOND: u32 = 50;

/// Duration of a frame.
pub const FRAME_US: u64 = 20_000;

/// The most pieces a frame is made of: 2.5 ms each would be 8. A broken stream that needs more gets silence.
const MAX_PIECES: usize = 16;

/// How long a skipped packet fades into the next, in microseconds.
const FADE_US: u64 = 5_000;

/// 20 ms of one stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Mono, at the playout's rate.
    pub samples: Arc<[i16]>,
    /// The level of `samples` ([`level_dbov`]).
    pub level: u8,
    /// Nothing was sent (mute, DTX, not started): zero or comfort noise.
    pub silence: bool,
    /// Part of it is concealment for something sent and lost, or late.
    pub gap: bool,
    /// Capture of the first sample; for what was not received continued from the last packet.
    pub capture_us: u64,
    /// `capture_us` is not from the sender's clock.
    pub capture_estimated: bool,
    /// Arrival of the packet with the first sample; for what was not received, when the frame was due.
    pub arrival_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Voice,
    Concealed,
    Silent,
}

/// Where in `samples` a piece begins, and its clocks.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    kind: Kind,
    capture_us: u64,
    capture_estimated: bool,
    arrival_us: u64,
}

/// Packets in, one frame per tick out.
pub struct Playout {
    buffer: jitter::Buffer,
    decoder: Decoder,
    ticks_per_frame: u32,
    frame_len: usize,
    samples: Vec<i16>,
    pieces: VecDeque<Piece>,
    /// The end of a skipped packet, to fade into the next one.
    skipped: Vec<i16>,
    /// How far our clock is ahead of the capture clock, from the last packet played.
    behind_us: Option<u64>,
    corrupt: u64,
}

impl Playout {
    /// `rate`: of the frames, one of [`crate::resample::RATES`].
    ///
    /// # Errors
    /// The codec library fails.
    pub fn new(codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        Self::with(jitter::Buffer::new(codec), codec, rate)
    }

    /// The same in no hurry: see [`jitter::Buffer::patient`].
    ///
    /// # Errors
    /// The codec library fails.
    pub fn patient(codec: AudioCodec, rate: u32, patience_us: u64) -> Result<Self, Error> {
        Self::with(jitter::Buffer::patient(codec, patience_us), codec, rate)
    }

    fn with(buffer: jitter::Buffer, codec: AudioCodec, rate: u32) -> Result<Self, Error> {
        Ok(Self {
            buffer,
            decoder: Decoder::new(codec, rate)?,
            ticks_per_frame: codec.clock_rate() / FRAMES_PER_SECOND,
            frame_len: (rate / FRAMES_PER_SECOND) as usize,
            samples: Vec::new(),
            pieces: VecDeque::new(),
            skipped: Vec::new(),
            behind_us: None,
            corrupt: 0,
        })
    }

    /// Samples per frame.
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// The codec of the packets.
    pub fn codec(&self) -> AudioCodec {
        self.decoder.codec()
    }

    /// Nothing that has come is still to be played.
    pub fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.samples.is_empty()
    }

    /// What became of the packets.
    pub fn stats(&self) -> jitter::Stats {
        self.buffer.stats()
    }

    /// Packets that the decoder refused; they were concealed.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Takes a packet as it arrives, in any order.
    pub fn push(&mut self, packet: Packet) {
        self.buffer.push(packet);
    }

    /// The frame that is due at `now_us`. Call it every 20 ms; after a stall, once for each frame missed.
    pub fn tick(&mut self, now_us: u64) -> Frame {
        for _ in 0..MAX_PIECES {
            if self.samples.len() >= self.frame_len {
                break;
            }
            self.fill(now_us);
        }
        let missing = self.frame_len.saturating_sub(self.samples.len());
        if missing > 0 {
            self.begin(Kind::Silent, now_us, None);
            self.samples.resize(self.frame_len, 0);
        }
        self.cut(now_us)
    }

    /// Decodes or makes one more piece.
    fn fill(&mut self, now_us: u64) {
        let missing = self.frame_len - self.samples.len();
        let want = self.to_ticks(missing);
        match self.buffer.pop(now_us, want) {
            jitter::Playout::Packet(packet) => {
                self.begin(Kind::Voice, now_us, Some(&packet));
                let start = self.samples.len();
                if self.decoder.decode(&packet.payload, &mut self.samples).is_err() {
                    self.corrupt += 1;
                    if let Some(piece) = self.pieces.back_mut() {
                        piece.kind = Kind::Concealed;
                    }
                    self.decoder.conceal(missing, &mut self.samples);
                }
                self.fade_from_skipped(start);
            }
            jitter::Playout::Skip(packet) => {
                self.skipped.clear();
                if self.decoder.decode(&packet.payload, &mut self.skipped).is_err() {
                    self.corrupt += 1;
                }
            }
            jitter::Playout::Lost { ticks, next } => {
                self.begin(Kind::Concealed, now_us, None);
                let samples = self.to_samples(ticks);
                match next {
                    Some(next) => self.decoder.decode_fec(&next, samples, &mut self.samples),
                    None => self.decoder.conceal(samples, &mut self.samples),
                }
            }
            jitter::Playout::Late { ticks } => {
                self.begin(Kind::Concealed, now_us, None);
                self.decoder.conceal(self.to_samples(ticks), &mut self.samples);
            }
            jitter::Playout::Silence { ticks, dtx } => {
                self.begin(Kind::Silent, now_us, None);
                let samples = self.to_samples(ticks);
                if dtx {
                    self.decoder.conceal(samples, &mut self.samples);
                } else {
                    self.samples.resize(self.samples.len() + samples, 0);
                }
            }
        }
    }

    /// Notes that a piece begins at the end of what is there.
    fn begin(&mut self, kind: Kind, now_us: u64, packet: Option<&Packet>) {
        let ahead_us = self.to_us(self.samples.len());
        let piece = match packet {
            Some(packet) => {
                self.behind_us = Some((now_us + ahead_us).saturating_sub(packet.capture_us));
                Piece {
                    start: self.samples.len(),
                    kind,
                    capture_us: packet.capture_us,
                    capture_estimated: packet.capture_estimated,
                    arrival_us: packet.arrival_us,
                }
            }
            None => Piece {
                start: self.samples.len(),
                kind,
                capture_us: (now_us + ahead_us).saturating_sub(self.behind_us.unwrap_or(0)),
                capture_estimated: true,
                arrival_us: now_us,
            },
        };
        self.pieces.push_back(piece);
    }

    /// Fades the end of a skipped packet into the piece from `start`.
    fn fade_from_skipped(&mut self, start: usize) {
        let fade = usize::try_from(u64::from(self.decoder.rate()) * FADE_US / 1_000_000).expect("hundreds");
        let piece = &mut self.samples[start..];
        let len = fade.min(piece.len()).min(self.skipped.len());
        for (n, (new, old)) in piece.iter_mut().zip(&self.skipped[..len]).enumerate() {
            let (weight, all) = (i64::try_from(n).unwrap_or(0), i64::try_from(len).unwrap_or(1));
            let mixed = (i64::from(*new) * weight + i64::from(*old) * (all - weight)) / all;
            *new = i16::try_from(mixed).expect("between two i16");
        }
        self.skipped.clear();
    }

    /// Takes the first frame off `samples`.
    fn cut(&mut self, now_us: u64) -> Frame {
        let within = || self.pieces.iter().take_while(|p| p.start < self.frame_len);
        let gap = within().any(|p| p.kind == Kind::Concealed);
        let silence = within().all(|p| p.kind == Kind::Silent);
        let first = self.pieces.front().copied();
        let samples: Arc<[i16]> = self.samples[..self.frame_len].into();
        self.samples.drain(..self.frame_len);
        let frame = Frame {
            level: level_dbov(&samples),
            samples,
            silence,
            gap,
            capture_us: first.map_or(now_us, |p| p.capture_us),
            capture_estimated: first.is_none_or(|p| p.capture_estimated),
            arrival_us: first.map_or(now_us, |p| p.arrival_us),
        };
        self.shift_pieces();
        frame
    }

    /// After a frame was taken: drops pieces that are used up and moves the clocks of one that is cut in two.
    fn shift_pieces(&mut self) {
        while self.pieces.get(1).is_some_and(|next| next.start <= self.frame_len) {
            self.pieces.pop_front();
        }
        if self.samples.is_empty() {
            self.pieces.clear();
            return;
        }
        let frame_len = self.frame_len;
        if let Some(first) = self.pieces.front_mut()
            && first.start < frame_len
        {
            let used = (frame_len - first.start) as u64 * FRAME_US / frame_len as u64;
            first.capture_us += used;
            first.start = frame_len;
        }
        for piece in &mut self.pieces {
            piece.start -= frame_len;
        }
    }

    fn to_us(&self, samples: usize) -> u64 {
        samples as u64 * FRAME_US / self.frame_len as u64
    }

    /// RTP ticks for so many samples, at least one.
    fn to_ticks(&self, samples: usize) -> u32 {
        let ticks = (samples as u64 * u64::from(self.ticks_per_frame)).div_ceil(self.frame_len as u64);
        u32::try_from(ticks).unwrap_or(self.ticks_per_frame).max(1)
    }

    fn to_samples(&self, ticks: u32) -> usize {
        let samples = u64::from(ticks) * self.frame_len as u64 / u64::from(self.ticks_per_frame);
        usize::try_from(samples).expect("a few thousand").max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Encoder, OpusConfig};
    use crate::synth::Tone;

    /// `seconds` of a tone in packets of `ms`, arriving as they are made.
    fn stream(codec: AudioCodec, seconds: usize, ms: u64) -> Vec<Packet> {
        let mut encoder = Encoder::new(codec, 16_000, OpusConfig::default()).expect("supported");
        let mut tone = Tone::new(16_000, 500.0, -12.0);
        let ticks = u64::from(codec.clock_rate()) / 1000 * ms;
        let make = |n: u64| {
            let (mut pcm, mut payload) = (Vec::new(), Vec::new());
            tone.append(usize::try_from(16 * ms).expect("small"), &mut pcm);
            encoder.encode(&pcm, &mut payload).expect("a legal length");
            let capture_us = 5_000_000 + n * ms * 1000;
            Packet {
                seq_ext: 70_000 + n,
                rtp_time: 1_000 + n * ticks,
                payload: payload.into(),
                arrival_us: capture_us + 3_000,
                capture_us,
                capture_estimated: false,
                level: None,
            }
        };
        (0..seconds as u64 * 1000 / ms).map(make).collect()
    }

    fn run(codec: AudioCodec, packets: &[Packet], frames: u64) -> (Vec<Frame>, Playout) {
        let mut playout = Playout::new(codec, 16_000).expect("supported");
        let mut rest = packets.iter().peekable();
        let mut out = Vec::new();
        for tick in 0..frames {
            let now = 5_000_000 + tick * FRAME_US + 7_000;
            while let Some(packet) = rest.next_if(|p| p.arrival_us <= now) {
                playout.push(packet.clone());
            }
            out.push(playout.tick(now));
        }
        (out, playout)
    }

    #[test]
    fn every_tick_gives_one_frame_with_continuous_clocks() {
        for (codec, ms) in [
            (AudioCodec::Opus, 20),
            (AudioCodec::Opus, 10),
            (AudioCodec::Opus, 60),
            (AudioCodec::Pcmu, 20),
            (AudioCodec::G722, 40),
        ] {
            let (frames, _) = run(codec, &stream(codec, 4, ms), 195);
            assert!(frames.iter().all(|f| f.samples.len() == 320));
            let heard: Vec<_> = frames.iter().skip(80).collect();
            for pair in heard.windows(2) {
                assert!(!pair[0].silence && !pair[0].gap, "{codec:?} {ms}");
                assert_eq!(pair[1].capture_us - pair[0].capture_us, FRAME_US, "{codec:?} {ms}");
                assert!((13..18).contains(&pair[0].level), "{codec:?} {ms}: {}", pair[0].level);
            }
        }
    }

    #[test]
    fn before_the_first_packet_and_after_the_last_there_is_flagged_silence() {
        let (frames, playout) = run(AudioCodec::Opus, &stream(AudioCodec::Opus, 1, 20), 100);
        assert!(frames[0].silence && frames[0].capture_estimated && frames[0].capture_us > 0);
        assert!(frames[60..].iter().all(|f| f.silence && !f.gap && f.level == 127 && f.arrival_us > 0));
        assert_eq!(frames.iter().filter(|f| f.gap).count(), 5);
        assert_eq!(playout.stats().played, 50);
    }

    #[test]
    fn a_lost_and_a_corrupt_packet_are_gaps_of_one_frame_each() {
        let mut packets = stream(AudioCodec::Opus, 2, 20);
        packets[50].payload = vec![0xff; 3].into();
        packets[50].payload = [&[0x7b], &[0xff; 20][..]].concat().into();
        packets.remove(30);
        let (frames, playout) = run(AudioCodec::Opus, &packets, 98);
        let gaps: Vec<_> = (0..98).filter(|n| frames[*n].gap).collect();
        assert!((1..=3).contains(&gaps.len()), "{gaps:?}");
        assert_eq!(playout.stats().lost, 1);
    }
}
