//! Decrypted RTP of one participant as a capture file, for whoever asked (opt-in by config).

use antiphon_base::{Codec, VideoCodec};
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::header::{Header, serialize};

/// Chunks waiting for the reader; a slow reader misses packets, as with any capture.
pub(crate) const DUMP_RING: usize = 4_096;

/// Id of the dependency descriptor's header extension in the capture; that of the audio level is 1.
const DEPENDENCY_ID: u8 = 12;

/// Payload types of the capture, one per codec; Wireshark is told which is which in `docs/guide`.
fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Audio(antiphon_base::AudioCodec::Opus) => 111,
        Codec::Audio(antiphon_base::AudioCodec::Pcmu) => 0,
        Codec::Audio(antiphon_base::AudioCodec::Pcma) => 8,
        Codec::Audio(antiphon_base::AudioCodec::G722) => 9,
        Codec::Video(VideoCodec::Vp8) => 96,
        Codec::Video(VideoCodec::Vp9) => 98,
        Codec::Video(VideoCodec::H264) => 102,
        Codec::Video(VideoCodec::Av1) => 45,
    }
}

/// Writes one packet.
pub(crate) fn record(to: &async_channel::Sender<Vec<u8>>, packet: &Packet) {
    let number = u16::try_from(packet.track.source.index()).unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "RTP carries the low bits")]
    let header = Header {
        marker: packet.marker,
        payload_type: payload_type(packet.codec),
        seq: packet.seq as u16,
        rtp_time: packet.rtp_time as u32,
        ssrc: packet.track.participant.0 << 8 | u32::from(number) << 4 | u32::from(packet.layer),
        csrcs: Vec::new(),
        audio_level: packet.audio_level.map(|l| (1, l)),
        dependency: packet.dependency.as_ref().map(|d| (DEPENDENCY_ID, d.as_bytes().to_vec())),
    };
    let rtp = serialize(&header, &packet.payload);
    // A full ring is a slow reader.
    let _ =
        to.try_send(antiphon_wire::rtp::dump::pcap_record(packet.arrival_us, 5_000 + number, 5_004, &rtp));
}
