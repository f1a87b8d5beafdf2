//! Stored fragments as MP4: clips, and sessions of HLS and DASH. Frames are repacked, never decoded.
//!
//! A session is nothing but its token, so any node with the same key goes on with it, and nothing has to be kept or closed.

mod clip;
mod dash;
mod fault;
mod hls;
mod rendition;
mod sample;
mod segment;
mod sending;
mod session;

use axum::Router;
use axum::routing::{get, post};

use crate::Kvs;

pub(crate) use fault::MediaFault;
pub(crate) use session::{SessionKey, clock, range};

/// Requests at a time that hold a fragment, and clips at a time: each may have 50 MB in memory, or 100 MB. More wait.
pub(crate) const MAX_SEGMENTS_AT_ONCE: usize = 16;
pub(crate) const MAX_CLIPS_AT_ONCE: usize = 2;

/// Repacks a fragment in all ways: for the fuzz target.
pub(crate) fn repack(header: &antiphon_store::matroska::Header, frames: &[antiphon_store::Frame]) {
    let _ = crate::images::prepared(header, frames);
    let Ok(renditions) = rendition::renditions(header, rendition::Wanted::Any) else { return };
    for rendition in renditions {
        let _ = segment::init_segment(&rendition);
        if let Ok(samples) = sample::samples(&rendition, frames, 1_000_000_000) {
            let _ = segment::media_segment(&samples, 0, antiphon_store::FragmentNumber::MIN);
            let _ = clip::file_of(rendition, samples);
        }
    }
}

/// The operations and what players ask for, under a prefix.
pub(crate) fn routes(prefix: &str) -> Router<Kvs> {
    let at = |path: &str| format!("{prefix}/{path}");
    Router::new()
        .route(&at("getClip"), post(clip::get_clip))
        .route(&at("getHLSStreamingSessionURL"), post(hls::get_url))
        .route(&at("getDASHStreamingSessionURL"), post(dash::get_url))
        .route(&at("hls/v1/getHLSMasterPlaylist.m3u8"), get(hls::master))
        .route(&at("hls/v1/getHLSMediaPlaylist.m3u8"), get(hls::media))
        .route(&at("dash/v1/getDASHManifest.mpd"), get(dash::manifest))
        .route(&at("hls/v1/getMP4InitFragment.mp4"), get(segment::init))
        .route(&at("hls/v1/getMP4MediaFragment.mp4"), get(segment::media))
        .route(&at("dash/v1/getMP4InitFragment.mp4"), get(segment::init))
        .route(&at("dash/v1/getMP4MediaFragment.mp4"), get(segment::media))
}
