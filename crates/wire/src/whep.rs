//! JSON bodies of WHEP's core extensions: layer selection and server-sent events (draft-ietf-wish-whep-01, sections
//! "Video Layer Selection extension" and "Server Sent Events extension"). From draft 02 on they stand in a draft of their
//! own, "WebRTC-HTTP Egress Protocol Core Extensions", which calls `encodingId` `rid` and adds `maxHeight`: both are taken.
//! Events have the shape of draft 01, as players in use read it. `docs/reference/join.md` is the page for users.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::RecordingState;

#[cfg(test)]
mod tests;

/// The largest body of either extension, in bytes: all attributes with the longest names take less than a quarter.
pub const MAX_BODY_BYTES: usize = 1_024;
/// The longest media id or encoding id: mids and rids are tokens of 16 bytes at most in practice (RFC 8852, 3.3).
pub const MAX_NAME_BYTES: usize = 64;
/// Spatial and temporal layers are numbered below this: what a dependency descriptor can say.
pub const MAX_LAYER_ID: u8 = 7;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not the JSON of such a body, with what the parser says of it.
    Malformed(String),
    /// It is well-formed and says what cannot be.
    Meaningless(&'static str),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => f.write_str(why),
            Self::Meaningless(why) => f.write_str(why),
        }
    }
}

/// What a player wants of one of its video lines. Without any attribute: what the server chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// The m-line, by its index in the SDP, or its mid; `None`: the first video line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<String>,
    /// Rid of the simulcast encoding.
    #[serde(default, alias = "rid", skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// The spatial layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial_layer_id: Option<u8>,
    /// The temporal layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporal_layer_id: Option<u8>,
    /// The highest spatial layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_spatial_layer_id: Option<u8>,
    /// The highest temporal layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_temporal_layer_id: Option<u8>,
    /// The greatest height, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u16>,
}

impl Selection {
    /// Reads the body of a POST on the layer resource.
    ///
    /// # Errors
    /// What is no JSON object of these attributes is malformed; names and numbers beyond the limits mean nothing.
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Refused::Meaningless("the body is too long"));
        }
        // serde takes an array for a struct, too.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(Refused::Malformed("it is no JSON object".to_owned()));
        }
        let selection: Self = serde_json::from_slice(body).map_err(|e| Refused::Malformed(e.to_string()))?;
        let names = [&selection.media_id, &selection.encoding_id];
        if names.into_iter().flatten().any(|name| name.is_empty() || name.len() > MAX_NAME_BYTES) {
            return Err(Refused::Meaningless("`mediaId` and `encodingId` have 1 to 64 bytes"));
        }
        let numbers = [
            selection.spatial_layer_id,
            selection.temporal_layer_id,
            selection.max_spatial_layer_id,
            selection.max_temporal_layer_id,
        ];
        if numbers.into_iter().flatten().any(|number| number > MAX_LAYER_ID) {
            return Err(Refused::Meaningless("layers are numbered from 0 to 7"));
        }
        if selection.max_height == Some(0) {
            return Err(Refused::Meaningless("`maxHeight` is at least 1"));
        }
        Ok(selection)
    }

    /// The server is to choose.
    pub fn is_automatic(&self) -> bool {
        *self == Self { media_id: self.media_id.clone(), ..Self::default() }
    }

    /// The highest spatial layer by both attributes.
    pub fn spatial(&self) -> Option<u8> {
        lower(self.spatial_layer_id, self.max_spatial_layer_id)
    }

    /// The highest temporal layer by both attributes.
    pub fn temporal(&self) -> Option<u8> {
        lower(self.temporal_layer_id, self.max_temporal_layer_id)
    }
}

fn lower(a: Option<u8>, b: Option<u8>) -> Option<u8> {
    [a, b].into_iter().flatten().min()
}

/// The types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// Something is published.
    Active,
    /// Nothing is published any more.
    Inactive,
    /// The layers of what is played.
    Layers,
    /// How many play the same.
    ViewerCount,
    /// The room is being recorded, or not any more. Ours: the draft has no such event.
    Recording,
}

impl EventType {
    /// All of them, as the attribute `events` of the `Link` field has them.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::Inactive, Self::Layers, Self::ViewerCount, Self::Recording];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Layers => "layers",
            Self::ViewerCount => "viewercount",
            Self::Recording => "recording",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which events a stream is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    /// Reads the body of a POST by which a stream is made: an array of names, or nothing, which is all.
    ///
    /// # Errors
    /// What is no JSON array of text is malformed; names that were not announced, and none at all, mean nothing.
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Refused::Meaningless("the body is too long"));
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(EventType::ALL.iter().fold(0, |mask, event| mask | event.bit())));
        }
        let names: Vec<String> =
            serde_json::from_slice(body).map_err(|e| Refused::Malformed(e.to_string()))?;
        let mut mask = 0;
        for name in &names {
            let event = EventType::ALL.into_iter().find(|event| event.as_str() == name);
            let unknown = "events are `active`, `inactive`, `layers`, `viewercount` and `recording`";
            mask |= event.ok_or(Refused::Meaningless(unknown))?.bit();
        }
        if mask == 0 {
            return Err(Refused::Meaningless("a stream is of one type of event at least"));
        }
        Ok(Self(mask))
    }

    /// Whether it is of these.
    pub fn has(self, event: EventType) -> bool {
        self.0 & event.bit() != 0
    }
}

/// One simulcast encoding of a line's track.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Encoding {
    /// Its rid; `None`: there is no simulcast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its place, from the lowest.
    pub simulcast_idx: u8,
    /// Bits per second, where it is sent and was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// In pixels, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
}

/// What can be selected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Rid of its encoding; `None`: there is no simulcast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// Place of that, from the lowest.
    pub simulcast_idx: u8,
    /// From the lowest.
    pub spatial_layer_id: u8,
    /// From the lowest.
    pub temporal_layer_id: u8,
    /// Bits per second with all that it needs, where it is sent and was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// In pixels, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
}

/// The layers of what is played in one line, the highest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MediaLayers {
    /// Encodings that are sent.
    pub active: Vec<Encoding>,
    /// Those that are not: nobody wants them, or their sender cannot.
    pub inactive: Vec<Encoding>,
    /// What can be selected, encodings included that are not sent because nobody wants them.
    pub layers: Vec<Layer>,
}

/// Bitrates that differ by less than this share, in percent, are no news.
const NOISE_PERCENT: u64 = 25;

impl MediaLayers {
    /// They differ in bitrates only, and in those by little.
    pub fn is_near(&self, other: &Self) -> bool {
        let bitrates = |m: &Self| -> Vec<Option<u64>> {
            let encodings = m.active.iter().chain(&m.inactive).map(|e| e.bitrate);
            encodings.chain(m.layers.iter().map(|l| l.bitrate)).collect()
        };
        let near = |(a, b): (Option<u64>, Option<u64>)| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b).saturating_mul(100) <= a.max(b).saturating_mul(NOISE_PERCENT),
            (a, b) => a == b,
        };
        self.without_bitrates() == other.without_bitrates()
            && bitrates(self).into_iter().zip(bitrates(other)).all(near)
    }

    fn without_bitrates(&self) -> Self {
        let mut bare = self.clone();
        bare.active.iter_mut().chain(&mut bare.inactive).for_each(|e| e.bitrate = None);
        bare.layers.iter_mut().for_each(|l| l.bitrate = None);
        bare
    }
}

/// What a player is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something is published.
    Active,
    /// Nothing is published any more.
    Inactive,
    /// The layers of its video lines, by their indices in the SDP.
    Layers(BTreeMap<String, MediaLayers>),
    /// How many play the same.
    ViewerCount(u32),
    /// The room is recorded, or was.
    Recording(RecordingState),
}

impl Event {
    /// Its type.
    pub fn kind(&self) -> EventType {
        match self {
            Self::Active => EventType::Active,
            Self::Inactive => EventType::Inactive,
            Self::Layers(_) => EventType::Layers,
            Self::ViewerCount(_) => EventType::ViewerCount,
            Self::Recording(_) => EventType::Recording,
        }
    }

    /// Its data: JSON in one line.
    pub fn data(&self) -> String {
        match self {
            // The draft says "JSON object (TBD)".
            Self::Active | Self::Inactive => "{}".to_owned(),
            Self::Layers(layers) => serde_json::to_string(layers).unwrap_or_else(|_| "{}".to_owned()),
            Self::ViewerCount(count) => format!("{{\"viewercount\":{count}}}"),
            Self::Recording(state) => serde_json::json!({ "recording": state }).to_string(),
        }
    }

    /// As it stands in an event stream (WHATWG HTML, 9.2.5).
    pub fn to_text(&self) -> String {
        format!("event: {}\ndata: {}\n\n", self.kind().as_str(), self.data())
    }
}
