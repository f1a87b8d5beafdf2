//! For whoever watches the process: alive, ready, counters.

use antiphon_base::ErrorKind;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::ApiError;

/// `GET /livez`: the process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it takes joins.
pub(crate) async fn ready(State(app): State<App>) -> Result<&'static str, ApiError> {
    if app.draining() {
        return Err(ApiError::new(ErrorKind::Draining, "This server is stopping."));
    }
    Ok("ready\n")
}

/// `GET /metrics`: OpenMetrics text, which Prometheus reads.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], app.metrics().to_text()).into_response()
}
