//! `antiphon store check` and `antiphon store scrub`: looking at a store without changing it, while it is closed or open
//! elsewhere. What is being written at that moment may be reported as unfinished.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::Config;
use crate::crypt::DataKey;
use crate::error::Error;
use crate::key::KeyProvider;
use crate::keys::{Account, WrappedKey};
use crate::layout::{Layout, Uid};
use crate::listing::{Folder, Listing};
use crate::matroska::{Bounds, Parser};
use crate::object::{Backend, Objects};
use crate::record::{Record, Status};
use crate::recover::Problem;
use crate::sealed::{self, FragmentMeta};
use crate::settings;
use crate::whose::Whose;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Listing, records, names, keys: whether everything that is needed is there.
    Check,
    /// Every header and fragment too: checksum, decryption, Matroska.
    Scrub,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Streams whose record opens.
    pub streams: u64,
    /// Their fragments.
    pub fragments: u64,
    /// Bytes of the fragments' media.
    pub bytes: u64,
    /// Keys that an older version of their master key has wrapped: that version is still needed.
    pub old_keys: u64,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// A store that is looked at.
struct Look {
    objects: Objects,
    layout: Layout,
    keys: Arc<dyn KeyProvider>,
    account: Account,
    bounds: Bounds,
    depth: Depth,
    report: Report,
}

/// Looks at a store.
///
/// # Errors
/// The storage does not answer, or the account's key does not open with this provider.
pub async fn look(
    backend: Backend,
    keys: Arc<dyn KeyProvider>,
    config: &Config,
    depth: Depth,
) -> Result<Report, Error> {
    let (objects, layout) = (Objects::new(backend), Layout::new(&config.account));
    objects.load_spool().await?;
    let listing = objects.survey(&layout).await?;
    if listing.objects == 0 {
        return Ok(Report::default());
    }
    let account = Account::load(&objects, keys.as_ref(), &layout, false).await?;
    let rules = &config.rules;
    let bounds = Bounds { header_bytes: rules.header_bytes, fragment_bytes: rules.fragment_bytes };
    let report = Report::default();
    let mut look = Look { objects, layout, keys, account, bounds, depth, report };
    look.report.problems.extend(listing.problems.iter().cloned());
    let account_key = WrappedKey::load(&look.objects, &look.layout.account_key()).await?;
    look.report.old_keys += u64::from(!account_key.is_newest(look.keys.as_ref()));
    look.settings(&listing).await?;
    let mut named = BTreeSet::new();
    for (uid, folder) in &listing.folders {
        if let Some(name) = look.stream(*uid, folder).await? {
            named.insert(look.account.hide(&name));
        }
    }
    for name in listing.names.difference(&named) {
        look.problem(&look.layout.name(name), "a name without a stream");
    }
    for path in look.objects.set_aside() {
        look.problem(&path, "the object store refuses it again and again: it waits in the spool");
    }
    Ok(look.report)
}

impl Look {
    fn problem(&mut self, path: &object_store::path::Path, what: impl std::fmt::Display) {
        self.report.problems.push(Problem::new(path, what));
    }

    /// Whether settings open.
    async fn settings(&mut self, listing: &Listing) -> Result<(), Error> {
        for (path, name) in &listing.settings {
            match settings::read(&self.objects, &self.account, path, name).await {
                Ok(_) => {}
                Err(error @ Error::Storage { .. }) => return Err(error),
                Err(error) => self.problem(path, error),
            }
        }
        Ok(())
    }

    /// Looks at one stream; gives its name.
    async fn stream(&mut self, uid: Uid, folder: &Folder) -> Result<Option<String>, Error> {
        if !folder.record {
            self.problem(&self.layout.stream(uid), "objects without a record");
            return Ok(None);
        }
        let path = self.layout.record(uid);
        let record = match self.record(uid).await {
            Ok(record) => record,
            Err(error @ (Error::Damaged { .. } | Error::Key(_))) => {
                self.problem(&path, error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.report.streams += 1;
        self.report.fragments += folder.fragments.len() as u64;
        self.report.bytes += folder.fragments.iter().map(|e| u64::from(e.size)).sum::<u64>();
        if record.status == Status::Deleting {
            self.problem(&path, "its deletion is not finished");
            return Ok(Some(record.name));
        }
        self.name(uid, &record).await?;
        let keys = self.keys(uid, folder, &record).await?;
        for header in folder.fragments.iter().map(|e| e.header).collect::<BTreeSet<_>>() {
            if !folder.headers.contains(&header) {
                self.problem(&self.layout.header(uid, header), "needed by a fragment, and missing");
            }
        }
        if self.depth == Depth::Scrub {
            self.scrub(uid, folder, &keys).await?;
        }
        Ok(Some(record.name))
    }

    async fn record(&self, uid: Uid) -> Result<Record, Error> {
        let path = self.layout.record(uid);
        let damaged = |what| Error::Damaged { path: path.to_string(), what };
        let (object, _) = self.objects.get(&path).await?.ok_or_else(|| damaged("missing"))?;
        let plain = sealed::open_small(&path, &self.account.key(&format!("record {uid}")), &object)?;
        serde_json::from_slice(&plain).map_err(|_| damaged("not a record of this version"))
    }

    async fn name(&mut self, uid: Uid, record: &Record) -> Result<(), Error> {
        let path = self.layout.name(&self.account.hide(&record.name));
        match self.objects.get(&path).await? {
            Some((bytes, _)) if bytes == uid.to_string() => {}
            Some(_) => self.problem(&path, "belongs to another stream"),
            None => self.problem(&path, "the stream's name is missing"),
        }
        Ok(())
    }

    /// The data keys that open; those that do not are problems.
    async fn keys(
        &mut self,
        uid: Uid,
        folder: &Folder,
        record: &Record,
    ) -> Result<Vec<(u32, DataKey)>, Error> {
        let mut keys = Vec::new();
        for id in 0..=record.dek {
            let path = self.layout.dek(uid, id);
            if !folder.keys.contains(&id) {
                self.problem(&path, "missing");
                continue;
            }
            let unwrapped = match WrappedKey::load(&self.objects, &path).await {
                Ok(wrapped) => {
                    self.report.old_keys += u64::from(!wrapped.is_newest(self.keys.as_ref()));
                    wrapped.unwrap(self.keys.as_ref(), &path).await
                }
                Err(error) => Err(error),
            };
            match unwrapped {
                Ok(secret) => keys.push((id, DataKey::new(&secret, &format!("fragments {uid}")))),
                Err(error @ Error::Storage { .. }) => return Err(error),
                Err(error) => self.problem(&path, error),
            }
        }
        Ok(keys)
    }

    async fn scrub(&mut self, uid: Uid, folder: &Folder, keys: &[(u32, DataKey)]) -> Result<(), Error> {
        let key = |id: u32| keys.iter().find(|(of, _)| *of == id).map(|(_, key)| key);
        let contacts = Whose::key(&self.account);
        let mut headers = std::collections::BTreeMap::new();
        for id in &folder.headers {
            let path = self.layout.header(uid, *id);
            let Some((object, _)) = self.objects.get(&path).await? else { continue };
            let opened = sealed::small_key_id(&path, &object).and_then(|of| {
                let key = key(of).ok_or(crate::key::KeyError::NotFound)?;
                sealed::open_small(&path, key, &object)
            });
            match opened {
                Ok(bytes) => _ = headers.insert(*id, Bytes::from(bytes)),
                Err(error) => self.problem(&path, error),
            }
        }
        for entry in folder.fragments.iter().filter(|entry| !entry.aside) {
            let path = self.layout.fragment(uid, entry);
            // Removed by retention since the listing.
            let Some((object, _)) = self.objects.get(&path).await? else { continue };
            let opened = sealed::fragment_meta(&path, &object).and_then(|meta| {
                let FragmentMeta { key_id, .. } = meta;
                let damaged = |what| Error::Damaged { path: path.to_string(), what };
                if meta.uid != uid || !meta.is_of(entry) {
                    return Err(damaged("another fragment"));
                }
                let key = key(key_id).ok_or(crate::key::KeyError::NotFound)?;
                let opened = sealed::open_fragment(&path, key, &object)?;
                let said = entry.whose.known();
                if said.is_some_and(|whose| whose != Whose::of(&contacts, uid, &opened.contact)) {
                    return Err(damaged("another contact's"));
                }
                Ok(opened)
            });
            match opened {
                Err(error) => self.problem(&path, error),
                Ok(opened) => {
                    if let Some(header) = headers.get(&entry.header)
                        && let Err(error) = parses(self.bounds, header, &opened.media)
                    {
                        self.problem(&path, error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether header and media together are a document.
fn parses(bounds: Bounds, header: &Bytes, media: &Bytes) -> Result<(), String> {
    let mut parser = Parser::new(bounds);
    parser.push(header);
    parser.push(media);
    loop {
        match parser.next_item() {
            Ok(Some(_)) => {}
            Ok(None) if parser.may_end() => return Ok(()),
            Ok(None) => return Err("the media ends inside an element".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
