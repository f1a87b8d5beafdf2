//! Frames as MP4 samples: times of decoding and showing, lengths, checked content.
//!
//! Matroska says when a frame is shown, and has frames in the order in which they are decoded. Decoding times are the
//! same times in their order; what is shown later than it is decoded has the difference as its offset.

use antiphon_store::Frame;
use bytes::Bytes;

use super::MediaFault;
use super::rendition::Rendition;

/// Matroska rounds times to milliseconds: a frame that lies less than this from where the one before it ends, follows it.
const ROUNDING_NS: i64 = 2_000_000;
/// A frame whose length nobody says: one of 25 per second.
const DEFAULT_FRAME_NS: i64 = 40_000_000;

/// One sample of a track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Ticks from the fragment's beginning; may be before it.
    pub(crate) decode: i64,
    pub(crate) duration: u32,
    /// Ticks from decoding to showing.
    pub(crate) offset: i32,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// The samples of one track of a fragment that lasts `fragment_ns`.
pub(crate) fn samples(
    rendition: &Rendition,
    frames: &[Frame],
    fragment_ns: u64,
) -> Result<Vec<Sample>, MediaFault> {
    let own: Vec<&Frame> = frames.iter().filter(|frame| frame.track == rendition.number).collect();
    if let Some(length) = rendition.nal_length
        && !own.iter().all(|frame| is_nal_units(&frame.data, length))
    {
        return Err(MediaFault::InvalidFrame);
    }
    if own.iter().any(|frame| frame.data.is_empty()) {
        return Err(MediaFault::InvalidFrame);
    }
    let shown: Vec<i64> = own.iter().map(|frame| frame.at_ns).collect();
    let decoded = match rendition.frame_ticks {
        Some(ticks) => even(&shown, rendition.timescale.get(), ticks),
        None => {
            let mut sorted: Vec<i64> = shown.iter().map(|ns| ticks(*ns, rendition.timescale.get())).collect();
            sorted.sort_unstable();
            sorted
        }
    };
    let last = last_duration(rendition, &own, &decoded, fragment_ns);
    let ends = decoded.iter().skip(1).copied().chain(decoded.last().map(|at| at + i64::from(last)));
    let one = |((frame, decode), end): ((&&Frame, i64), i64)| {
        let shown = match rendition.frame_ticks {
            Some(_) => decode,
            None => ticks(frame.at_ns, rendition.timescale.get()),
        };
        Sample {
            decode,
            duration: u32::try_from(end - decode).unwrap_or_default(),
            offset: i32::try_from(shown - decode).unwrap_or_default(),
            key: frame.key || rendition.nal_length.is_none(),
            data: frame.data.clone(),
        }
    };
    Ok(own.iter().zip(decoded.iter().copied()).zip(ends).map(one).collect())
}

/// Nanoseconds as ticks, rounded.
pub(crate) fn ticks(ns: i64, timescale: u32) -> i64 {
    let scaled = i128::from(ns) * i128::from(timescale);
    let half = if scaled < 0 { -500_000_000 } else { 500_000_000 };
    i64::try_from((scaled + half) / 1_000_000_000).unwrap_or_default()
}

/// Frames that all last the same follow each other exactly, but for gaps.
fn even(shown: &[i64], timescale: u32, frame: u32) -> Vec<i64> {
    let rounding = ticks(ROUNDING_NS, timescale);
    let mut next = None;
    let mut all = Vec::with_capacity(shown.len());
    for ns in shown {
        let said = ticks(*ns, timescale);
        let at = next.filter(|next: &i64| (said - next).abs() <= rounding).unwrap_or(said);
        // Never before the one before it, whatever is said.
        let at = all.last().map_or(at, |last: &i64| at.max(last + 1));
        all.push(at);
        next = Some(at + i64::from(frame));
    }
    all
}

/// What the last frame lasts: as its group says, as all do, until the fragment's end, or as the one before it.
fn last_duration(rendition: &Rendition, own: &[&Frame], decoded: &[i64], fragment_ns: u64) -> u32 {
    if let Some(ticks) = rendition.frame_ticks {
        return ticks;
    }
    let scale = rendition.timescale.get();
    if let Some(ns) = own.last().and_then(|frame| frame.duration_ns) {
        return u32::try_from(ticks(i64::try_from(ns).unwrap_or_default(), scale)).unwrap_or_default();
    }
    let last = decoded.last().copied().unwrap_or_default();
    let end = ticks(i64::try_from(fragment_ns).unwrap_or_default(), scale);
    let before = decoded.len().checked_sub(2).map(|at| last - decoded[at]).filter(|ticks| *ticks > 0);
    let length = if end > last { end - last } else { before.unwrap_or(ticks(DEFAULT_FRAME_NS, scale)) };
    u32::try_from(length).unwrap_or_default()
}

/// Whether bytes are NAL units, each after its length, and nothing else.
fn is_nal_units(mut bytes: &[u8], length: usize) -> bool {
    while !bytes.is_empty() {
        let Some((head, rest)) = bytes.split_at_checked(length) else { return false };
        let size = head.iter().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        let Some(rest) = rest.get(size..) else { return false };
        if size == 0 {
            return false;
        }
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playback::rendition::{Wanted, renditions};
    use antiphon_store::matroska::{Header, Track};

    fn sound() -> Rendition {
        let track =
            Track { number: 1, codec: "A_AAC".into(), codec_private: vec![0x11, 0x90], ..Track::default() };
        let header = Header { scale_ns: 1_000_000, tracks: vec![track], tags: Vec::new() };
        renditions(&header, Wanted::Any).unwrap().remove(0)
    }

    fn frame(at_ms: i64) -> Frame {
        let data = Bytes::from_static(&[0, 0, 0, 1, 9]);
        Frame { track: 1, at_ns: at_ms * 1_000_000, duration_ns: None, key: at_ms == 0, data }
    }

    #[test]
    fn sound_is_without_gaps_but_for_those_that_are_there() {
        let frames: Vec<_> = [0, 21, 43, 64, 85, 200].into_iter().map(frame).collect();
        let samples = samples(&sound(), &frames, 300_000_000).unwrap();
        let decode: Vec<_> = samples.iter().map(|s| s.decode).collect();
        assert_eq!(decode, [0, 1024, 2048, 3072, 4096, 9600]);
        let durations: Vec<_> = samples.iter().map(|s| s.duration).collect();
        assert_eq!(durations, [1024, 1024, 1024, 1024, 5504, 1024]);
    }

    #[test]
    fn pictures_are_decoded_in_the_order_of_their_times() {
        let pictures = Rendition {
            nal_length: Some(4),
            frame_ticks: None,
            timescale: std::num::NonZeroU32::new(90_000).unwrap(),
            ..sound()
        };
        // I P B B: shown at 0, 120, 40, 80.
        let frames: Vec<_> = [0, 120, 40, 80].into_iter().map(frame).collect();
        let samples = samples(&pictures, &frames, 160_000_000).unwrap();
        let times: Vec<_> = samples.iter().map(|s| (s.decode, s.duration, s.offset, s.key)).collect();
        assert_eq!(
            times,
            [
                (0, 3600, 0, true),
                (3600, 3600, 7200, false),
                (7200, 3600, -3600, false),
                (10_800, 3600, -3600, false)
            ]
        );
        let shown: i64 = samples.iter().map(|s| s.decode + i64::from(s.offset)).sum();
        assert_eq!(shown, ticks((120 + 40 + 80) * 1_000_000, 90_000));
        for bad in [&[0, 0, 0, 2, 9][..], &[0, 0, 0, 0], &[0, 0], &[]] {
            let frames = [Frame { data: Bytes::from_static(bad), ..frame(0) }];
            assert_eq!(super::samples(&pictures, &frames, 0), Err(MediaFault::InvalidFrame), "{bad:?}");
        }
    }
}
