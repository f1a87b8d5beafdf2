//! The web client: files that `server` has in its binary, with their content types, caching and security headers.

use antiphon_base::ErrorKind;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::ApiError;

/// One file of the web client.
#[derive(Debug, Clone, Copy)]
pub struct WebFile {
    /// Below the root, without a leading slash: `index.html`, `assets/index-1a2b.js`.
    pub path: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

/// All files of the web client.
pub type WebFiles = &'static [WebFile];

/// What the page may load and whom it may talk to. A room's page may be opened against another node: `connect-src`
/// has the WebSocket schemes for that. Styles in attributes are how level meters move.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
    img-src 'self' data: blob:; media-src 'self' blob: mediastream:; worker-src 'self' blob:; font-src 'self' data:; \
    style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const PERMISSIONS_POLICY: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(), usb=()";
/// Vite names these by their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// `GET /` and `GET /r/{room}`.
pub(crate) async fn index(State(app): State<App>) -> Result<Response, ApiError> {
    find(app.web(), "index.html").map(respond).ok_or_else(not_found)
}

/// Everything else: a file of the client, or a typed 404.
pub(crate) async fn file(State(app): State<App>, request: Request) -> Response {
    let found = find(app.web(), request.uri().path().trim_start_matches('/'));
    match found {
        Some(file) if [Method::GET, Method::HEAD].contains(request.method()) => respond(file),
        Some(_) => ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "Files can only be read.").into_response(),
        None => not_found().into_response(),
    }
}

fn find(files: WebFiles, path: &str) -> Option<&'static WebFile> {
    files.iter().find(|f| f.path == path)
}

fn not_found() -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        "There is nothing at this path. docs/reference/http.md lists what there is.",
    )
}

fn respond(file: &'static WebFile) -> Response {
    let mut response = file.bytes.into_response();
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    let hashed = file.path.starts_with("assets/");
    set(header::CONTENT_TYPE, content_type(file.path));
    set(header::CACHE_CONTROL, if hashed { IMMUTABLE } else { "no-cache" });
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY);
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "jpg" | "jpeg" => "image/jpeg",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
