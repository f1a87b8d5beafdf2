//! GetClip: stored fragments as one MP4 file, its index before its media.

use antiphon_store::{FragmentInfo, Media, Range};
use axum::extract::{Request, State};
use shiguredo_mp4::mux::{self, Mp4FileMuxer, Mp4FileMuxerOptions, estimate_maximum_moov_box_size};

use super::fault::no_fragments;
use super::rendition::{Rendition, Wanted, renditions};
use super::sample::{Sample, samples, ticks};
use super::session::{clock, range};
use super::{MediaFault, sending};
use crate::control::{Answer, read};
use crate::error::KvsError;
use crate::model::GetClip;
use crate::{Kvs, time};

/// As Amazon has it.
const MAX_FRAGMENTS: usize = 200;
/// As Amazon has it.
const MAX_BYTES: u64 = 100_000_000;

pub(crate) async fn get_clip(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, get): (_, GetClip) = read(&kvs, "GetClip", request).await?;
    let (stream, now) = (caller.check(get.stream.find()?)?, kvs.now_ms());
    let times = get.clip_fragment_selector.timestamp_range;
    let at = |value, field: &str| {
        time::from_json(value).ok_or_else(|| KvsError::invalid(format!("{field}: not a time.")))
    };
    let wanted = Range {
        clock: clock(&get.clip_fragment_selector.fragment_selector_type)?,
        start_ms: at(&times.start_timestamp, "StartTimestamp")?,
        end_ms: at(&times.end_timestamp, "EndTimestamp")?,
    };
    let found = range(&kvs, &stream, wanted, now)?;
    if found.is_empty() {
        return Err(no_fragments());
    }
    if found.len() > MAX_FRAGMENTS || found.iter().map(|f| f.size).sum::<u64>() > MAX_BYTES {
        let message = format!("The clip has more than {MAX_FRAGMENTS} fragments or {MAX_BYTES} bytes.");
        return Err(KvsError::invalid(message));
    }
    kvs.unlock(&stream, &found).await?;
    let place = kvs.clip_place().await;
    let mut clip = Clip::new(wanted, &found);
    for fragment in &found {
        // One that retention has taken since is not there any more.
        if let Some(media) = kvs.store().media(&stream, fragment.number, now).await? {
            clip.add(&media)?;
        }
    }
    Ok(sending::answer("video/mp4", "no-store", clip.file()?, place))
}

/// A file being made.
struct Clip {
    wanted: Range,
    base_ms: u64,
    /// Tracks and their samples, a group for each fragment.
    groups: Vec<(Rendition, Vec<Sample>)>,
}

/// A file of one track.
pub(super) fn file_of(rendition: Rendition, samples: Vec<Sample>) -> Result<Vec<u8>, MediaFault> {
    let wanted = Range { clock: antiphon_store::Clock::Server, start_ms: 0, end_ms: 0 };
    Clip { groups: vec![(rendition, samples)], ..Clip::new(wanted, &[]) }.file()
}

impl Clip {
    fn new(wanted: Range, found: &[FragmentInfo]) -> Self {
        let mut clip = Self { wanted, base_ms: 0, groups: Vec::new() };
        clip.base_ms = found.iter().map(|f| clip.time_ms(f)).min().unwrap_or_default();
        clip
    }

    fn time_ms(&self, fragment: &FragmentInfo) -> u64 {
        match self.wanted.clock {
            antiphon_store::Clock::Producer => fragment.producer_ms,
            antiphon_store::Clock::Server => fragment.server_ms,
        }
    }

    fn add(&mut self, media: &Media) -> Result<(), MediaFault> {
        let begin = i64::try_from(self.time_ms(&media.info) - self.base_ms).unwrap_or_default();
        for rendition in renditions(&media.header, Wanted::Pictures)? {
            let mut all = samples(&rendition, &media.frames, media.info.duration_ms * 1_000_000)?;
            let begin = ticks(begin * 1_000_000, rendition.timescale.get());
            all.iter_mut().for_each(|sample| sample.decode += begin);
            self.groups.push((rendition, all));
        }
        Ok(())
    }

    /// A file has no times of its own, only lengths: each sample lasts until the next of its track.
    fn close_gaps(&mut self) {
        let mut next = std::collections::BTreeMap::new();
        for (rendition, samples) in self.groups.iter_mut().rev() {
            for sample in samples.iter_mut().rev() {
                if let Some(next) = next.insert(rendition.number, sample.decode)
                    && let Ok(length) = u32::try_from(next - sample.decode)
                {
                    sample.duration = length;
                }
            }
        }
    }

    fn file(mut self) -> Result<Vec<u8>, MediaFault> {
        self.close_gaps();
        self.mux().map_err(|_| MediaFault::InvalidFrame)
    }

    fn mux(&self) -> Result<Vec<u8>, mux::MuxError> {
        let counts: Vec<usize> = self.groups.iter().map(|(_, samples)| samples.len()).collect();
        let options = Mp4FileMuxerOptions {
            reserved_moov_box_size: estimate_maximum_moov_box_size(&counts),
            ..Mp4FileMuxerOptions::default()
        };
        let mut muxer = Mp4FileMuxer::with_options(options)?;
        let mut file = muxer.initial_boxes_bytes().to_vec();
        for (rendition, samples) in &self.groups {
            for (at, sample) in samples.iter().enumerate() {
                muxer.append_sample(&mux::Sample {
                    track_kind: rendition.kind,
                    sample_entry: (at == 0).then(|| rendition.entry.clone()),
                    keyframe: sample.key,
                    timescale: rendition.timescale,
                    duration: sample.duration,
                    composition_time_offset: Some(sample.offset.into()).filter(|offset| *offset != 0),
                    data_offset: file.len() as u64,
                    data_size: sample.data.len(),
                })?;
                file.extend_from_slice(&sample.data);
            }
        }
        for (offset, bytes) in muxer.finalize()?.offset_and_bytes_pairs() {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            if file.len() < at.saturating_add(bytes.len()) {
                file.resize(at + bytes.len(), 0);
            }
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Ok(file)
    }
}
