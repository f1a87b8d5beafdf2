//! Retention: what is past it goes, from the index first, then from the storage. Also finishes deletions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::layout::Kind;
use crate::record::Status;
use crate::store::Inner;
use crate::stream::Stream;

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Fragments removed.
    pub fragments: u64,
    /// Streams whose deletion was finished.
    pub streams: u64,
    /// Streams for which the storage failed; the next sweep tries again.
    pub failed: u64,
}

pub(crate) async fn run(inner: &Arc<Inner>, now_ms: u64) -> Swept {
    let mut swept = Swept::default();
    if inner.journal.as_ref().is_some_and(|journal| journal.unfinished.load(Ordering::Relaxed)) {
        for problem in crate::salvage::run(inner, now_ms).await {
            tracing::warn!(%problem, "salvaging failed");
            swept.failed += 1;
        }
    }
    let streams: Vec<_> = inner.streams().by_uid.values().cloned().collect();
    for stream in streams {
        let result = if stream.state().record.status == Status::Deleting {
            let _admin = inner.admin.lock().await;
            inner.finish_deletion(&stream).await.map(|()| swept.streams += 1)
        } else {
            let _admin = inner.admin.lock().await;
            expire(inner, &stream, now_ms).await.map(|removed| swept.fragments += removed)
        };
        if let Err(error) = result {
            tracing::warn!(%error, stream = %stream.uid, "sweeping failed");
            swept.failed += 1;
        }
    }
    inner.counters.swept(swept.failed, now_ms);
    swept
}

/// Removes what is past its retention; the caller holds `admin`.
pub(crate) async fn expire(inner: &Inner, stream: &Stream, now_ms: u64) -> Result<u64, Error> {
    let empties = {
        let mut state = stream.state();
        state.trim_memory(inner.config.memory_ms, inner.config.memory_bytes, now_ms);
        state.index.last().is_some_and(|last| state.expired(last, now_ms))
    };
    if empties {
        inner.note_numbers(stream).await?;
    }
    let mut removed = 0;
    loop {
        let entry = {
            let mut state = stream.state();
            match state.index.first().copied() {
                Some(first) if state.expired(&first, now_ms) => state.index.remove(first.number),
                _ => None,
            }
        };
        let Some(entry) = entry else { break };
        if let Err(error) = inner.objects.delete(&inner.layout.fragment(stream.uid, &entry)).await {
            // The next sweep finds it again; readers look at its time themselves.
            stream.state().index.insert(entry);
            return Err(error);
        }
        inner.counters.removed(entry.size.into());
        inner.counters.expired();
        stream.state().headers_due = true;
        removed += 1;
    }
    if stream.state().headers_due {
        headers(inner, stream).await?;
    }
    Ok(removed)
}

impl Inner {
    /// Before the newest fragment goes: the listing will no longer tell which numbers were given. The caller holds `admin`.
    pub(crate) async fn note_numbers(&self, stream: &Stream) -> Result<(), Error> {
        let (next, last_ms) = {
            let state = stream.state();
            (state.next_counter, state.last_server_ms)
        };
        let change = |record: &mut crate::record::Record| {
            (record.next_counter, record.last_server_ms) = (next, last_ms);
            Ok(())
        };
        self.change(stream, false, change).await
    }
}

/// Removes headers that no fragment needs any more.
pub(crate) async fn headers(inner: &Inner, stream: &Stream) -> Result<(), Error> {
    // A session whose fragment is being stored may be about to need one.
    let _gate = stream.gate.write().await;
    // What fails here the next sweep does.
    stream.state().headers_due = true;
    let folder = object_store::path::Path::from(format!("{}/hdr", inner.layout.stream(stream.uid)));
    for object in inner.objects.list(&folder).await? {
        if let Kind::Header(_, id) = inner.layout.kind(&object.path)
            && !stream.state().index.uses_header(id)
        {
            inner.objects.delete(&object.path).await?;
        }
    }
    stream.state().headers_due = false;
    Ok(())
}
