//! Opening, after the index is there: what the journals of earlier runs have of fragments that were not stored becomes fragments,
//! under the numbers they had. Those that were stored after all, or were not to be, are dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};

use crate::error::Error;
use crate::ingest::Ingest;
use crate::journal::{Begin, Found, Left, Scan};
use crate::layout::Flags;
use crate::news::Teller;
use crate::object::Haste;
use crate::persist::{self, Fragment, Kept};
use crate::recover::Problem;
use crate::store::Inner;
use crate::stream::Stream;

/// Fragments that are read, sealed and written at once: a restart waits for them, and each for a disk or a bucket.
const SIDE_BY_SIDE: usize = 16;

fn problem(what: impl fmt::Display) -> Problem {
    Problem { path: "journal".into(), what: what.to_string() }
}

/// Does it; what could not be done now stays where it is for the next time.
pub(crate) async fn run(inner: &Arc<Inner>, now_ms: u64) -> Vec<Problem> {
    let Some(journal) = inner.journal.clone() else { return Vec::new() };
    let looking = journal.clone();
    let scan = match tokio::task::spawn_blocking(move || looking.scan()).await {
        Ok(Ok(scan)) if scan.is_empty() => return Vec::new(),
        Ok(Ok(scan)) => Arc::new(scan),
        Ok(Err(error)) => return vec![problem(error)],
        Err(error) => return vec![problem(error)],
    };
    let lanes = stream::iter(0..scan.lanes.len()).map(|i| lane(inner, &scan, i, now_ms));
    let done: Vec<Result<bool, Error>> = lanes.buffer_unordered(SIDE_BY_SIDE).collect().await;
    let salvaged = done.iter().filter(|done| matches!(done, Ok(true))).count();
    journal.numbers.salvaged.fetch_add(salvaged as u64, Ordering::Relaxed);
    // The store or the key may be there the next time; all else will be as it is now.
    let later = |error: &Error| matches!(error, Error::Storage { .. } | Error::Key(_));
    let unfinished = done.iter().any(|done| done.as_ref().is_err_and(later));
    journal.unfinished.store(unfinished, Ordering::Relaxed);
    tracing::info!(salvaged, of = done.len(), unfinished, "looked through the journal of an earlier run");
    let mut problems: Vec<_> = done.into_iter().filter_map(Result::err).map(problem).collect();
    if !unfinished {
        let removed = tokio::task::spawn_blocking(move || scan.remove()).await;
        problems.extend(removed.ok().and_then(Result::err).map(problem));
    }
    problems
}

/// Whether a fragment was made of it.
async fn lane(inner: &Arc<Inner>, scan: &Arc<Scan>, which: usize, now_ms: u64) -> Result<bool, Error> {
    let left: &Left = &scan.lanes[which];
    // A stream that was deleted: its key is gone too.
    let Some(stream) = inner.streams().by_uid.get(&left.uid()).cloned() else { return Ok(false) };
    if !stream.state().active() || stream.state().record.retention_h == 0 {
        return Ok(false);
    }
    let key = inner.data_key(&stream, left.key_id()).await?;
    let reading = scan.clone();
    let read = tokio::task::spawn_blocking(move || reading.read(&reading.lanes[which], &key)).await;
    let Some(Found { begin, media, ended }) = read.ok().flatten() else { return Ok(false) };
    if !wanted(&stream, &begin, now_ms) || ended {
        return Ok(false);
    }
    let rules = &inner.config.rules;
    let sealed = match Ingest::salvage(rules, &begin.header, begin.contact.clone(), &media) {
        Ok(Some(sealed)) => sealed,
        Ok(None) => return Ok(false),
        Err(fault) => {
            tracing::warn!(%fault, stream = %stream.uid, "what the journal has of a fragment is no document");
            let path = inner.layout.stream(stream.uid).to_string();
            return Err(Error::Damaged { path, what: "a fragment that the journal has" });
        }
    };
    let fragment = Fragment {
        number: begin.number,
        producer_ms: begin.producer_ms,
        flags: begin.flags.and(Flags::SALVAGED),
        header: &begin.header,
        sealed: &sealed,
    };
    let kept = persist::store(inner, &stream, &fragment, Haste::Urgent, Teller::tell_early).await;
    stream.wake();
    kept.map(|kept| matches!(kept, Kept::Stored))
}

/// Whether a fragment is neither stored nor past its retention. Its number is not given again in any case.
fn wanted(stream: &Stream, begin: &Begin, now_ms: u64) -> bool {
    let mut state = stream.state();
    state.next_counter = state.next_counter.max(begin.number.counter() + 1);
    state.last_server_ms = state.last_server_ms.max(begin.number.server_ms());
    state.index.get(begin.number).is_none() && !state.record.expired(begin.number.server_ms(), now_ms)
}
