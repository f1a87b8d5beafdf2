//! Packets of any content and order through the frame assembler of each codec.

use std::sync::Arc;

use antiphon_base::{Codec, VideoCodec};
use antiphon_wire::rtp::frame::{Assembler, Limits};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        let mut assembler = Assembler::new(codec, Limits { packets: 16, wait_us: 1_000 });
        for (_, packet) in crate::packets::read(bytes, Some(Codec::Video(codec))) {
            assembler.push(&Arc::new(packet));
            while assembler.poll().is_some() {}
            let c = assembler.counters();
            assert!(assembler.held() <= 16);
            assert_eq!(c.packets_in, c.used + c.dropped() + assembler.held() as u64);
        }
    }
}
