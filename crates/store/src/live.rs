//! A fragment that is being written, or waits to be stored: what live readers follow, element by element.

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;

use crate::ingest::SessionHeader;
use crate::number::FragmentNumber;

/// How a fragment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Complete { duration_ms: u32 },
    Dropped,
}

#[derive(Debug, Default)]
struct Body {
    chunks: Vec<Bytes>,
    bytes: u64,
    end: Option<End>,
}

/// Written by one session, read by any number of readers, each at its own pace.
#[derive(Debug)]
pub(crate) struct LiveFragment {
    pub(crate) number: FragmentNumber,
    pub(crate) producer_ms: u64,
    pub(crate) header: Arc<SessionHeader>,
    body: Mutex<Body>,
    contact: OnceLock<String>,
}

/// What a reader has not seen yet.
pub(crate) struct News {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) end: Option<End>,
}

/// Chunks a reader takes at once: some kilobytes of sound, and never a whole long fragment while the lock is held.
const CHUNKS_AT_ONCE: usize = 64;

impl LiveFragment {
    pub(crate) fn new(number: FragmentNumber, producer_ms: u64, header: Arc<SessionHeader>) -> Self {
        Self { number, producer_ms, header, body: Mutex::default(), contact: OnceLock::new() }
    }

    fn body(&self) -> std::sync::MutexGuard<'_, Body> {
        self.body.lock().expect("nothing panics while holding it")
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        let mut body = self.body();
        body.bytes += chunk.len() as u64;
        body.chunks.push(chunk);
    }

    /// Says whose it is, which is certain at its end: before [`LiveFragment::finish`].
    pub(crate) fn belongs_to(&self, contact: &str) {
        self.contact.get_or_init(|| contact.to_owned());
    }

    /// Whose it is, if that was said.
    pub(crate) fn contact(&self) -> Option<&str> {
        self.contact.get().map(String::as_str).filter(|contact| !contact.is_empty())
    }

    /// Says how it ended; the first word counts.
    pub(crate) fn finish(&self, end: End) {
        self.body().end.get_or_insert(end);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.body().bytes
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.body().end
    }

    /// What came after the first `seen` chunks; the end only with the last of them.
    pub(crate) fn news(&self, seen: usize) -> News {
        let body = self.body();
        let rest = body.chunks.get(seen..).unwrap_or_default();
        let chunks: Vec<Bytes> = rest.iter().take(CHUNKS_AT_ONCE).cloned().collect();
        let end = body.end.filter(|_| chunks.len() == rest.len());
        News { chunks, end }
    }
}
