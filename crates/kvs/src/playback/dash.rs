//! MPEG-DASH (ISO/IEC 23009-1) with fragmented MP4: a period for each header, an adaptation set for each track, segments named
//! by their time.

use std::fmt::Write;

use antiphon_store::FragmentInfo;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;
use shiguredo_mp4::TrackKind;

use super::fault::no_fragments;
use super::hls::bandwidth;
use super::rendition::{Rendition, Wanted, renditions};
use super::session::{Session, Wish, url};
use crate::control::{Answer, answer, read};
use crate::error::{KvsError, with_request_id};
use crate::model::GetDash;
use crate::{Kvs, time};

/// Periods of one manifest: a producer that connects anew for each fragment has one for each.
const MAX_PERIODS: usize = 100;

pub(crate) async fn get_url(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let (caller, get): (_, GetDash) = read(&kvs, "GetDASHStreamingSessionURL", request).await?;
    let stream = caller.check(get.stream.find()?)?;
    let wish = Wish {
        mode: get.playback_mode,
        selector: get.fragment_selector,
        expires_s: get.expires,
        max: get.max_manifest_fragment_results,
        discontinuity: Some("NEVER".into()),
        tell_times: get.display_fragment_timestamp,
        tell_numbers: get.display_fragment_number,
    };
    let session = Session::new(&kvs, &stream, &wish)?;
    let window = session.window(&kvs, kvs.now_ms())?;
    let last = window.last().ok_or_else(no_fragments)?;
    tracks(&kvs, &session, last).await?;
    let rest = format!("/dash/v1/getDASHManifest.mpd?SessionToken={}", session.token(&kvs));
    let url = url(&kvs, &headers, &uri, "/getDASHStreamingSessionURL", &rest);
    Ok(answer(&json!({ "DASHStreamingSessionURL": url })))
}

async fn tracks(kvs: &Kvs, session: &Session, of: &FragmentInfo) -> Result<Vec<Rendition>, KvsError> {
    let header = kvs.store().header(&session.stream()?, of.number).await?.ok_or_else(no_fragments)?;
    Ok(renditions(&header, Wanted::Any)?)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Asked {
    session_token: String,
}

pub(crate) async fn manifest(State(kvs): State<Kvs>, Query(asked): Query<Asked>) -> Answer {
    let (session, now) = (Session::of(&kvs, &asked.session_token)?, kvs.now_ms());
    let window = session.window(&kvs, now)?;
    let mut periods = Vec::new();
    for run in window.chunk_by(|a, b| a.header == b.header).rev().take(MAX_PERIODS) {
        let first = run.first().ok_or_else(no_fragments)?;
        periods.push((run, tracks(&kvs, &session, first).await?));
    }
    periods.reverse();
    let text = mpd(&asked.session_token, &session, &periods, now);
    let headers = [(header::CONTENT_TYPE, "application/dash+xml"), (header::CACHE_CONTROL, "no-store")];
    Ok(with_request_id((headers, text).into_response()))
}

/// Milliseconds as an XML duration.
fn duration(ms: u64) -> String {
    format!("PT{}.{:03}S", ms / 1000, ms % 1000)
}

fn mpd(token: &str, session: &Session, periods: &[(&[FragmentInfo], Vec<Rendition>)], now: u64) -> String {
    let all = periods.iter().flat_map(|(run, _)| run.iter());
    let longest = all.clone().map(|f| f.duration_ms).max().unwrap_or(1).max(1);
    let start = |fragment: &FragmentInfo| session.time_ms(fragment).saturating_sub(session.base_ms);
    let end = all.clone().map(|f| start(f) + f.duration_ms).max().unwrap_or_default();
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
         xmlns:kvs=\"http://www.amazon.com/kinesisvideo\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\"",
    );
    let _ = write!(text, " minBufferTime=\"{}\"", duration(longest));
    if session.complete(now) {
        let _ = writeln!(text, " type=\"static\" mediaPresentationDuration=\"{}\">", duration(end));
    } else {
        let begin = all.clone().map(start).min().unwrap_or_default();
        let _ = writeln!(
            text,
            " type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"{}\" \
             timeShiftBufferDepth=\"{}\" suggestedPresentationDelay=\"{}\">",
            time::to_iso_8601_ms(availability_start(session)),
            time::to_iso_8601_ms(now),
            duration(longest.min(2_000)),
            duration(end.saturating_sub(begin)),
            duration(longest * 3),
        );
        let now = time::to_iso_8601_ms(now);
        let _ = writeln!(text, "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"{now}\"/>");
    }
    for (run, tracks) in periods {
        period(&mut text, token, session, run, tracks);
    }
    text.push_str("</MPD>\n");
    text
}

/// The wall clock at which the player's time 0 is to be had.
fn availability_start(session: &Session) -> u64 {
    match session.mode {
        super::session::Mode::Live => session.anchor_server_ms,
        _ => session.created_ms,
    }
}

fn period(text: &mut String, token: &str, session: &Session, run: &[FragmentInfo], tracks: &[Rendition]) {
    let Some(first) = run.first() else { return };
    let start = session.time_ms(first).saturating_sub(session.base_ms);
    let _ = writeln!(text, "<Period id=\"{}\" start=\"{}\">", first.number, duration(start));
    for rendition in tracks {
        adaptation(text, token, (session, start), run, rendition);
    }
    text.push_str("</Period>\n");
}

fn adaptation(
    text: &mut String,
    token: &str,
    (session, offset): (&Session, u64),
    run: &[FragmentInfo],
    rendition: &Rendition,
) {
    let kind = if rendition.kind == TrackKind::Audio { "audio" } else { "video" };
    let query = format!("SessionToken={token}&amp;TrackNumber={}", rendition.number);
    let first = run.first().map(|f| f.number.to_string()).unwrap_or_default();
    let _ = writeln!(
        text,
        "<AdaptationSet contentType=\"{kind}\" mimeType=\"{kind}/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\">\n\
         <SegmentTemplate timescale=\"1000\" presentationTimeOffset=\"{offset}\" \
         initialization=\"getMP4InitFragment.mp4?{query}&amp;FragmentNumber={first}\" \
         media=\"getMP4MediaFragment.mp4?{query}&amp;Time=$Time$\">\n<SegmentTimeline>"
    );
    for (at, fragment) in run.iter().enumerate() {
        let begin = session.time_ms(fragment).saturating_sub(session.base_ms);
        let next = run.get(at + 1).map(|next| session.time_ms(next).saturating_sub(session.base_ms));
        // Rounding makes neighbours overlap, or leave a gap, by a millisecond or two.
        let length = fragment.duration_ms.max(1);
        let length = match next.and_then(|next| next.checked_sub(begin)) {
            Some(apart) if apart > 0 && (apart < length || apart - length <= 50) => apart,
            _ => length,
        };
        let _ = write!(text, "<S t=\"{begin}\" d=\"{length}\"");
        if session.tell_times {
            let at = session.time_ms(fragment);
            let _ = write!(text, " kvs:ts=\"{}.{:03}\"", at / 1000, at % 1000);
        }
        if session.tell_numbers {
            let _ = write!(text, " kvs:fn=\"{}\"", fragment.number);
        }
        text.push_str("/>\n");
    }
    let codec = &rendition.codec;
    let _ = write!(
        text,
        "</SegmentTimeline>\n</SegmentTemplate>\n<Representation id=\"{}\" bandwidth=\"{}\" codecs=\"{codec}\"",
        rendition.number,
        bandwidth(run)
    );
    if rendition.width > 0 {
        let _ = write!(text, " width=\"{}\" height=\"{}\"", rendition.width, rendition.height);
    } else {
        let _ = write!(text, " audioSamplingRate=\"{}\"", rendition.timescale);
    }
    text.push_str("/>\n</AdaptationSet>\n");
}
