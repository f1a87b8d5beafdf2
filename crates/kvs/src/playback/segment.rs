//! Fragmented MP4 (ISO/IEC 14496-12): the initialization segment of a track, and a fragment as a media segment.

use antiphon_store::FragmentNumber;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use shiguredo_mp4::boxes::{MfhdBox, MoofBox, TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample};
use shiguredo_mp4::mux::Fmp4SegmentMuxer;
use shiguredo_mp4::{Encode, SampleFlags, mux};

use super::fault::no_fragments;
use super::rendition::{Rendition, Wanted, renditions};
use super::sample::{Sample, samples, ticks};
use super::session::Session;
use super::{MediaFault, sending};
use crate::Kvs;
use crate::control::Answer;
use crate::error::{KvsError, with_request_id};

/// Each file has one track.
const TRACK_ID: u32 = 1;
/// ISO/IEC 14496-12, 8.8.3.1: depends on no other; depends on others and is no place to begin.
const KEY_FLAGS: u32 = 0x0200_0000;
const OTHER_FLAGS: u32 = 0x0101_0000;
/// Segments never change, and the session says how long they may be had.
const MAX_AGE: &str = "private, max-age=300";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Asked {
    session_token: String,
    track_number: u64,
    /// The fragment; or else
    fragment_number: Option<String>,
    /// when it begins, in milliseconds of the player.
    time: Option<u64>,
}

impl Asked {
    fn number(&self, kvs: &Kvs, session: &Session, now: u64) -> Result<FragmentNumber, KvsError> {
        match (&self.fragment_number, self.time) {
            (Some(text), _) => text.parse().map_err(|e| KvsError::invalid(format!("FragmentNumber: {e}."))),
            (None, Some(time)) => session.at(kvs, time, now),
            (None, None) => Err(KvsError::invalid("FragmentNumber or Time is needed.")),
        }
    }
}

fn of_track(all: Vec<Rendition>, number: u64) -> Result<Rendition, KvsError> {
    let found = all.into_iter().find(|r| r.number == number);
    found.ok_or_else(|| KvsError::invalid("TrackNumber: no such track."))
}

fn kind(rendition: &Rendition) -> &'static str {
    match rendition.kind {
        shiguredo_mp4::TrackKind::Audio => "audio/mp4",
        _ => "video/mp4",
    }
}

pub(crate) async fn init(State(kvs): State<Kvs>, Query(asked): Query<Asked>) -> Answer {
    let session = Session::of(&kvs, &asked.session_token)?;
    let number = asked.number(&kvs, &session, kvs.now_ms())?;
    let header = kvs.store().header(&session.stream()?, number).await?.ok_or_else(no_fragments)?;
    let rendition = of_track(renditions(&header, Wanted::Any)?, asked.track_number)?;
    let headers = [(header::CONTENT_TYPE, kind(&rendition)), (header::CACHE_CONTROL, MAX_AGE)];
    Ok(with_request_id((headers, init_segment(&rendition)?).into_response()))
}

pub(crate) async fn media(State(kvs): State<Kvs>, Query(asked): Query<Asked>) -> Answer {
    let (session, now) = (Session::of(&kvs, &asked.session_token)?, kvs.now_ms());
    let number = asked.number(&kvs, &session, now)?;
    let stream = session.stream()?;
    kvs.unlock_one(&stream, number).await?;
    let place = kvs.segment_place().await;
    let media = kvs.store().media(&stream, number, now).await?.ok_or_else(no_fragments)?;
    let rendition = of_track(renditions(&media.header, Wanted::Any)?, asked.track_number)?;
    let samples = samples(&rendition, &media.frames, media.info.duration_ms * 1_000_000)?;
    let begin_ms = session.time_ms(&media.info).saturating_sub(session.base_ms);
    let begin = ticks(i64::try_from(begin_ms).unwrap_or_default() * 1_000_000, rendition.timescale.get());
    Ok(sending::answer(kind(&rendition), MAX_AGE, media_segment(&samples, begin, number)?, place))
}

/// `ftyp` and `moov`.
pub(crate) fn init_segment(rendition: &Rendition) -> Result<Vec<u8>, MediaFault> {
    let first = mux::Sample {
        track_kind: rendition.kind,
        sample_entry: Some(rendition.entry.clone()),
        keyframe: true,
        timescale: rendition.timescale,
        duration: 0,
        composition_time_offset: None,
        data_offset: 0,
        data_size: 0,
    };
    let made = Fmp4SegmentMuxer::new().and_then(|mut muxer| {
        // It learns of the track from a sample, and of nothing else.
        muxer.create_media_segment_metadata(&[first])?;
        muxer.init_segment_bytes()
    });
    made.map_err(|_| MediaFault::InvalidPrivate)
}

/// `moof` and `mdat` of samples that begin at a tick.
pub(crate) fn media_segment(
    samples: &[Sample],
    begin: i64,
    number: FragmentNumber,
) -> Result<Vec<u8>, MediaFault> {
    let first = samples.first().map_or(0, |sample| sample.decode);
    let mut moof = MoofBox {
        // Counts up, and need not be without gaps.
        mfhd_box: MfhdBox { sequence_number: u32::try_from(number.counter() & 0xffff_ffff).unwrap_or(1) },
        traf_boxes: vec![traf(samples, begin + first)],
        unknown_boxes: Vec::new(),
    };
    let encode = |moof: &MoofBox| moof.encode_to_vec().map_err(|_| MediaFault::InvalidFrame);
    let head = encode(&moof)?.len() + 8;
    moof.traf_boxes[0].trun_boxes[0].data_offset = i32::try_from(head).ok();
    let mut bytes = encode(&moof)?;
    let size: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let size = u32::try_from(size + 8).map_err(|_| MediaFault::InvalidFrame)?;
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    samples.iter().for_each(|sample| bytes.extend_from_slice(&sample.data));
    Ok(bytes)
}

fn traf(samples: &[Sample], begin: i64) -> TrafBox {
    let one = |sample: &Sample| TrunSample {
        duration: Some(sample.duration),
        size: u32::try_from(sample.data.len()).ok(),
        flags: Some(SampleFlags::new(if sample.key { KEY_FLAGS } else { OTHER_FLAGS })),
        composition_time_offset: Some(sample.offset.into()),
    };
    TrafBox {
        tfhd_box: TfhdBox {
            track_id: TRACK_ID,
            base_data_offset: None,
            sample_description_index: None,
            default_sample_duration: None,
            default_sample_size: None,
            default_sample_flags: None,
            duration_is_empty: false,
            default_base_is_moof: true,
        },
        tfdt_box: Some(TfdtBox {
            version: 1,
            base_media_decode_time: u64::try_from(begin).unwrap_or_default(),
        }),
        trun_boxes: vec![TrunBox {
            data_offset: Some(0),
            first_sample_flags: None,
            samples: samples.iter().map(one).collect(),
        }],
        unknown_boxes: Vec::new(),
    }
}
