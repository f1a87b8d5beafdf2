//! The dependency descriptor as a header extension of str0m's: its bytes are handed through, `wire` reads them.

use antiphon_wire::rtp::dependency::URI;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

/// What came in a packet.
pub(crate) struct RawDependency(pub(crate) Box<[u8]>);

/// The extension, to be negotiated for video.
pub(crate) fn dependency() -> Extension {
    Extension::with_serializer(URI, Raw)
}

#[derive(Debug)]
struct Raw;

impl ExtensionSerializer for Raw {
    /// str0m sends no media: our egress writes what goes out.
    fn write_to(&self, _buf: &mut [u8], _values: &ExtensionValues) -> usize {
        0
    }

    fn parse_value(&self, bytes: &[u8], values: &mut ExtensionValues) -> bool {
        values.user_values.set(RawDependency(bytes.into()));
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }
}
