//! Any bytes as an access unit that goes into a container.

use antiphon_base::VideoCodec;
use antiphon_wire::container::contain;

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        if let Some(contained) = contain(codec, bytes) {
            // A start code of three bytes becomes a length of four.
            assert!(!contained.data.is_empty() && contained.data.len() <= bytes.len() + bytes.len() / 3);
        }
    }
}
