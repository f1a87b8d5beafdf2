//! Contacts in streams that several of them share: what is there of one, reading that alone, and removing it.
//!
//! A fragment is the contact's that its tags name when it is complete ([`crate::ingest`]); so a reader of one contact gets a fragment
//! that is being written when it is whole, and not before.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;

use crate::admin::{StreamInfo, StreamRef};
use crate::archive::{self, FragmentList, Page, Range};
use crate::error::Error;
use crate::index::Entry;
use crate::layout::Uid;
use crate::live::LiveFragment;
use crate::number::FragmentNumber;
use crate::read::{Reader, Start};
use crate::store::{Inner, Store};
use crate::stream::Stream;
use crate::whose::Whose;

/// Fragments of one contact that follow each other in a stream, with nobody else's between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first one.
    pub first: FragmentNumber,
    /// The last one; it may be the same.
    pub last: FragmentNumber,
    /// When it begins, by the producer's clock.
    pub from_ms: u64,
    /// When it ends, by the same.
    pub to_ms: u64,
}

/// Contacts whose fragments alone are given.
#[derive(Debug, Clone)]
pub(crate) struct Only(BTreeMap<Whose, String>);

impl Only {
    pub(crate) fn new(inner: &Inner, uid: Uid, contacts: &[String]) -> Self {
        Self(contacts.iter().map(|contact| (inner.whose(uid, contact), contact.clone())).collect())
    }

    /// Each of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Whose> {
        self.0.keys().copied()
    }

    /// Whether a stored fragment is one of theirs.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        entry.whose.known().is_some_and(|whose| self.0.contains_key(&whose))
    }

    /// Whose a stored fragment is, of them; empty: none of theirs.
    pub(crate) fn name(&self, entry: &Entry) -> String {
        self.0.get(&entry.whose).cloned().unwrap_or_default()
    }

    /// The same of one in memory; `None`: it is not certain yet.
    pub(crate) fn has_live(&self, live: &LiveFragment) -> Option<bool> {
        live.end()?;
        Some(live.contact().is_some_and(|contact| self.0.values().any(|one| one == contact)))
    }
}

impl Inner {
    pub(crate) fn whose(&self, uid: Uid, contact: &str) -> Whose {
        Whose::of(&self.contacts, uid, contact)
    }

    /// Removes a contact's fragments from a stream; the caller holds `admin`.
    async fn remove_contact(&self, stream: &Stream, whose: Whose) -> Result<u64, Error> {
        // What is being stored is stored first, and then removed.
        let gate = stream.gate.write().await;
        let (entries, newest) = {
            let state = stream.state();
            let entries: Vec<Entry> = state.index.of_contact(whose).copied().collect();
            (entries, state.index.last().map(|e| e.number))
        };
        if entries.last().is_some_and(|last| Some(last.number) == newest) {
            self.note_numbers(stream).await?;
        }
        let mut removed = Vec::with_capacity(entries.len());
        for entry in &entries {
            let path = self.layout.fragment(stream.uid, entry);
            stream.state().index.remove(entry.number);
            if let Err(error) = self.objects.delete(&path).await {
                stream.state().index.insert(*entry);
                return Err(error);
            }
            self.counters.removed(entry.size.into());
            removed.push(path);
        }
        drop(gate);
        if !removed.is_empty() {
            crate::sweep::headers(self, stream).await?;
            self.settle(&removed).await?;
        }
        Ok(removed.len() as u64)
    }

    /// Nothing brings back what was removed: neither the file system after a power loss, nor the journal, which may not say yet that
    /// these were stored.
    async fn settle(&self, removed: &[Path]) -> Result<(), Error> {
        self.objects.settle(removed).await?;
        if let Some(journal) = self.journal.clone() {
            let syncing = tokio::task::spawn_blocking(move || journal.write_ends());
            syncing.await.expect("it does not panic, and the runtime waits for it");
        }
        Ok(())
    }
}

impl Store {
    /// Whether a stream says of itself, by its tag `ContactId`, that it is one of these contacts' as a whole.
    ///
    /// # Errors
    /// No such stream.
    pub fn is_of(&self, stream: &StreamRef, contacts: &[String]) -> Result<bool, Error> {
        let stream = self.0.find(stream)?;
        let state = stream.state();
        Ok(state.record.tags.get("ContactId").is_some_and(|id| contacts.contains(id)))
    }

    /// What is stored of a contact, stream by stream, in the order of the streams' names.
    pub fn contact(&self, contact: &str, now_ms: u64) -> Vec<(StreamInfo, Vec<Stretch>)> {
        let streams: Vec<_> = self.0.streams().by_uid.values().cloned().collect();
        let of = |stream: Arc<Stream>| {
            let stretches = stretches(&stream, self.0.whose(stream.uid, contact), now_ms);
            (!stretches.is_empty()).then(|| (self.0.info(&stream), stretches))
        };
        let mut found: Vec<_> = streams.into_iter().filter_map(of).collect();
        found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        found
    }

    /// Removes what is stored of a contact from all streams, and leaves what is others'. What comes of it later is kept. Gives how many
    /// fragments were removed.
    ///
    /// # Errors
    /// The storage: then part of it may be there still.
    pub async fn remove_contact(&self, contact: &str) -> Result<u64, Error> {
        let streams: Vec<_> = self.0.streams().by_uid.values().cloned().collect();
        let mut removed = 0;
        for stream in streams {
            let whose = self.0.whose(stream.uid, contact);
            stream.state().forget_live(contact);
            if stream.state().index.of_contact(whose).next().is_some() {
                let _admin = self.0.admin.lock().await;
                removed += self.0.remove_contact(&stream, whose).await?;
            }
            stream.wake();
        }
        Ok(removed)
    }

    /// [`Store::get_media`], of some contacts' fragments alone where it is for those: each when it is complete.
    ///
    /// # Errors
    /// As there.
    pub fn get_media_of(
        &self,
        stream: &StreamRef,
        contacts: Option<&[String]>,
        start: Start,
        now_ms: u64,
    ) -> Result<Reader, Error> {
        let (stream, only) = self.only(stream, contacts)?;
        Reader::open(&self.0, stream, only, start, now_ms)
    }

    /// [`Store::list_fragments`], of some contacts alone where it is for those.
    ///
    /// # Errors
    /// As there.
    pub fn list_fragments_of(
        &self,
        stream: &StreamRef,
        contacts: Option<&[String]>,
        range: Option<Range>,
        (max, token): (usize, Option<&str>),
        now_ms: u64,
    ) -> Result<Page, Error> {
        let (stream, only) = self.only(stream, contacts)?;
        archive::list(&stream, only.as_ref(), range, (max, token), now_ms)
    }

    /// [`Store::get_fragments`], of some contacts alone where it is for those: others' are told as ones that are not there.
    ///
    /// # Errors
    /// As there.
    pub fn get_fragments_of(
        &self,
        stream: &StreamRef,
        contacts: Option<&[String]>,
        numbers: Vec<FragmentNumber>,
        now_ms: u64,
    ) -> Result<FragmentList, Error> {
        let (stream, only) = self.only(stream, contacts)?;
        FragmentList::open(&self.0, stream, only, numbers, now_ms)
    }

    fn only(
        &self,
        stream: &StreamRef,
        contacts: Option<&[String]>,
    ) -> Result<(Arc<Stream>, Option<Only>), Error> {
        let stream = self.0.find(stream)?;
        let only = contacts.map(|contacts| Only::new(&self.0, stream.uid, contacts));
        Ok((stream, only))
    }
}

/// A contact's fragments, those that follow each other put together.
fn stretches(stream: &Stream, whose: Whose, now_ms: u64) -> Vec<Stretch> {
    let state = stream.state();
    let mut found: Vec<Stretch> = Vec::new();
    if !state.active() {
        return found;
    }
    for entry in state.index.of_contact(whose).filter(|e| !state.expired(e, now_ms)) {
        let to_ms = entry.producer_ms + u64::from(entry.duration_ms);
        let follows = |last: &Stretch| state.index.after(last.last).next().is_some_and(|e| e == entry);
        match found.last_mut().filter(|last| follows(last)) {
            Some(last) => (last.last, last.to_ms) = (entry.number, last.to_ms.max(to_ms)),
            None => found.push(Stretch {
                first: entry.number,
                last: entry.number,
                from_ms: entry.producer_ms,
                to_ms,
            }),
        }
    }
    found
}
