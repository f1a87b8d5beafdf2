//! Numbers the packets of one track that a bot publishes.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{AudioCodec, Codec, Source, VideoCodec};
use antiphon_shard::OutPacket;
use antiphon_wire::rtp::opus;
use antiphon_wire::rtp::packetize::{self, MAX_PAYLOAD, Payload};

/// Where numbering begins: away from 0, so that a subscriber's rewriting never has to go below it.
const FIRST: u64 = 1 << 16;

/// A longer break between packets is silence, over which the RTP time jumps; below it is only jitter: 200 ms.
const BREAK: u64 = 9_600;

/// Cuts access units into payloads.
enum Packetizer {
    Audio,
    Vp8(packetize::Vp8),
    H264(packetize::H264),
}

/// One published track in one codec.
pub(crate) struct OutTrack {
    source: Source,
    codec: Codec,
    packetizer: Packetizer,
    seq: u64,
    /// When the RTP time was [`FIRST`].
    start: Option<Instant>,
    /// RTP time of the latest packet, and of the next if it follows without a break.
    rtp_time: u64,
    next_rtp_time: u64,
}

impl OutTrack {
    /// Sound as Opus.
    pub(crate) fn audio(source: Source) -> Self {
        Self::new(source, Codec::Audio(AudioCodec::Opus), Packetizer::Audio)
    }

    /// Pictures as VP8 or H.264; `None` for other codecs.
    pub(crate) fn video(source: Source, codec: VideoCodec) -> Option<Self> {
        let packetizer = match codec {
            VideoCodec::Vp8 => Packetizer::Vp8(packetize::Vp8::new(0x1234)),
            VideoCodec::H264 => Packetizer::H264(packetize::H264),
            VideoCodec::Vp9 | VideoCodec::Av1 => return None,
        };
        Some(Self::new(source, Codec::Video(codec), packetizer))
    }

    fn new(source: Source, codec: Codec, packetizer: Packetizer) -> Self {
        Self { source, codec, packetizer, seq: FIRST, start: None, rtp_time: FIRST, next_rtp_time: FIRST }
    }

    /// The codec.
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// RTP time at `now`, in the codec's clock.
    fn time_at(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start).as_nanos();
        let ticks = elapsed * u128::from(self.codec.clock_rate()) / 1_000_000_000;
        FIRST + u64::try_from(ticks).unwrap_or(u64::MAX / 2)
    }

    fn packet(&mut self, payload: Payload, capture_us: u64, audio_level: Option<u8>) -> OutPacket {
        let seq = self.seq;
        self.seq += 1;
        OutPacket {
            source: self.source,
            codec: self.codec,
            seq,
            rtp_time: self.rtp_time,
            marker: payload.marker,
            payload: Arc::from(payload.data),
            capture_us,
            audio_level,
        }
    }

    /// One Opus packet. With `first` (after a silence in which nothing was sent), and after a break, the RTP time
    /// jumps to `now`; otherwise it follows the packet before it.
    pub(crate) fn sound(
        &mut self,
        now: Instant,
        capture_us: u64,
        opus: &[u8],
        first: bool,
        level: u8,
    ) -> OutPacket {
        let at = self.time_at(now);
        let first = first || at > self.next_rtp_time + BREAK;
        self.rtp_time = if first { at.max(self.next_rtp_time) } else { self.next_rtp_time };
        self.next_rtp_time = self.rtp_time + u64::from(opus::samples_48k(opus).unwrap_or(960));
        let mut payload = packetize::audio(opus);
        payload.marker = first;
        self.packet(payload, capture_us, Some(level))
    }

    /// The packets of one access unit, sent at `now`.
    pub(crate) fn picture(
        &mut self,
        now: Instant,
        capture_us: u64,
        unit: &[u8],
    ) -> Result<Vec<OutPacket>, packetize::Error> {
        let at = self.time_at(now);
        let payloads = match &mut self.packetizer {
            Packetizer::Audio => vec![packetize::audio(unit)],
            Packetizer::Vp8(vp8) => vp8.packetize(unit, MAX_PAYLOAD)?,
            Packetizer::H264(h264) => h264.packetize(unit, MAX_PAYLOAD)?,
        };
        self.rtp_time = at.max(self.next_rtp_time);
        self.next_rtp_time = self.rtp_time + 1;
        Ok(payloads.into_iter().map(|p| self.packet(p, capture_us, None)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sound_is_continuous_while_it_plays_and_jumps_after_silence() {
        let start = Instant::now();
        let mut t = OutTrack::audio(Source::Microphone);
        let opus = [0xf8, 0xff, 0xfe];
        let a = t.sound(start, 1, &opus, true, 30);
        let b = t.sound(start + Duration::from_millis(23), 2, &opus, false, 30);
        let c = t.sound(start + Duration::from_secs(1), 3, &opus, true, 127);
        assert_eq!([a.seq, b.seq, c.seq], [FIRST, FIRST + 1, FIRST + 2]);
        assert_eq!([a.rtp_time, b.rtp_time, c.rtp_time], [FIRST, FIRST + 960, FIRST + 48_000]);
        assert_eq!([a.marker, b.marker, c.marker], [true, false, true]);
        let d = t.sound(start + Duration::from_secs(2), 4, &opus, false, 30);
        assert_eq!((d.rtp_time, d.marker), (FIRST + 96_000, true), "a break");
    }

    #[test]
    fn a_picture_has_one_time_and_one_marker() {
        let start = Instant::now();
        let mut t = OutTrack::video(Source::Camera, VideoCodec::Vp8).unwrap();
        t.picture(start, 1, &[0; 10]).unwrap();
        let packets = t.picture(start + Duration::from_millis(40), 2, &[0; 5_000]).unwrap();
        assert!(packets.len() >= 5);
        assert!(packets.iter().all(|p| p.rtp_time == FIRST + 3_600 && p.payload.len() <= MAX_PAYLOAD));
        assert_eq!(packets.iter().filter(|p| p.marker).count(), 1);
        assert!(t.picture(start, 3, &[]).is_err());
        assert!(OutTrack::video(Source::Camera, VideoCodec::Av1).is_none());
    }
}
