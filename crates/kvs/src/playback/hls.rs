//! HTTP Live Streaming (RFC 8216) with fragmented MP4: one media playlist per track, one segment per fragment.

use std::fmt::Write;

use antiphon_store::FragmentInfo;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::fault::no_fragments;
use super::rendition::{Rendition, Wanted, renditions};
use super::session::{Mode, Session, Wish, url};
use crate::control::{Answer, answer, read};
use crate::error::{KvsError, with_request_id};
use crate::model::GetHls;
use crate::{Kvs, time};

pub(crate) async fn get_url(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let (caller, get): (_, GetHls) = read(&kvs, "GetHLSStreamingSessionURL", request).await?;
    let stream = caller.check(get.stream.find()?)?;
    if get.container_format.is_some_and(|format| format != "FRAGMENTED_MP4") {
        return Err(KvsError::invalid("ContainerFormat: this server has only FRAGMENTED_MP4."));
    }
    let wish = Wish {
        mode: get.playback_mode,
        selector: get.fragment_selector,
        expires_s: get.expires,
        max: get.max_media_playlist_fragment_results,
        discontinuity: get.discontinuity_mode,
        tell_times: get.display_fragment_timestamp,
        tell_numbers: None,
    };
    let session = Session::new(&kvs, &stream, &wish)?;
    tracks(&kvs, &session).await?;
    let rest = format!("/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken={}", session.token(&kvs));
    let url = url(&kvs, &headers, &uri, "/getHLSStreamingSessionURL", &rest);
    Ok(answer(&json!({ "HLSStreamingSessionURL": url })))
}

/// The tracks of the newest fragment that there is to play.
async fn tracks(kvs: &Kvs, session: &Session) -> Result<(Vec<FragmentInfo>, Vec<Rendition>), KvsError> {
    let window = session.window(kvs, kvs.now_ms())?;
    let last = window.last().ok_or_else(no_fragments)?;
    let header = kvs.store().header(&session.stream()?, last.number).await?.ok_or_else(no_fragments)?;
    let renditions = renditions(&header, Wanted::Any)?;
    Ok((window, renditions))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Asked {
    session_token: String,
    track_number: Option<u64>,
}

fn playlist(text: String) -> Answer {
    let headers =
        [(header::CONTENT_TYPE, "application/vnd.apple.mpegurl"), (header::CACHE_CONTROL, "no-store")];
    Ok(with_request_id((headers, text).into_response()))
}

pub(crate) async fn master(State(kvs): State<Kvs>, Query(asked): Query<Asked>) -> Answer {
    let session = Session::of(&kvs, &asked.session_token)?;
    let (window, tracks) = tracks(&kvs, &session).await?;
    playlist(master_playlist(&asked.session_token, &window, &tracks))
}

fn media_uri(token: &str, rendition: &Rendition) -> String {
    format!("getHLSMediaPlaylist.m3u8?SessionToken={token}&TrackNumber={}", rendition.number)
}

fn master_playlist(token: &str, window: &[FragmentInfo], tracks: &[Rendition]) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    if let [_, sound] = tracks {
        let uri = media_uri(token, sound);
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,URI=\"{uri}\""
        );
    }
    let codecs: Vec<_> = tracks.iter().map(|r| r.codec.as_str()).collect();
    let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},CODECS=\"{}\"", bandwidth(window), codecs.join(","));
    if let Some(first) = tracks.first().filter(|r| r.width > 0) {
        let _ = write!(text, ",RESOLUTION={}x{}", first.width, first.height);
    }
    if tracks.len() > 1 {
        text.push_str(",AUDIO=\"audio\"");
    }
    let _ = writeln!(text, "\n{}", tracks.first().map(|r| media_uri(token, r)).unwrap_or_default());
    text
}

/// Bits per second of the largest fragment for its length.
pub(super) fn bandwidth(window: &[FragmentInfo]) -> u64 {
    window.iter().map(|f| f.size * 8_000 / f.duration_ms.max(1)).max().unwrap_or(0).max(1)
}

pub(crate) async fn media(State(kvs): State<Kvs>, Query(asked): Query<Asked>) -> Answer {
    let (session, now) = (Session::of(&kvs, &asked.session_token)?, kvs.now_ms());
    let track = asked.track_number.ok_or_else(|| KvsError::invalid("TrackNumber is needed."))?;
    let window = session.window(&kvs, now)?;
    let first = window.first().ok_or_else(no_fragments)?;
    // Counted from the session's first fragment, so that both grow as fragments leave at the front. Fragments that
    // failed have numbers, too: where one is missing, the count has a gap.
    let place = (session.anchor(), first.number);
    let sequence = first.number.counter().saturating_sub(session.anchor().counter());
    let breaks = kvs.store().breaks(&session.stream()?, place, &|a, b| session.breaks(a, b))?;
    let counted = Counted { sequence, breaks, complete: session.complete(now) };
    playlist(media_playlist(&asked.session_token, track, &session, &window, &counted))
}

/// Where the window stands in the session.
struct Counted {
    sequence: u64,
    breaks: u64,
    complete: bool,
}

fn media_playlist(
    token: &str,
    track: u64,
    session: &Session,
    window: &[FragmentInfo],
    counted: &Counted,
) -> String {
    let longest = window.iter().map(|f| f.duration_ms.div_ceil(1000)).max().unwrap_or(1).max(1);
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{longest}\n");
    let _ = writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", counted.sequence);
    let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", counted.breaks);
    if session.mode == Mode::OnDemand {
        text.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n");
    }
    let query = format!("SessionToken={token}&TrackNumber={track}&FragmentNumber=");
    let mut before: Option<&FragmentInfo> = None;
    for fragment in window {
        let breaks = before.is_some_and(|before| session.breaks(before, fragment));
        if breaks {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if before.is_none_or(|before| before.header != fragment.header) {
            let number = fragment.number;
            let _ = writeln!(text, "#EXT-X-MAP:URI=\"getMP4InitFragment.mp4?{query}{number}\"");
        }
        if session.tell_times || before.is_none() {
            let at = time::to_iso_8601_ms(session.time_ms(fragment));
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{at}");
        }
        let (s, ms) = (fragment.duration_ms / 1000, fragment.duration_ms % 1000);
        let _ = writeln!(text, "#EXTINF:{s}.{ms:03},\ngetMP4MediaFragment.mp4?{query}{}", fragment.number);
        before = Some(fragment);
    }
    if counted.complete {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}
