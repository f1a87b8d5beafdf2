//! `PATCH` on a session's resource: candidates and ICE restarts (RFC 9725, 4.3; the same in draft-ietf-wish-whep-04, and on
//! `/v1/rooms/{room}/participants/{id}`), and the header fields that say which ICE servers there are (RFC 9725, 4.6).

use antiphon_base::ErrorKind;
use antiphon_shard::{IceError, IceMatch, IceRequest, IceUpdate};
use antiphon_wire::sdpfrag::{Fragment, MAX_BYTES};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::{Resource, unix_now};
use crate::body;
use crate::error::ApiError;
use crate::ice_server::IceServer;

/// Media type of ICE fragments (RFC 8840, 9.1).
pub(crate) const SDPFRAG: &str = "application/trickle-ice-sdpfrag";
/// RFC 5789, 3.1.
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// Linked Data Platform 1.0, 7.1.
pub(crate) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Entity tags of an `If-Match` that are looked at: one is what is meant to stand there.
const MAX_TAGS: usize = 8;

/// The handler of `PATCH` with a fragment.
pub(crate) async fn patch(
    State(app): State<App>,
    resource: Resource,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    body::require_type(&headers, SDPFRAG)?;
    fragment(&app, &resource, &headers, body).await
}

/// Takes a fragment whose type has been looked at.
pub(crate) async fn fragment(
    app: &App,
    resource: &Resource,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let session = session(headers)?;
    let text = body::text(headers, body, MAX_BYTES).await?;
    let fragment = Fragment::parse(&text)
        .map_err(|e| ApiError::new(ErrorKind::BadSdp, format!("The SDP fragment was refused: {e}.")))?;
    let remote = fragment.ufrag.clone().zip(fragment.pwd.clone());
    let request = IceRequest { session, remote };
    let update = app.shards().ice(&resource.room, &resource.participant, request).await;
    match update.map_err(|e| refused(e, resource))? {
        IceUpdate::Unchanged => Ok(StatusCode::NO_CONTENT.into_response()),
        IceUpdate::Restarted(ours) => {
            let answer = Fragment {
                ufrag: Some(ours.ufrag.clone()),
                pwd: Some(ours.pwd),
                candidates: ours.candidates,
                end_of_candidates: true,
                group: fragment.group,
                media: Some(fragment.media.unwrap_or_else(|| "audio 9 UDP/TLS/RTP/SAVPF 0".into())),
                mid: fragment.mid,
            };
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(SDPFRAG)),
                (header::ETAG, entity_tag(&ours.ufrag)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            Ok((headers, answer.to_lite_text()).into_response())
        }
    }
}

/// A strong entity tag (RFC 9110, 8.8.3).
pub(crate) fn entity_tag(session: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{session}\"")).expect("user fragments are visible ASCII")
}

/// Which ICE session the request is about. Weak tags match nothing (RFC 9110, 13.1.1).
fn session(headers: &HeaderMap) -> Result<IceMatch, ApiError> {
    let mut tags = Vec::new();
    let values = headers.get_all(header::IF_MATCH);
    let mut any = false;
    for tag in values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).take(MAX_TAGS) {
        let tag = tag.trim();
        any |= tag == "*";
        tags.extend(tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(str::to_owned));
    }
    if any {
        return Ok(IceMatch::Any);
    }
    if values.iter().next().is_none() {
        return Err(ApiError::http(
            StatusCode::PRECONDITION_REQUIRED,
            "Send `If-Match` with the session's entity tag (the header `ETag` of the answer), or `*` to restart ICE.",
        ));
    }
    Ok(IceMatch::Tags(tags))
}

/// Reads `If-Match` of any headers: what the fuzz target calls. Nobody names a session without saying so.
pub(crate) fn read(headers: &HeaderMap) {
    let said = headers.contains_key(header::IF_MATCH);
    match session(headers) {
        Ok(IceMatch::Tags(tags)) => assert!(said && tags.len() <= MAX_TAGS),
        Ok(IceMatch::Any) => assert!(said),
        Err(_) => assert!(!said),
    }
}

fn refused(error: IceError, resource: &Resource) -> ApiError {
    let who = format!("participant {} in room {}", resource.participant, resource.room);
    match error {
        IceError::Unknown => ApiError::new(ErrorKind::NotFound, format!("There is no {who}.")),
        IceError::Gone => {
            ApiError::new(ErrorKind::NotFound, format!("The {who} has left.")).with_status(StatusCode::GONE)
        }
        IceError::NoConnection => ApiError::new(
            ErrorKind::Conflict,
            format!("The connection of {who} is lost: join again with its resume token."),
        ),
        IceError::OtherSession => ApiError::new(
            ErrorKind::Conflict,
            "`If-Match` names another ICE session than the present one: take the `ETag` of the last answer.",
        )
        .with_status(StatusCode::PRECONDITION_FAILED),
        IceError::TooOften => {
            ApiError::new(ErrorKind::RateLimited, "Too many ICE restarts. Try again in some seconds.")
        }
        IceError::Busy => {
            ApiError::new(ErrorKind::Overloaded, "This server is busy; try again in a few seconds.")
        }
    }
}

/// Adds the ICE servers that clients may use, one field each (RFC 9725, 4.6).
pub(crate) fn add_links(headers: &mut HeaderMap, servers: &[IceServer], client: &str) {
    for server in servers.iter().map(|s| s.for_client(unix_now(), client)) {
        for url in &server.urls {
            // What a URI may not contain would end the reference early; the configuration was checked, so nothing is lost.
            if let Ok(value) = HeaderValue::from_str(&link(url, &server)) {
                headers.append(header::LINK, value);
            }
        }
    }
}

fn link(url: &str, server: &IceServer) -> String {
    let mut link = format!("<{url}>; rel=\"ice-server\"");
    if let (Some(username), Some(credential)) = (&server.username, &server.credential)
        && !url.starts_with("stun")
    {
        let (username, credential) = (quoted(username), quoted(credential));
        link += &format!("; username={username}; credential={credential}; credential-type=\"password\"");
    }
    link
}

/// A quoted-string (RFC 9110, 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (header::IF_MATCH, HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn sessions_are_named_by_strong_tags() {
        assert!(session(&HeaderMap::new()).is_err());
        assert_eq!(session(&with(&["*"])).unwrap(), IceMatch::Any);
        let tags = |values| match session(&with(values)).unwrap() {
            IceMatch::Tags(tags) => tags.join(" "),
            IceMatch::Any => panic!("not `*`"),
        };
        assert_eq!(tags(&["\"a\""]), "a");
        assert_eq!(tags(&["\"a\", W/\"b\", \"c\"", "\"d\""]), "a c d");
        assert_eq!(tags(&["a"]), "");
    }

    #[test]
    fn links_say_where_a_turn_server_is() {
        let server = |url: &str| IceServer {
            urls: vec![url.to_owned()],
            username: Some("u".into()),
            credential: Some("p\"w\\".into()),
            ..IceServer::default()
        };
        let mut headers = HeaderMap::new();
        add_links(
            &mut headers,
            &[server("stun:s.example.net"), server("turn:t.example.net?transport=udp")],
            "ada",
        );
        let links: Vec<_> = headers.get_all(header::LINK).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(links[0], "<stun:s.example.net>; rel=\"ice-server\"");
        assert_eq!(
            links[1],
            "<turn:t.example.net?transport=udp>; rel=\"ice-server\"; username=\"u\"; credential=\"p\\\"w\\\\\"; \
             credential-type=\"password\""
        );
    }
}
