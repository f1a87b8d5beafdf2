//! Opening: the index comes from a listing; what a crash interrupted is finished or taken back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use object_store::path::Path;

use crate::error::Error;
use crate::index::Index;
use crate::keys::WrappedKey;
use crate::layout::Uid;
use crate::listing::{Folder, Listing};
use crate::record::{Record, Status};
use crate::sealed;
use crate::store::Inner;
use crate::stream::{State, Stream};

/// Something in the storage that is not as it should be. It was left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the object.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_string(), what: what.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Makes the streams of what is listed.
pub(crate) async fn load(
    inner: &Arc<Inner>,
    mut listing: Listing,
    now_ms: u64,
) -> Result<Vec<Problem>, Error> {
    let mut problems = std::mem::take(&mut listing.problems);
    let names = owners(inner, &listing).await?;
    for (uid, folder) in std::mem::take(&mut listing.folders) {
        let path = inner.layout.record(uid);
        if !folder.record {
            orphan(inner, uid, &folder, &mut problems).await?;
            continue;
        }
        match load_record(inner, uid).await {
            Ok((record, version)) => {
                let owned = names.get(&inner.account.hide(&record.name)) == Some(&Some(uid));
                let stream = Arc::new(Stream::new(uid, State::new(record, version)));
                if adopt(inner, &stream, &folder, owned, &mut problems).await? {
                    fill(inner, &stream, folder, now_ms, &mut problems).await?;
                    inner.streams().insert(stream);
                }
            }
            Err(error @ (Error::Damaged { .. } | Error::Key(_))) => {
                problems.push(Problem::new(&path, error));
            }
            Err(error) => return Err(error),
        }
    }
    stale_names(inner, &names).await?;
    Ok(problems)
}

/// Whose each name is; `None`: the object says nothing sensible.
async fn owners(inner: &Inner, listing: &Listing) -> Result<BTreeMap<String, Option<Uid>>, Error> {
    let mut owners = BTreeMap::new();
    for name in &listing.names {
        let found = inner.objects.get(&inner.layout.name(name)).await?;
        let uid = found.and_then(|(bytes, _)| Uid::parse(std::str::from_utf8(&bytes).ok()?));
        owners.insert(name.clone(), uid);
    }
    Ok(owners)
}

pub(crate) async fn load_record(
    inner: &Inner,
    uid: Uid,
) -> Result<(Record, Option<object_store::UpdateVersion>), Error> {
    let path = inner.layout.record(uid);
    let damaged = |what| Error::Damaged { path: path.to_string(), what };
    let (object, version) = inner.objects.get(&path).await?.ok_or_else(|| damaged("missing"))?;
    let plain = sealed::open_small(&path, &inner.record_key(uid), &object)?;
    let record = serde_json::from_slice(&plain).map_err(|_| damaged("not a record of this version"))?;
    Ok((record, Some(version)))
}

/// A folder without a record: the end of a deletion, or the beginning of a creation. Without its key nobody can read it, so
/// it goes; with a key it may be what is left of a stream, so it stays and is told.
async fn orphan(inner: &Inner, uid: Uid, folder: &Folder, problems: &mut Vec<Problem>) -> Result<(), Error> {
    let mut alive = false;
    for id in &folder.keys {
        alive |= WrappedKey::alive(&inner.objects, &inner.layout.dek(uid, *id)).await?;
    }
    if alive && !folder.fragments.is_empty() {
        problems.push(Problem::new(&inner.layout.stream(uid), "fragments without a record"));
        return Ok(());
    }
    for entry in &folder.fragments {
        inner.objects.delete(&inner.layout.fragment(uid, entry)).await?;
    }
    for path in &folder.paths {
        inner.objects.delete(path).await?;
    }
    Ok(())
}

/// Whether a stream with a record is one. One without a name was never created, unless it has fragments: then its name
/// was lost, and it gets it back if nobody else has it.
async fn adopt(
    inner: &Inner,
    stream: &Arc<Stream>,
    folder: &Folder,
    owned: bool,
    problems: &mut Vec<Problem>,
) -> Result<bool, Error> {
    let (name, deleting) = {
        let state = stream.state();
        (state.record.name.clone(), state.record.status == Status::Deleting)
    };
    if deleting {
        // Its steps can be repeated; what fails now is tried again by the sweeper.
        inner.streams().insert(stream.clone());
        let _admin = inner.admin.lock().await;
        inner.finish_deletion(stream).await?;
        return Ok(false);
    }
    if owned {
        return Ok(true);
    }
    let path = inner.layout.name(&inner.account.hide(&name));
    if !folder.fragments.is_empty() {
        let made = inner.objects.create(&path, stream.uid.to_string().into()).await?;
        if made == crate::object::Created::Yes {
            return Ok(true);
        }
        problems.push(Problem::new(&inner.layout.record(stream.uid), "its name belongs to another stream"));
        return Ok(false);
    }
    for path in folder.paths.iter().rev() {
        inner.objects.delete(path).await?;
    }
    Ok(false)
}

/// Fills the index, and checks the newest fragment: the one that a crash may have caught.
async fn fill(
    inner: &Inner,
    stream: &Stream,
    mut folder: Folder,
    now_ms: u64,
    problems: &mut Vec<Problem>,
) -> Result<(), Error> {
    // One that was being set aside lies in both places: the last of them counts, and is set aside when it is read again.
    folder.fragments.sort_by_key(|e| !e.aside);
    let newest = {
        let mut state = stream.state();
        state.index = Index::of(folder.fragments);
        state.headers_due = folder.headers.iter().any(|id| !state.index.uses_header(*id));
        inner.counters.found(state.index.bytes());
        let newest = state.index.last().copied();
        if let Some(last) = newest {
            state.next_counter = state.next_counter.max(last.number.counter() + 1);
            state.last_server_ms = state.last_server_ms.max(last.number.server_ms());
        }
        if state.record.retention_h == 0 {
            // Nothing tells which numbers were given. There was less than one fragment per millisecond.
            let age_ms = now_ms.saturating_sub(state.record.created_ms);
            state.next_counter = state.next_counter.max(age_ms);
        }
        newest
    };
    let Some(newest) = newest.filter(|newest| !newest.aside) else { return Ok(()) };
    match inner.look_at(stream, &newest).await {
        Ok(()) | Err(Error::Key(_)) => Ok(()),
        Err(error @ Error::Damaged { .. }) => {
            problems.push(Problem::new(&inner.layout.fragment(stream.uid, &newest), error));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Names whose stream is not there: the last step of a deletion.
async fn stale_names(inner: &Inner, names: &BTreeMap<String, Option<Uid>>) -> Result<(), Error> {
    for (name, owner) in names {
        let record = owner.map(|uid| inner.layout.record(uid));
        let there = match &record {
            Some(record) => inner.objects.get(record).await?.is_some(),
            None => false,
        };
        if !there {
            inner.objects.delete(&inner.layout.name(name)).await?;
        }
    }
    Ok(())
}
