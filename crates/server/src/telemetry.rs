//! Logs on standard error: for people, or one JSON object per line.

use anyhow::anyhow;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{Log, LogFormat};

/// Starts logging; call it once.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|e| anyhow!("log.filter: {e}"))?;
    let filter = filter.and(filter_fn(may_be_logged));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Human => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry().with(layer.with_ansi(ansi).with_filter(filter)).try_init()
        }
        LogFormat::Json => registry().with(layer.json().flatten_event(true).with_filter(filter)).try_init(),
    };
    started.map_err(|e| anyhow!("logging: {e}"))
}

/// Level trace is for our own crates, whatever the filter says: what others print there is not written with secrets in
/// mind (str0m's ICE agent prints passwords).
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || metadata.target().starts_with("antiphon")
}
