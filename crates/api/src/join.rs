//! `POST /v1/rooms/{room}/participants`: one offer, one answer. `docs/reference/join.md` is the page for users.

use std::net::SocketAddr;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, Source};
use antiphon_record::{ContactId, Entered};
use antiphon_shard::{Grants, JoinError, JoinRequest, Joined};
use antiphon_wire::control::{MAX_MESSAGE_BYTES, ParticipantKind, Policy, check_display_name};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use crate::app::App;
use crate::auth::Access;
use crate::body;
use crate::error::ApiError;
use crate::ice;
use crate::metrics::Refused;

/// The longest resume token taken.
const MAX_RESUME_BYTES: usize = 256;

/// Display name, percent-encoded UTF-8.
pub(crate) const NAME: HeaderName = HeaderName::from_static("antiphon-name");
/// JSON `Policy`.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("antiphon-policy");
/// Comma list of sources.
pub(crate) const MUTED: HeaderName = HeaderName::from_static("antiphon-muted");
/// Resume token, both ways.
pub(crate) const RESUME: HeaderName = HeaderName::from_static("antiphon-resume");
/// The participant's id, in answers.
pub(crate) const PARTICIPANT: HeaderName = HeaderName::from_static("antiphon-participant");

/// The handler.
pub(crate) async fn join(entry: Entry) -> Result<Response, ApiError> {
    let access = &entry.access;
    let grants = access.grants();
    if !grants.publish && !grants.subscribe {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "The token grants neither `publish` nor `subscribe`. Get one made with at least one of them.",
        ));
    }
    let headers = &entry.headers;
    let request = JoinRequest {
        policy: policy(headers)?,
        muted: muted(headers)?,
        resume: resume(headers)?,
        ..entry.request(access.identity(&entry.app), ParticipantKind::WebRtc, grants)?
    };
    let under = format!("/v1/rooms/{}/participants", access.room);
    entry.enter(request, &under).await
}

/// A request to enter a room with an offer: what all ways in have in common.
pub(crate) struct Entry {
    pub(crate) app: App,
    pub(crate) access: Access,
    peer: SocketAddr,
    headers: HeaderMap,
    body: Body,
}

impl FromRequest<App> for Entry {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let access = Access::from_request_parts(&mut parts, app).await?;
        let peer = *parts.extensions.get().expect("`serve` says with each request whose it is");
        Ok(Self { app: app.clone(), access, peer, headers: parts.headers, body })
    }
}

impl Entry {
    /// A join of this name and nothing special.
    pub(crate) fn request(
        &self,
        id: ParticipantId,
        kind: ParticipantKind,
        grants: Grants,
    ) -> Result<JoinRequest, ApiError> {
        let name = display_name(&self.headers, &self.access)?;
        let (policy, muted) = (Policy::default(), Vec::new());
        Ok(JoinRequest { id, name, kind, grants, policy, muted, resume: None, only: None })
    }

    /// The same request without its body.
    pub(crate) fn again(&self) -> Self {
        let (app, access, headers) = (self.app.clone(), self.access.clone(), self.headers.clone());
        Self { app, access, peer: self.peer, headers, body: Body::empty() }
    }

    /// The request has no body: the server shall offer.
    pub(crate) fn is_empty(&self) -> bool {
        let length = self.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
        length.map_or(!self.headers.contains_key(header::TRANSFER_ENCODING), |l| l == b"0")
    }

    /// Negotiates off the async threads and the shards, enters, and answers with a resource `under` this path.
    pub(crate) async fn enter(self, request: JoinRequest, under: &str) -> Result<Response, ApiError> {
        let Self { app, access: Access { room, claims, .. }, peer, headers, body } = self;
        let contact = claims.contact;
        let (is_player, resumes) = (request.kind == ParticipantKind::Whep, request.resume.is_some());
        let _place = app.admit_join(peer.ip(), &room)?;
        let sdp = body::sdp(&headers, body, app.config().max_body_bytes).await?;
        let (shards, name) = (app.shards().clone(), room.clone());
        let prepared = negotiate(&app, move || shards.prepare(&name, &sdp, request)).await?;
        let joined = app.shards().join(prepared).await?;
        if let Some(recorder) = app.recorder().filter(|_| !is_player) {
            recorder.entered(&room, &joined.id, entered(contact.as_ref(), resumes));
        }
        tracing::debug!(%room, participant = %joined.id, "joined");
        Ok(created(&app, &joined, &format!("{under}/{}", joined.id)))
    }

    /// Makes an offer of ours and keeps it. Gives its text and its entity tag.
    pub(crate) async fn offer(self, request: JoinRequest) -> Result<(String, String), ApiError> {
        let Self { app, access: Access { room, .. }, peer, .. } = self;
        let _place = app.admit_join(peer.ip(), &room)?;
        let shards = app.shards().clone();
        let offered = negotiate(&app, move || shards.offer(&room, request)).await?;
        let said = (offered.text().to_owned(), offered.ice_session().to_owned());
        if app.offers().put(Instant::now(), offered) {
            return Ok(said);
        }
        app.metrics().refused(Refused::Offers);
        Err(ApiError::new(
            ErrorKind::Overloaded,
            "Too many offers wait for answers. Try again in some seconds.",
        ))
    }
}

/// As whom somebody enters, for the recorder.
fn entered(contact: Option<&ContactId>, resumes: bool) -> Entered<'_> {
    match contact {
        Some(contact) => Entered::As(contact),
        None if resumes => Entered::Again,
        None => Entered::Anew,
    }
}

/// Does what costs milliseconds, on a blocking thread and in turn.
pub(crate) async fn negotiate<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, JoinError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = app.negotiating().acquire_owned().await.map_err(|_| internal())?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    let done = done.await.map_err(|e| {
        tracing::error!(error = %e, "negotiation panicked");
        internal()
    })?;
    Ok(done?)
}

fn internal() -> ApiError {
    ApiError::new(ErrorKind::Internal, "The server failed here; its log says how. Try again.")
}

/// 201 with the answer.
pub(crate) fn created(app: &App, joined: &Joined, location: &str) -> Response {
    let text = |s: &str| HeaderValue::from_str(s).expect("ids and tokens are visible ASCII");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(body::SDP)),
        (header::LOCATION, text(location)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (PARTICIPANT, text(joined.id.as_str())),
        (RESUME, text(&joined.resume_token)),
        (header::ETAG, ice::entity_tag(&joined.ice_session)),
        (ice::ACCEPT_PATCH, HeaderValue::from_static(ice::SDPFRAG)),
    ];
    let mut response = (StatusCode::CREATED, headers, joined.answer.clone()).into_response();
    ice::add_links(response.headers_mut(), &app.config().ice_servers, joined.id.as_str());
    response
}

/// A header's text, if it is there.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let read = |v: &'a HeaderValue| {
        v.to_str()
            .map_err(|_| ApiError::bad_request(format!("The header `{name}` has other than ASCII text.")))
    };
    headers.get(name).map(read).transpose()
}

/// The name of the header, else of the token, else its identity.
pub(crate) fn display_name(headers: &HeaderMap, access: &Access) -> Result<String, ApiError> {
    let Some(name) = named(headers)? else {
        let claims = &access.claims;
        let identity = || claims.sub.as_ref().map(|s| s.as_str().to_owned());
        let name = claims.name.clone().or_else(identity).unwrap_or_default();
        return Ok(if check_display_name(&name).is_ok() { name } else { String::new() });
    };
    Ok(name)
}

/// The name of the header.
fn named(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("The header `{NAME}` is wrong: {why}."));
    let Some(encoded) = text(headers, &NAME)? else { return Ok(None) };
    let name = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| bad("it is not percent-encoded UTF-8 (encodeURIComponent makes that)".into()))?;
    check_display_name(&name).map_err(|e| bad(e.to_string()))?;
    Ok(Some(name.trim().to_owned()))
}

/// Reads every header that a join may have: what the fuzz target calls.
pub(crate) fn read_all(headers: &HeaderMap) {
    let name = named(headers);
    assert!(!matches!(name, Ok(Some(name)) if check_display_name(&name).is_err()));
    if let Ok(policy) = policy(headers) {
        assert!(policy.check().is_ok());
    }
    if let Ok(muted) = muted(headers) {
        assert!(muted.len() <= Source::ALL.len());
    }
    let _ = resume(headers);
}

fn policy(headers: &HeaderMap) -> Result<Policy, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("The header `{POLICY}` is wrong: {why}."));
    let Some(json) = text(headers, &POLICY)? else { return Ok(Policy::default()) };
    if json.len() > MAX_MESSAGE_BYTES {
        return Err(bad("it is too long".into()));
    }
    let policy: Policy = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    policy.check().map_err(|e| bad(e.to_string()))?;
    Ok(policy)
}

fn muted(headers: &HeaderMap) -> Result<Vec<Source>, ApiError> {
    let mut sources = Vec::new();
    let words = text(headers, &MUTED)?.unwrap_or_default().split(',').map(str::trim);
    for word in words.filter(|w| !w.is_empty()) {
        let source = Source::ALL.into_iter().find(|s| s.as_str() == word).ok_or_else(|| {
            ApiError::bad_request(format!(
                "The header `{MUTED}` lists sources: microphone, camera, screen, screen_audio."
            ))
        })?;
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    Ok(sources)
}

fn resume(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    match text(headers, &RESUME)? {
        Some(token) if token.is_empty() || token.len() > MAX_RESUME_BYTES => {
            Err(ApiError::bad_request(format!("The header `{RESUME}` is not a token of this server.")))
        }
        token => Ok(token.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn muted_lists_sources() {
        assert_eq!(muted(&HeaderMap::new()).unwrap(), []);
        let list = muted(&with(&MUTED, " camera, microphone,camera,")).unwrap();
        assert_eq!(list, [Source::Camera, Source::Microphone]);
        assert!(muted(&with(&MUTED, "kamera")).is_err());
    }

    #[test]
    fn a_policy_is_json_within_limits() {
        assert_eq!(policy(&with(&POLICY, r#"{"max_height":360}"#)).unwrap().max_height, Some(360));
        for bad in ["{", r#"{"max":1}"#, r#"{"max_height":-1}"#] {
            assert!(policy(&with(&POLICY, bad)).is_err(), "{bad}");
        }
    }
}
