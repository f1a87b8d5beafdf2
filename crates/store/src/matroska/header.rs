//! What stands before a session's first cluster: scale, tracks, tags.

use super::element::{Element, ElementError, Elements, float, text, uint};
use super::id;

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Bytes that are no elements.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// A number that is too long or outside its range.
    #[error("element {0:#x} has a value that cannot be")]
    Value(u32),
    /// No `Tracks` before the first cluster.
    #[error("no Tracks before the first Cluster")]
    NoTracks,
    /// Two tracks with one number, or a track without.
    #[error("a track without a number of its own")]
    TrackNumber,
    /// More tracks than any limit allows.
    #[error("too many tracks")]
    TooManyTracks,
    /// More tags, or longer ones, than any limit allows.
    #[error("too many tags")]
    TooManyTags,
}

/// More tracks than this are refused while parsing, whatever the configured limit.
const MAX_TRACKS: usize = 64;
/// More tags than this are refused while parsing, whatever the configured limit.
const MAX_TAGS: usize = 1024;
/// RFC 9559: TimestampScale if absent, in nanoseconds.
const DEFAULT_SCALE_NS: u64 = 1_000_000;

/// What a track is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    /// The number blocks name it by.
    pub number: u64,
    /// 1 video, 2 audio.
    pub kind: u64,
    /// Its name, such as `AUDIO_FROM_CUSTOMER`.
    pub name: String,
    /// Matroska's codec id.
    pub codec: String,
    /// Nanoseconds of a frame; 0: not said.
    pub default_duration_ns: u64,
    /// Samples per second; 0: not said.
    pub rate_hz: f64,
    /// Channels; Matroska's default is 1.
    pub channels: u64,
    /// Bits of a sample; 0: not said.
    pub bits: u64,
    /// Pixels of a picture's width; 0: not said.
    pub width: u64,
    /// Pixels of its height; 0: not said.
    pub height: u64,
    /// What the decoder needs first; may be empty.
    pub codec_private: Vec<u8>,
}

impl Track {
    /// Milliseconds that `bytes` of this track's data last, where its codec is plain PCM.
    pub fn pcm_ms(&self, bytes: usize) -> Option<f64> {
        let per_second = self.rate_hz * (self.channels.max(1) * self.bits) as f64 / 8.0;
        let plain = self.codec.starts_with("A_PCM/INT") && per_second > 0.0;
        plain.then(|| bytes as f64 * 1000.0 / per_second)
    }
}

/// A name with its value, from `Tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// TagName.
    pub name: String,
    /// TagString.
    pub value: String,
}

/// A session's header, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Nanoseconds of a tick.
    pub scale_ns: u64,
    /// The tracks, in their order.
    pub tracks: Vec<Track>,
    /// All tags.
    pub tags: Vec<Tag>,
}

impl Header {
    /// Takes the level-1 elements that came before the first cluster.
    pub(super) fn parse<'a>(elements: impl Iterator<Item = Element<'a>>) -> Result<Self, HeaderError> {
        let mut header = Self { scale_ns: DEFAULT_SCALE_NS, tracks: Vec::new(), tags: Vec::new() };
        for element in elements {
            match element.id {
                id::INFO => header.scale_ns = scale(element.data)?.unwrap_or(header.scale_ns),
                id::TRACKS if header.tracks.is_empty() => header.tracks = tracks(element.data)?,
                id::TRACKS => return Err(HeaderError::TrackNumber),
                id::TAGS => header.tags.extend(tags(element.data)?),
                _ => {}
            }
            if header.tags.len() > MAX_TAGS {
                return Err(HeaderError::TooManyTags);
            }
        }
        if header.tracks.is_empty() {
            return Err(HeaderError::NoTracks);
        }
        Ok(header)
    }

    /// The value of a tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|t| t.name == name).map(|t| t.value.as_str())
    }

    /// Ticks as milliseconds, rounded down; `None` where they do not fit.
    pub fn ticks_ms(&self, ticks: u64) -> Option<u64> {
        u64::try_from(u128::from(ticks) * u128::from(self.scale_ns) / 1_000_000).ok()
    }
}

fn number(element: Element<'_>) -> Result<u64, HeaderError> {
    uint(element.data).ok_or(HeaderError::Value(element.id))
}

fn scale(info: &[u8]) -> Result<Option<u64>, HeaderError> {
    let mut scale = None;
    for element in Elements::new(info) {
        let element = element?;
        if element.id == id::TIMECODE_SCALE {
            let value = number(element)?;
            if value == 0 || value > 1_000_000_000 {
                return Err(HeaderError::Value(element.id));
            }
            scale = Some(value);
        }
    }
    Ok(scale)
}

fn tracks(data: &[u8]) -> Result<Vec<Track>, HeaderError> {
    let mut tracks: Vec<Track> = Vec::new();
    for element in Elements::new(data) {
        let element = element?;
        if element.id != id::TRACK_ENTRY {
            continue;
        }
        let track = track(element.data)?;
        if track.number == 0 || tracks.iter().any(|t| t.number == track.number) {
            return Err(HeaderError::TrackNumber);
        }
        if tracks.len() == MAX_TRACKS {
            return Err(HeaderError::TooManyTracks);
        }
        tracks.push(track);
    }
    Ok(tracks)
}

fn track(data: &[u8]) -> Result<Track, HeaderError> {
    let mut track = Track { channels: 1, ..Track::default() };
    for element in Elements::new(data) {
        let element = element?;
        match element.id {
            id::TRACK_NUMBER => track.number = number(element)?,
            id::TRACK_TYPE => track.kind = number(element)?,
            id::TRACK_NAME => track.name = text(element.data),
            id::CODEC_ID => track.codec = text(element.data),
            id::DEFAULT_DURATION => track.default_duration_ns = number(element)?,
            id::AUDIO => audio(element.data, &mut track)?,
            id::VIDEO => video(element.data, &mut track)?,
            id::CODEC_PRIVATE => track.codec_private = element.data.to_vec(),
            _ => {}
        }
    }
    Ok(track)
}

fn audio(data: &[u8], track: &mut Track) -> Result<(), HeaderError> {
    for element in Elements::new(data) {
        let element = element?;
        match element.id {
            id::SAMPLING_FREQUENCY => {
                let rate = float(element.data).filter(|r| r.is_finite() && *r >= 0.0);
                track.rate_hz = rate.ok_or(HeaderError::Value(element.id))?;
            }
            id::CHANNELS => track.channels = number(element)?.min(255),
            id::BIT_DEPTH => track.bits = number(element)?.min(255),
            _ => {}
        }
    }
    Ok(())
}

fn video(data: &[u8], track: &mut Track) -> Result<(), HeaderError> {
    for element in Elements::new(data) {
        let element = element?;
        match element.id {
            id::PIXEL_WIDTH => track.width = number(element)?,
            id::PIXEL_HEIGHT => track.height = number(element)?,
            _ => {}
        }
    }
    Ok(())
}

/// The names and values of a `Tags` element's data.
///
/// # Errors
/// Bytes that are no elements, or more tags than 1024.
pub fn tags(data: &[u8]) -> Result<Vec<Tag>, HeaderError> {
    let mut found = Vec::new();
    for tag in Elements::new(data) {
        let tag = tag?;
        for simple in Elements::new(tag.data).take(if tag.id == id::TAG { usize::MAX } else { 0 }) {
            let simple = simple?;
            if simple.id == id::SIMPLE_TAG {
                found.push(simple_tag(simple.data)?);
            }
            if found.len() > MAX_TAGS {
                return Err(HeaderError::TooManyTags);
            }
        }
    }
    Ok(found)
}

fn simple_tag(data: &[u8]) -> Result<Tag, HeaderError> {
    let mut tag = Tag { name: String::new(), value: String::new() };
    for element in Elements::new(data) {
        let element = element?;
        match element.id {
            id::TAG_NAME => tag.name = text(element.data),
            id::TAG_STRING => tag.value = text(element.data),
            _ => {}
        }
    }
    Ok(tag)
}
