//! Header extensions of a client: which there are, and the dependency descriptor as one of str0m's, its bytes as they are.

use antiphon_wire::rtp::dependency::URI;
use str0m::RtcConfig;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

/// What is in a packet.
#[derive(Debug, Clone)]
pub(crate) struct Raw(pub(crate) Box<[u8]>);

/// Its id, as browsers have it.
pub(crate) const ID: u8 = 12;
/// Most that a one-byte header can say (RFC 8285, 4.2).
const SHORT: usize = 16;

/// The extension, for video.
pub(crate) fn dependency() -> Extension {
    Extension::with_serializer(URI, Bytes)
}

#[derive(Debug)]
struct Bytes;

impl ExtensionSerializer for Bytes {
    fn write_to(&self, buf: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(Raw(raw)) = values.user_values.get::<Raw>() else { return 0 };
        let Some(room) = buf.get_mut(..raw.len()) else { return 0 };
        room.copy_from_slice(raw);
        raw.len()
    }

    fn parse_value(&self, bytes: &[u8], values: &mut ExtensionValues) -> bool {
        values.user_values.set(Raw(bytes.into()));
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        values.user_values.get::<Raw>().is_none_or(|Raw(raw)| raw.len() > SHORT)
    }
}

/// Its player does as the server says of the depth of its buffer.
pub(crate) fn with_playout_delay(config: RtcConfig) -> RtcConfig {
    config.set_extension(6, Extension::PlayoutDelay)
}

/// str0m's usual extensions but those for bandwidth.
pub(crate) fn without_transport_feedback(config: RtcConfig) -> RtcConfig {
    config
        .clear_extension_map()
        .set_extension(1, Extension::AudioLevel)
        .set_extension(4, Extension::RtpMid)
        .set_extension(10, Extension::RtpStreamId)
        .set_extension(11, Extension::RepairedRtpStreamId)
}
