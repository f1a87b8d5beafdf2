//! How recordings are called in the store: a stream for the timeline, which has what is known of the whole in its tags, and one for each
//! track. Names and tags are sealed with the streams' records: as secret as the media, and gone with them.

use std::collections::BTreeMap;

use antiphon_base::{AudioCodec, Codec, Source, VideoCodec};

use super::Track;

/// What all begin with.
pub(super) const PREFIX: &str = "recording-";
const TIMELINE: &str = "timeline";
/// Tags.
pub(super) const RECORDING: &str = "Recording";
pub(super) const ROOM: &str = "Room";
pub(super) const CONSENT: &str = "Consent";
pub(super) const START: &str = "StartMs";
pub(super) const STOP: &str = "StopMs";
/// What tags of whoever started it begin with.
pub(super) const OWN: &str = "Tag.";
const TRACK: &str = "Track";
const PARTICIPANT: &str = "Participant";
const NAME: &str = "Name";
const SOURCE: &str = "Source";
const CODEC: &str = "Codec";

/// A recording's id: 16 hexadecimal digits.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(super) fn fresh_id() -> String {
    let mut random = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut random).expect("the system gives random numbers");
    format!("{:016x}", u64::from_be_bytes(random))
}

/// What the names of all streams of a recording begin with.
pub(super) fn all(id: &str) -> String {
    format!("{PREFIX}{id}-")
}

pub(super) fn timeline(id: &str) -> String {
    format!("{PREFIX}{id}-{TIMELINE}")
}

pub(super) fn track(id: &str, number: usize) -> String {
    format!("{PREFIX}{id}-{number:04}")
}

/// The recording whose timeline has this name.
pub(super) fn of_timeline(name: &str) -> Option<&str> {
    let id = name.strip_prefix(PREFIX)?.strip_suffix(TIMELINE)?.strip_suffix('-')?;
    is_id(id).then_some(id)
}

pub(super) fn media_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Audio(AudioCodec::Opus) => "audio/opus",
        Codec::Audio(_) => "audio/basic",
        Codec::Video(VideoCodec::Vp8) => "video/VP8",
        Codec::Video(VideoCodec::Vp9) => "video/VP9",
        Codec::Video(VideoCodec::H264) => "video/h264",
        Codec::Video(VideoCodec::Av1) => "video/AV1",
    }
}

/// The tags of a track's stream.
pub(super) struct TrackTags;

impl TrackTags {
    pub(super) fn of(id: &str, track: &Track) -> BTreeMap<String, String> {
        let pairs = [
            (RECORDING, id.to_owned()),
            (TRACK, track.number.to_string()),
            (PARTICIPANT, track.participant.clone()),
            (NAME, track.name.clone()),
            (SOURCE, track.source.as_str().to_owned()),
            (CODEC, codec_word(track.codec).to_owned()),
            (START, track.start_ms.to_string()),
        ];
        pairs.map(|(k, v)| (k.to_owned(), v)).into()
    }

    pub(super) fn read(tags: &BTreeMap<String, String>) -> Option<Track> {
        let get = |name: &str| tags.get(name);
        Some(Track {
            number: get(TRACK)?.parse().ok()?,
            participant: get(PARTICIPANT)?.clone(),
            name: get(NAME)?.clone(),
            source: Source::ALL.into_iter().find(|s| Some(s.as_str()) == get(SOURCE).map(String::as_str))?,
            codec: codec_of(get(CODEC)?)?,
            start_ms: get(START)?.parse().ok()?,
            stop_ms: get(STOP).and_then(|ms| ms.parse().ok()),
        })
    }
}

/// The codecs that are kept.
const CODECS: [Codec; 5] = [
    Codec::Audio(AudioCodec::Opus),
    Codec::Video(VideoCodec::Vp8),
    Codec::Video(VideoCodec::Vp9),
    Codec::Video(VideoCodec::H264),
    Codec::Video(VideoCodec::Av1),
];

pub(super) fn codec_word(codec: Codec) -> &'static str {
    codec.as_str()
}

fn codec_of(word: &str) -> Option<Codec> {
    CODECS.into_iter().find(|codec| codec_word(*codec) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_come_back_from_their_tags() {
        for codec in CODECS {
            let track = Track {
                number: 7,
                participant: "ada".into(),
                name: "Ada".into(),
                source: Source::Screen,
                codec,
                start_ms: 5,
                stop_ms: None,
            };
            let mut tags = TrackTags::of("0123456789abcdef", &track);
            assert_eq!(TrackTags::read(&tags), Some(track.clone()));
            tags.insert(STOP.into(), "9".into());
            assert_eq!(TrackTags::read(&tags).and_then(|t| t.stop_ms), Some(9));
            tags.remove(CODEC);
            assert_eq!(TrackTags::read(&tags), None);
        }
    }

    #[test]
    fn names_tell_whose_they_are() {
        let id = fresh_id();
        assert!(is_id(&id) && !is_id("../../etc/passwd00") && !is_id("0123456789ABCDEF"));
        assert_eq!(of_timeline(&timeline(&id)), Some(&*id));
        assert_eq!(of_timeline(&track(&id, 1)), None);
        assert!(track(&id, 1).starts_with(&all(&id)) && timeline(&id).starts_with(&all(&id)));
    }
}
