//! Storing a session's fragments, one after another, by the rules that make an acknowledgement a promise:
//! header and record durable first, then the fragment, then its index entry, then `PERSISTED`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::admin::Arn;
use crate::crypt::{DataKey, MAX_SEALS};
use crate::error::{Error, Limit, StorageFault};
use crate::index::Entry;
use crate::ingest::{FaultKind, Sealed};
use crate::layout::{Flags, HeaderId};
use crate::news::{Persisted, Teller};
use crate::number::FragmentNumber;
use crate::object::{Created, Haste};
use crate::sealed::{self, Plain};
use crate::session::{Ack, AckSender, Finished, Job};
use crate::store::Inner;
use crate::stream::Stream;

/// Behind fragments of a session that come no more often nothing waits; those of a call come once a second.
const RARE_MS: u64 = 500;

/// A complete fragment.
pub(crate) struct Fragment<'a> {
    pub(crate) number: FragmentNumber,
    pub(crate) producer_ms: u64,
    pub(crate) flags: Flags,
    /// Its session's header.
    pub(crate) header: &'a Bytes,
    pub(crate) sealed: &'a Sealed,
}

/// What became of a fragment.
pub(crate) enum Kept {
    /// Durable and listed.
    Stored,
    /// The stream has no retention: in memory only.
    InMemory,
}

/// Stores what comes until the session's end.
pub(crate) async fn run(
    inner: Arc<Inner>,
    stream: Arc<Stream>,
    mut jobs: mpsc::Receiver<Job>,
    acks: AckSender,
) -> Finished {
    let mut finished = Finished { first: None, last: None, kept: 0, failed: 0 };
    let mut last_ms: Option<u64> = None;
    while let Some(job) = jobs.recv().await {
        let (of, now_ms) = (job.of, job.now_ms);
        let fragment = Fragment {
            number: of.number,
            producer_ms: job.live.producer_ms,
            flags: job.flags,
            header: &job.header.bytes,
            sealed: &job.sealed,
        };
        // A producer that sends what it has had for long would be held up by each of its many fragments; at its end somebody waits.
        let rare = last_ms.replace(now_ms).is_none_or(|last| now_ms >= last + RARE_MS);
        let alone = jobs.is_empty() && !jobs.is_closed();
        let haste = if rare && alone { Haste::Patient } else { Haste::Urgent };
        let result = store(&inner, &stream, &fragment, haste, Teller::tell).await;
        inner.objects.note(result.as_ref().map(|_| ()), now_ms);
        match result {
            Ok(kept) => {
                finished.first.get_or_insert(of.number);
                finished.last = Some(of.number);
                finished.kept += 1;
                if matches!(kept, Kept::Stored) {
                    acks.send(Ack::Persisted(of));
                }
            }
            Err(error) => {
                finished.failed += 1;
                inner.counters.failed(&error);
                stream.state().live.remove(&of.number);
                tracing::warn!(%error, stream = %stream.uid, "a fragment was not stored");
                acks.send(Ack::Error { of: Some(of), kind: FaultKind::from(&error) });
            }
        }
        stream.wake();
    }
    finished
}

/// Makes a fragment durable and lists it; `tell` tells others.
pub(crate) async fn store(
    inner: &Arc<Inner>,
    stream: &Arc<Stream>,
    fragment: &Fragment<'_>,
    haste: Haste,
    tell: impl Fn(&Teller, &dyn Fn() -> Persisted),
) -> Result<Kept, Error> {
    if !retained(stream)? {
        return Ok(Kept::InMemory);
    }
    let since = stream.state().record.dek_since;
    if fragment.number.counter().saturating_sub(since) >= MAX_SEALS {
        inner.rotate(stream).await?;
    }
    // Whoever unwraps it may be slow, and those who wait for the gate are in the way of others.
    let key_id = stream.state().record.dek;
    inner.data_key(stream, key_id).await?;
    // From here until the index knows the fragment, neither deletion nor sweeping comes between.
    let _gate = stream.gate.read().await;
    if !retained(stream)? {
        return Ok(Kept::InMemory);
    }
    let size = fragment.sealed.media.iter().map(|piece| piece.len() as u64).sum();
    room(inner, stream, size)?;
    let key_id = stream.state().record.dek;
    let key = inner.data_key(stream, key_id).await?;
    let header = header(inner, stream, fragment.header, &key, key_id).await?;
    let Sealed { contact, media, .. } = fragment.sealed;
    let entry = Entry {
        number: fragment.number,
        producer_ms: fragment.producer_ms,
        duration_ms: fragment.sealed.duration_ms,
        header,
        flags: fragment.flags,
        whose: inner.whose(stream.uid, contact),
        size: u32::try_from(size).expect("rules keep fragments far below 4 GB"),
        damaged: false,
        aside: false,
    };
    let plain = Plain { uid: stream.uid, entry: &entry, contact, media };
    let object = sealed::seal_fragment(&key, key_id, &plain);
    let path = inner.layout.fragment(stream.uid, &entry);
    if inner.objects.create_media(&path, object.into(), haste).await? == Created::Exists {
        let message = format!("{path} is there already");
        return Err(Error::Storage { fault: StorageFault::Unavailable, message });
    }
    {
        let mut state = stream.state();
        state.index.insert(entry);
        state.live.remove(&entry.number);
    }
    inner.counters.stored(size);
    tell(&inner.teller, &|| persisted(inner, stream, contact, &entry));
    Ok(Kept::Stored)
}

/// What others are told of it.
fn persisted(inner: &Inner, stream: &Stream, contact: &str, entry: &Entry) -> Persisted {
    let record = &stream.state().record;
    Persisted {
        stream: record.name.clone(),
        arn: Arn::new(&inner.config.region, &inner.config.account, record),
        contact: contact.to_owned(),
        number: entry.number,
        producer_ms: entry.producer_ms,
        duration_ms: entry.duration_ms,
        bytes: entry.size.into(),
    }
}

/// Whether the stream keeps what it gets.
fn retained(stream: &Stream) -> Result<bool, Error> {
    let state = stream.state();
    if !state.active() {
        return Err(Error::StreamNotFound);
    }
    Ok(state.record.retention_h > 0)
}

/// Checks the quotas.
fn room(inner: &Inner, stream: &Stream, size: u64) -> Result<(), Error> {
    let over = |used: u64, max: u64| max > 0 && used + size > max;
    let config = &inner.config;
    if over(stream.state().index.bytes(), config.max_stream_bytes) {
        return Err(Limit::StreamBytes.into());
    }
    if over(inner.counters.bytes(), config.max_total_bytes) {
        return Err(Limit::TotalBytes.into());
    }
    Ok(())
}

/// Makes the session's header durable, unless a fragment that is kept uses it already.
async fn header(
    inner: &Inner,
    stream: &Stream,
    bytes: &Bytes,
    key: &DataKey,
    key_id: u32,
) -> Result<HeaderId, Error> {
    let name = key.name(bytes);
    let id = HeaderId::parse(&name).expect("32 hexadecimal digits");
    if stream.state().index.uses_header(id) {
        return Ok(id);
    }
    let path = inner.layout.header(stream.uid, id);
    let object = sealed::seal_small(key, key_id, &path, bytes);
    // One that exists was sealed from the same bytes, with another nonce.
    inner.objects.create_media(&path, object.into(), Haste::Urgent).await?;
    stream.state().cache_header(id, bytes.clone());
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Timecodes;
    use crate::key::{LocalKeys, Secret};
    use crate::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
    use crate::record::Record;
    use crate::{Backend, Config, NewStream, Store, StreamRef};

    fn pcm(timecode: u64) -> Vec<u8> {
        [cluster_start(timecode), simple_block(1, 0, &[1; 1024])].concat()
    }

    fn head() -> Vec<u8> {
        let track = PcmTrack { number: 1, name: "v".into(), rate_hz: 8_000, label: PcmLabel::Pcm };
        pcm_header("t", &[track], &[])
    }

    async fn store(backend: Backend) -> (Store, StreamRef) {
        let keys = Arc::new(LocalKeys::new("default", Secret([7; 32])));
        let (store, _) = Store::open(backend, keys, Config::default(), 1_000).await.unwrap();
        let new = NewStream { name: "s".into(), retention_h: 24, ..NewStream::default() };
        store.create_stream(new, 1_000).await.unwrap();
        (store, StreamRef::Name("s".into()))
    }

    #[tokio::test]
    async fn those_that_come_rarely_wait_for_others() {
        let root = tempfile::tempdir().unwrap();
        let (store, name) = store(crate::object::Objects::grouped(root.path())).await;
        let (mut session, mut acks) = store.open_session(&name, Timecodes::Absolute, 1_000).await.unwrap();
        session.push(&head(), 1_000).await.unwrap();
        let mut grouped = Vec::new();
        for now_ms in [1_000, 2_000, 2_100, 2_599, 3_099, 3_600] {
            session.push(&pcm(now_ms), now_ms).await.unwrap();
            session.flush(now_ms).await.unwrap();
            while !matches!(acks.recv().await.unwrap(), Ack::Persisted(_)) {}
            grouped.push(store.health().grouped);
        }
        assert_eq!(grouped, [1, 2, 2, 2, 3, 4]);
        // What is behind others, whenever it comes.
        let late = [pcm(9_000), pcm(9_064), pcm(9_128)].concat();
        session.push(&late, 9_000).await.unwrap();
        assert_eq!(session.finish(true, 9_000).await.kept, 9);
        assert!(store.health().grouped <= 5);
    }

    #[tokio::test]
    async fn a_data_key_that_has_sealed_enough_is_replaced() {
        let (store, name) = store(Backend::memory()).await;
        let stream = store.0.find(&name).unwrap();
        let Record { dek: first, dek_since: since, .. } = stream.state().record.clone();
        stream.state().next_counter = since + MAX_SEALS - 1;
        let mut keys_of = Vec::new();
        for i in 0..2 {
            let (mut session, _acks) = store.open_session(&name, Timecodes::Absolute, 1_000).await.unwrap();
            session.push(&[head(), pcm(1_000 + i * 64)].concat(), 1_000).await.unwrap();
            assert_eq!(session.finish(true, 1_000).await.kept, 1);
            keys_of.push(stream.state().record.dek);
        }
        assert_eq!(keys_of, [first, first + 1], "the last that it may seal, and the first that it may not");
        assert_eq!(stream.state().record.dek_since, since + MAX_SEALS + 1);
    }
}
