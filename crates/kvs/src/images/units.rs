//! A fragment's pictures as decoders want them: access units in the order of decoding, and which of them is shown when.

use antiphon_base::VideoCodec;
use antiphon_store::Frame;
use antiphon_store::matroska::Header;
use bytes::Bytes;

/// Before each NAL unit (ITU-T H.264, annex B).
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Bytes of an `av1C` before its OBUs.
const AV1C_HEAD: usize = 4;

/// The first track with pictures.
pub(crate) struct Prepared {
    pub(super) codec: VideoCodec,
    units: Vec<Unit>,
}

struct Unit {
    at_ns: i64,
    key: bool,
    data: Bytes,
}

/// Units from a key frame on, and which pictures of them are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Empty: what is wanted has no key frame before it.
    pub(super) units: Vec<Bytes>,
    /// For each time.
    pub(super) pictures: Vec<usize>,
}

/// `None`: there are no pictures of a codec that is decoded here, or they are not of that form.
pub(crate) fn prepared(header: &Header, frames: &[Frame]) -> Option<Prepared> {
    let (track, codec) = header.tracks.iter().find_map(|track| Some((track, codec(&track.codec)?)))?;
    let private = &track.codec_private;
    let sets = match codec {
        VideoCodec::H264 => Some(parameter_sets(private)?),
        _ => None,
    };
    let own = frames.iter().filter(|frame| frame.track == track.number);
    let unit = |frame: &Frame| {
        let data = match (&sets, codec) {
            (Some((length, sets)), _) => annex_b(&frame.data, *length, sets, frame.key)?,
            (None, VideoCodec::Av1) if frame.key => {
                [private.get(AV1C_HEAD..).unwrap_or_default(), &frame.data].concat().into()
            }
            _ => frame.data.clone(),
        };
        Some(Unit { at_ns: frame.at_ns, key: frame.key, data })
    };
    Some(Prepared { codec, units: own.map(unit).collect::<Option<_>>()? })
}

fn codec(id: &str) -> Option<VideoCodec> {
    match id {
        "V_MPEG/ISO/AVC" | "V_MPEG4/ISO/AVC" => Some(VideoCodec::H264),
        "V_VP8" => Some(VideoCodec::Vp8),
        "V_VP9" => Some(VideoCodec::Vp9),
        "V_AV1" => Some(VideoCodec::Av1),
        _ => None,
    }
}

/// How many bytes a NAL unit's length has, and the parameter sets in annex B, of an `avcC` (ISO/IEC 14496-15, 5.3.3.1).
fn parameter_sets(private: &[u8]) -> Option<(usize, Vec<u8>)> {
    let length = usize::from(private.get(4)? & 3) + 1;
    let mut sets = Vec::new();
    let mut rest = private.get(5..)?;
    for mask in [0x1f, 0xff] {
        let (count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            let (size, after) = rest.split_first_chunk::<2>()?;
            let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
            sets.extend_from_slice(&START_CODE);
            sets.extend_from_slice(set);
            rest = after;
        }
    }
    (!sets.is_empty()).then_some((length, sets))
}

/// NAL units behind their lengths become NAL units behind start codes.
fn annex_b(mut data: &[u8], length: usize, sets: &[u8], key: bool) -> Option<Bytes> {
    let mut out = Vec::with_capacity(data.len() + 64);
    if key {
        out.extend_from_slice(sets);
    }
    while !data.is_empty() {
        let (size, rest) = data.split_at_checked(length)?;
        let size = size.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        let (nal, rest) = rest.split_at_checked(size)?;
        out.extend_from_slice(&START_CODE);
        out.extend_from_slice(nal);
        data = rest;
    }
    Some(out.into())
}

/// What to decode for the pictures that are shown at these times (ascending), a group for each key frame.
pub(super) fn groups(prepared: &Prepared, offsets_ms: &[u64]) -> Vec<Group> {
    let units = &prepared.units;
    let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
    for offset in offsets_ms {
        let at_ns = i64::try_from(*offset).unwrap_or(i64::MAX / 1_000_000).saturating_mul(1_000_000);
        // The picture that is on the screen then; before the first, the first.
        let shown =
            units.iter().enumerate().filter(|(_, unit)| unit.at_ns <= at_ns).max_by_key(|(_, u)| u.at_ns);
        let shown = shown.or_else(|| units.iter().enumerate().min_by_key(|(_, unit)| unit.at_ns));
        let unit = shown.map(|(i, _)| i);
        let key = unit.and_then(|unit| units[..=unit].iter().rposition(|u| u.key));
        match groups.last_mut() {
            Some((same, wanted)) if *same == key => wanted.extend(unit),
            _ => groups.push((key, unit.into_iter().collect())),
        }
    }
    groups.into_iter().map(|(key, wanted)| group(units, key, &wanted)).collect()
}

fn group(units: &[Unit], key: Option<usize>, wanted: &[usize]) -> Group {
    let Some(key) = key else {
        // Each has its answer, if not its picture.
        return Group { units: Vec::new(), pictures: vec![0; wanted.len().max(1)] };
    };
    let last = wanted.iter().max().copied().unwrap_or(key);
    let units = units[key..=last].iter().map(|unit| unit.data.clone()).collect();
    Group { units, pictures: wanted.iter().map(|unit| unit - key).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_store::matroska::Track;

    const AVCC: &[u8] = &[1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 9, 1, 0, 1, 0x68];

    fn frame(at_ms: i64, key: bool, data: &[u8]) -> Frame {
        Frame {
            track: 2,
            at_ns: at_ms * 1_000_000,
            duration_ns: None,
            key,
            data: Bytes::copy_from_slice(data),
        }
    }

    fn header(codec: &str, private: &[u8]) -> Header {
        let track = |number, codec: &str| Track {
            number,
            codec: codec.into(),
            codec_private: private.to_vec(),
            ..Track::default()
        };
        Header { scale_ns: 1_000_000, tracks: vec![track(1, "A_OPUS"), track(2, codec)], tags: Vec::new() }
    }

    #[test]
    fn h264_gets_start_codes_and_parameter_sets() {
        let frames =
            [frame(0, true, &[0, 0, 0, 2, 0x65, 7]), frame(40, false, &[0, 0, 0, 1, 0x41, 0, 0, 0, 1, 6])];
        let prepared = prepared(&header("V_MPEG4/ISO/AVC", AVCC), &frames).unwrap();
        assert_eq!(prepared.units[0].data[..], [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 7]);
        assert_eq!(prepared.units[1].data[..], [0, 0, 0, 1, 0x41, 0, 0, 0, 1, 6]);
    }

    #[test]
    fn what_is_not_of_its_form_is_none() {
        let whole = [frame(0, true, &[0, 0, 0, 1, 0x65])];
        for cut in 0..AVCC.len() {
            assert!(prepared(&header("V_MPEG4/ISO/AVC", &AVCC[..cut]), &whole).is_none(), "{cut}");
        }
        assert!(prepared(&header("V_MPEG4/ISO/AVC", AVCC), &[frame(0, true, &[0, 0, 0, 9, 1])]).is_none());
        assert!(prepared(&header("V_MPEG4/ISO/AVC", AVCC), &[frame(0, true, &[0, 0])]).is_none());
        assert!(prepared(&header("V_THEORA", &[]), &whole).is_none());
    }

    fn check(times: &[(i64, bool)], offsets_ms: &[u64], expected: &[(usize, &[usize])]) {
        let frames: Vec<Frame> = times.iter().map(|(at, key)| frame(*at, *key, &[1])).collect();
        let prepared = prepared(&header("V_VP8", &[]), &frames).unwrap();
        let groups = groups(&prepared, offsets_ms);
        let seen: Vec<_> = groups.iter().map(|g| (g.units.len(), &g.pictures[..])).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_more_is_decoded_than_is_needed() {
        let times = [(0, true), (40, false), (80, false), (120, true), (160, false)];
        check(&times, &[0], &[(1, &[0])]);
        check(&times, &[79, 80, 100, 5_000], &[(3, &[1, 2, 2]), (2, &[1])]);
        check(&[(10, false), (50, true)], &[0, 60], &[(0, &[0]), (1, &[0])]);
        check(&[], &[0], &[(0, &[0])]);
    }

    #[test]
    fn what_is_shown_later_is_sent_earlier() {
        let times = [(0, true), (120, false), (40, false), (80, false), (160, true)];
        check(&times, &[40, 120], &[(3, &[2, 1])]);
    }
}
