//! The store: an account's streams, and everything that is done to a stream as a whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::admin::{NewStream, StreamInfo, StreamRef};
use crate::archive::{self, FragmentInfo, FragmentList, Page, Range};
use crate::config::Config;
use crate::crypt::{self, DataKey};
use crate::error::{Error, Limit};
use crate::index::{Clock, Entry};
use crate::ingest::Timecodes;
use crate::journal::Journal;
use crate::key::{KeyProvider, Secret};
use crate::keys::{Account, WrappedKey};
use crate::layout::{Layout, Uid};
use crate::matroska::Header;
use crate::media::{self, Breaks, Media};
use crate::news::{News, Teller};
use crate::number::FragmentNumber;
use crate::object::{Backend, Drained, Health, Objects};
use crate::rate::Bucket;
use crate::read::{Reader, Start};
use crate::recover::{self, Problem};
use crate::salvage;
use crate::sealed;
use crate::session::{Acks, Session};
use crate::stats::{Counters, Stats};
use crate::stream::Stream;
use crate::sweep::{self, Swept};
use crate::whose::Whose;

/// The streams that exist.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) by_uid: BTreeMap<Uid, Arc<Stream>>,
    pub(crate) by_name: BTreeMap<String, Uid>,
    /// The newest creation of one that was deleted.
    deleted_ms: u64,
}

impl Streams {
    pub(crate) fn insert(&mut self, stream: Arc<Stream>) {
        let name = stream.state().record.name.clone();
        self.by_name.insert(name, stream.uid);
        self.by_uid.insert(stream.uid, stream);
    }

    pub(crate) fn remove(&mut self, stream: &Stream) {
        self.by_uid.remove(&stream.uid);
        let state = stream.state();
        self.by_name.remove(&state.record.name);
        self.deleted_ms = self.deleted_ms.max(state.record.created_ms);
    }

    /// When a stream that is made now was created: an ARN is name and time, and that of a deleted stream is nobody else's.
    pub(crate) fn creation(&self, now_ms: u64) -> u64 {
        now_ms.max(self.deleted_ms + 1)
    }
}

pub(crate) struct Inner {
    pub(crate) objects: Objects,
    pub(crate) keys: Arc<dyn KeyProvider>,
    pub(crate) account: Account,
    /// Hides contacts in paths.
    pub(crate) contacts: DataKey,
    pub(crate) layout: Layout,
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    streams: Mutex<Streams>,
    /// Held by what changes records: creation, updates, deletion, rotation.
    pub(crate) admin: tokio::sync::Mutex<()>,
    /// What all producers together may send.
    pub(crate) rate: Mutex<Bucket>,
    pub(crate) teller: Teller,
    pub(crate) journal: Option<Arc<Journal>>,
}

/// An open store. Cloning it is a reference count.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.config.account)
    }
}

impl Store {
    /// Opens an account's streams: lists what is there, finishes what a crash interrupted, and says what it could not
    /// make sense of. Whatever is damaged does not keep the rest from being opened.
    ///
    /// # Errors
    /// The storage does not answer, or the account's key does not open with this provider.
    pub async fn open(
        backend: Backend,
        keys: Arc<dyn KeyProvider>,
        config: Config,
        now_ms: u64,
    ) -> Result<(Self, Vec<Problem>), Error> {
        let short = (1..=32).contains(&config.account.len());
        if !short || !config.account.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::InvalidArgument("account: 1 to 32 letters or digits".into()));
        }
        let (objects, layout) = (Objects::new(backend), Layout::new(&config.account));
        objects.load_spool().await?;
        let listing = objects.survey(&layout).await?;
        let account = Account::load(&objects, keys.as_ref(), &layout, listing.objects == 0).await?;
        let journal = objects.journal().map(|(folder, usable)| {
            Arc::new(Journal::new(folder, usable, config.max_journal_bytes, account.key("journal")))
        });
        let inner = Inner {
            objects,
            keys,
            contacts: Whose::key(&account),
            account,
            layout,
            config,
            counters: Counters::default(),
            streams: Mutex::default(),
            admin: tokio::sync::Mutex::new(()),
            rate: Mutex::default(),
            teller: Teller::default(),
            journal,
        };
        let inner = Arc::new(inner);
        let mut problems = recover::load(&inner, listing, now_ms).await?;
        problems.extend(salvage::run(&inner, now_ms).await);
        Ok((Self(inner), problems))
    }

    /// Makes a stream. It is durable when this returns.
    ///
    /// # Errors
    /// A value that cannot be, a name that is taken, too many streams, a key that does not wrap, the storage.
    pub async fn create_stream(&self, new: NewStream, now_ms: u64) -> Result<StreamInfo, Error> {
        self.0.create(new, now_ms).await
    }

    /// What a stream is.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`].
    pub fn describe(&self, stream: &StreamRef) -> Result<StreamInfo, Error> {
        Ok(self.0.info(&*self.0.find(stream)?))
    }

    /// Streams in the order of their names, behind `after`, with names that begin with `prefix`; at most `max`.
    pub fn list_streams(&self, prefix: &str, after: &str, max: usize) -> Vec<StreamInfo> {
        let streams = self.0.streams();
        let from = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        let names = streams.by_name.range(from).filter(|(name, _)| name.starts_with(prefix));
        let found: Vec<_> = names.take(max).filter_map(|(_, uid)| streams.by_uid.get(uid).cloned()).collect();
        drop(streams);
        found.iter().map(|stream| self.0.info(stream)).collect()
    }

    /// Destroys a stream: its keys first, so that nothing of it can be read from then on, not even from a copy.
    ///
    /// # Errors
    /// No such stream, [`Error::VersionMismatch`] if `version` is not the stream's, the storage. After an error of the
    /// storage the stream stays `Deleting` and [`Store::sweep`] goes on with it.
    pub async fn delete_stream(&self, stream: &StreamRef, version: Option<&str>) -> Result<(), Error> {
        self.0.delete(stream, version).await
    }

    /// Changes for how long fragments are kept, in hours; those past a shorter retention are gone at once.
    ///
    /// # Errors
    /// No such stream, another version, more than 87 600 hours, the storage.
    pub async fn update_retention(
        &self,
        stream: &StreamRef,
        version: &str,
        hours: u32,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.0.update_retention(stream, version, hours, now_ms).await
    }

    /// Changes a stream's media type and device name; `None` leaves one as it is.
    ///
    /// # Errors
    /// No such stream, another version, the storage.
    pub async fn update_stream(
        &self,
        stream: &StreamRef,
        version: &str,
        media_type: Option<String>,
        device_name: Option<String>,
    ) -> Result<(), Error> {
        self.0.update(stream, version, media_type, device_name).await
    }

    /// Sets and removes tags.
    ///
    /// # Errors
    /// No such stream, too many tags, the storage.
    pub async fn tag(
        &self,
        stream: &StreamRef,
        set: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<(), Error> {
        self.0.tag(stream, set, remove).await
    }

    /// A stream's tags.
    ///
    /// # Errors
    /// No such stream.
    pub fn tags(&self, stream: &StreamRef) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.0.find(stream)?.state().record.tags.clone())
    }

    /// Gives a stream a new data key; what is stored stays as it is.
    ///
    /// # Errors
    /// No such stream, the key that wraps it, the storage.
    pub async fn rotate_key(&self, stream: &StreamRef) -> Result<(), Error> {
        self.0.rotate(&*self.0.find(stream)?).await
    }

    /// Begins a producer's session; needs a tokio runtime. With retention, the stream's key is tried first: a session
    /// that could store nothing does not begin.
    ///
    /// # Errors
    /// No such stream, not active, too many sessions, a quota that is used up, the key.
    pub async fn open_session(
        &self,
        stream: &StreamRef,
        timecodes: Timecodes,
        now_ms: u64,
    ) -> Result<(Session, Acks), Error> {
        self.open_session_of(stream, None, timecodes, now_ms).await
    }

    /// The same for a producer that may come again before the end of its session is noticed: `owner` is who it is, and what becomes of
    /// the session's place says [`Session::place`].
    ///
    /// # Errors
    /// As [`Store::open_session`].
    pub async fn open_session_of(
        &self,
        stream: &StreamRef,
        owner: Option<&str>,
        timecodes: Timecodes,
        now_ms: u64,
    ) -> Result<(Session, Acks), Error> {
        let stream = self.0.find(stream)?;
        let (retained, key_id) = {
            let state = stream.state();
            (state.record.retention_h > 0, state.record.dek)
        };
        if retained && stream.state().active() {
            self.0.data_key(&stream, key_id).await?;
            let max = self.0.config.max_total_bytes;
            if max > 0 && self.0.counters.bytes() >= max {
                return Err(Limit::TotalBytes.into());
            }
        }
        Session::start(&self.0, &stream, owner, timecodes, now_ms)
    }

    /// Reads a stream from a start on, live as far as it goes.
    ///
    /// # Errors
    /// No such stream, not active, too many readers.
    pub fn get_media(&self, stream: &StreamRef, start: Start, now_ms: u64) -> Result<Reader, Error> {
        self.get_media_of(stream, None, start, now_ms)
    }

    /// Stored fragments in the order of a clock.
    ///
    /// # Errors
    /// No such stream, no retention, a range before everything kept, a token that is not ours.
    pub fn list_fragments(
        &self,
        stream: &StreamRef,
        range: Option<Range>,
        max: usize,
        token: Option<&str>,
        now_ms: u64,
    ) -> Result<Page, Error> {
        self.list_fragments_of(stream, None, range, (max, token), now_ms)
    }

    /// Stored fragments by their numbers, in the order asked for.
    ///
    /// # Errors
    /// No such stream, no retention.
    pub fn get_fragments(
        &self,
        stream: &StreamRef,
        numbers: Vec<FragmentNumber>,
        now_ms: u64,
    ) -> Result<FragmentList, Error> {
        self.get_fragments_of(stream, None, numbers, now_ms)
    }

    /// The header of a stored fragment's session; `None`: no such fragment.
    ///
    /// # Errors
    /// No such stream, the stream's key, the storage, damage.
    pub async fn header(&self, stream: &StreamRef, number: FragmentNumber) -> Result<Option<Header>, Error> {
        media::header(&self.0, &*self.0.find(stream)?, number).await
    }

    /// A stored fragment taken apart; `None`: no such one.
    ///
    /// # Errors
    /// No such stream, the stream's key, the storage, damage.
    pub async fn media(
        &self,
        stream: &StreamRef,
        number: FragmentNumber,
        now_ms: u64,
    ) -> Result<Option<Media>, Error> {
        media::read(&self.0, &*self.0.find(stream)?, number, now_ms).await
    }

    /// The newest stored fragments by a clock, none that begins before `since_ms`, at most `max`; oldest first.
    ///
    /// # Errors
    /// No such stream, no retention.
    pub fn newest_fragments(
        &self,
        stream: &StreamRef,
        clock: Clock,
        since_ms: u64,
        max: usize,
        now_ms: u64,
    ) -> Result<Vec<FragmentInfo>, Error> {
        let stream = self.0.find(stream)?;
        archive::retained(&stream)?;
        Ok(media::newest(&stream, clock, since_ms, max, now_ms))
    }

    /// How often what is stored breaks between one fragment and another.
    ///
    /// # Errors
    /// No such stream.
    pub fn breaks(
        &self,
        stream: &StreamRef,
        (from, to): (FragmentNumber, FragmentNumber),
        breaks: &Breaks<'_>,
    ) -> Result<u64, Error> {
        Ok(media::breaks(&*self.0.find(stream)?, from, to, breaks))
    }

    /// What is known about one fragment that is stored.
    ///
    /// # Errors
    /// No such stream.
    pub fn fragment(
        &self,
        stream: &StreamRef,
        number: FragmentNumber,
    ) -> Result<Option<FragmentInfo>, Error> {
        Ok(self.0.find(stream)?.state().index.get(number).map(FragmentInfo::from))
    }

    /// Removes what is past its retention and finishes deletions. Meant to be called once a minute; what it could not
    /// do it does the next time.
    pub async fn sweep(&self, now_ms: u64) -> Swept {
        sweep::run(&self.0, now_ms).await
    }

    /// Gives an object store that was away what waited for it. Meant to be called every few seconds; costs nothing while
    /// nothing waits.
    pub async fn drain_spool(&self) -> Drained {
        self.0.objects.drain().await
    }

    /// Writes to the journal what has come since the last time, and makes it durable; nothing without a journal. Blocks on the
    /// disk: for a thread of its own, which calls it every 200 ms (250 ms between two are promised; what is later is counted).
    pub fn sync_journal(&self, now_ms: u64) {
        if let Some(journal) = &self.0.journal {
            journal.sync(now_ms);
        }
    }

    /// Each fragment that becomes durable from now on. There is one reader: `None` if there is one already.
    pub fn news(&self) -> Option<News> {
        self.0.teller.news()
    }

    /// How the storage does.
    pub fn health(&self) -> Health {
        self.0.objects.health()
    }

    /// Name of the key that protects streams which name none.
    pub fn default_key(&self) -> &str {
        self.0.keys.default_key()
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let mut stats = self.0.counters.stats();
        stats.news_dropped = self.0.teller.dropped();
        stats.key_server = self.0.keys.server();
        if let Some(journal) = &self.0.journal {
            journal.tell(&mut stats);
        }
        let all: Vec<_> = self.0.streams().by_uid.values().cloned().collect();
        stats.streams = all.len() as u64;
        for stream in all {
            let state = stream.state();
            stats.sessions += state.places.count() as u64;
            stats.readers += state.readers as u64;
            stats.fragments += state.index.len() as u64;
            stats.reader_lag_ms = stats.reader_lag_ms.max(state.reader_lag_ms());
        }
        stats
    }
}

/// The part of a data key that is for fragments and headers.
fn fragments_key(uid: Uid, secret: &Secret) -> Arc<DataKey> {
    Arc::new(DataKey::new(secret, &format!("fragments {uid}")))
}

/// A data key that is not stored yet.
pub(crate) struct NewKey {
    pub(crate) wrapped: WrappedKey,
    pub(crate) path: object_store::path::Path,
    pub(crate) key: Arc<DataKey>,
}

impl Inner {
    pub(crate) fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().expect("nothing panics while holding it")
    }

    pub(crate) fn find(&self, stream: &StreamRef) -> Result<Arc<Stream>, Error> {
        let name = match stream {
            StreamRef::Name(name) => name.as_str(),
            StreamRef::Arn(arn) => arn.name(),
        };
        let streams = self.streams();
        let uid = streams.by_name.get(name);
        let found = uid.and_then(|uid| streams.by_uid.get(uid)).cloned().ok_or(Error::StreamNotFound)?;
        drop(streams);
        match stream {
            // A stream that was deleted and made again is another one.
            StreamRef::Arn(arn) if found.state().record.created_ms != arn.created_ms() => {
                Err(Error::StreamNotFound)
            }
            _ => Ok(found),
        }
    }

    /// The key of a stream's record.
    pub(crate) fn record_key(&self, uid: Uid) -> DataKey {
        self.account.key(&format!("record {uid}"))
    }

    /// A stream's data key, unwrapped once.
    pub(crate) async fn data_key(&self, stream: &Stream, id: u32) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = stream.state().keys.get(&id) {
            return Ok(key.clone());
        }
        let path = self.layout.dek(stream.uid, id);
        let wrapped = WrappedKey::load(&self.objects, &path).await?;
        let secret = wrapped.unwrap(self.keys.as_ref(), &path).await?;
        let key = fragments_key(stream.uid, &secret);
        let mut state = stream.state();
        // Deletion has thrown the keys away: none may come back.
        if !state.active() {
            return Err(Error::StreamNotFound);
        }
        state.keys.insert(id, key.clone());
        Ok(key)
    }

    /// Makes a data key and has it wrapped. Nobody else waits for whoever wraps it: `admin` is taken behind this.
    pub(crate) async fn new_key(&self, uid: Uid, id: u32, name: &str) -> Result<NewKey, Error> {
        let (secret, path) = (Secret(crypt::random()), self.layout.dek(uid, id));
        let wrapped = WrappedKey::wrap(self.keys.as_ref(), name, &path, &secret).await?;
        if self.keys.asks(name) {
            // Who may encrypt need not be one who may decrypt: what is stored would be lost with this process.
            wrapped.check(self.keys.as_ref(), &path, &secret).await?;
        }
        Ok(NewKey { wrapped, path, key: fragments_key(uid, &secret) })
    }

    /// A session's header, from memory or the storage.
    pub(crate) async fn header(
        &self,
        stream: &Stream,
        id: crate::layout::HeaderId,
    ) -> Result<bytes::Bytes, Error> {
        if let Some(bytes) = stream.state().headers.get(&id) {
            return Ok(bytes.clone());
        }
        let path = self.layout.header(stream.uid, id);
        let missing = || Error::Damaged { path: path.to_string(), what: "missing" };
        let (object, _) = self.objects.get(&path).await?.ok_or_else(missing)?;
        let key = self.data_key(stream, sealed::small_key_id(&path, &object)?).await?;
        let bytes = bytes::Bytes::from(sealed::open_small(&path, &key, &object)?);
        stream.state().cache_header(id, bytes.clone());
        Ok(bytes)
    }

    /// A fragment's media, from the storage. What is damaged is marked, counted, and set aside.
    pub(crate) async fn fragment(&self, stream: &Stream, entry: &Entry) -> Result<sealed::Opened, Error> {
        let object = self.fragment_object(stream, entry).await?;
        let opened = self.open_fragment(stream, entry, &object).await;
        self.note_damage(stream, entry, opened.as_ref().err(), Some(&object)).await;
        opened
    }

    /// Whether a fragment is what was written; without its key, where that is not at hand: its checksum says it as well.
    pub(crate) async fn look_at(&self, stream: &Stream, entry: &Entry) -> Result<(), Error> {
        let asks = self.keys.asks(&stream.state().record.key);
        if !asks {
            return self.fragment(stream, entry).await.map(drop);
        }
        let object = self.fragment_object(stream, entry).await?;
        let whole = self.key_of(stream, entry, &object);
        self.note_damage(stream, entry, whole.as_ref().err(), Some(&object)).await;
        whole.map(drop)
    }

    /// Counts it once, and sets aside what was found.
    async fn note_damage(
        &self,
        stream: &Stream,
        entry: &Entry,
        error: Option<&Error>,
        found: Option<&bytes::Bytes>,
    ) {
        let Some(error @ Error::Damaged { .. }) = error else { return };
        {
            let mut state = stream.state();
            if state.index.get(entry.number).is_some_and(|e| !e.damaged) {
                state.index.mark_damaged(entry.number);
                self.counters.damaged();
                tracing::error!(%error, "a stored fragment is damaged");
            }
        }
        if let Some(found) = found {
            self.quarantine(stream, entry.number, found).await;
        }
    }

    /// What lies where a fragment should.
    async fn fragment_object(&self, stream: &Stream, entry: &Entry) -> Result<bytes::Bytes, Error> {
        let path = self.layout.fragment(stream.uid, entry);
        let found =
            if entry.aside { Err("set aside") } else { self.objects.get(&path).await?.ok_or("missing") };
        match found {
            Ok((object, _)) => Ok(object),
            Err(what) => {
                let error = Error::Damaged { path: path.to_string(), what };
                self.note_damage(stream, entry, Some(&error), None).await;
                Err(error)
            }
        }
    }

    /// Which key an object needs whose checksum fits, and which is the one that the index means.
    fn key_of(&self, stream: &Stream, entry: &Entry, object: &[u8]) -> Result<u32, Error> {
        let path = self.layout.fragment(stream.uid, entry);
        let meta = sealed::fragment_meta(&path, object)?;
        if meta.uid != stream.uid || !meta.is_of(entry) {
            return Err(Error::Damaged { path: path.to_string(), what: "another fragment" });
        }
        Ok(meta.key_id)
    }

    async fn open_fragment(
        &self,
        stream: &Stream,
        entry: &Entry,
        object: &[u8],
    ) -> Result<sealed::Opened, Error> {
        let key = self.data_key(stream, self.key_of(stream, entry, object)?).await?;
        let path = self.layout.fragment(stream.uid, entry);
        let opened = sealed::open_fragment(&path, &key, object)?;
        let said = entry.whose.known();
        if said.is_some_and(|whose| whose != self.whose(stream.uid, &opened.contact)) {
            return Err(Error::Damaged { path: path.to_string(), what: "another contact's" });
        }
        Ok(opened)
    }
}
