//! What lies in the storage, sorted by what it is. A store may have millions of fragments, so a fragment costs its [`Entry`] here and
//! nothing else: no path is kept that can be made again.

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;

use crate::index::Entry;
use crate::layout::{HeaderId, Kind, Layout, Uid};
use crate::object::Found;
use crate::recover::Problem;
use crate::sealed::FRAGMENT_OVERHEAD;

/// What lies in one stream's folder.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Folder {
    pub(crate) record: bool,
    pub(crate) keys: BTreeSet<u32>,
    pub(crate) headers: BTreeSet<HeaderId>,
    pub(crate) fragments: Vec<Entry>,
    /// Of all but the fragments.
    pub(crate) paths: Vec<Path>,
}

/// A listing, sorted by what things are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Listing {
    /// Objects of whatever kind.
    pub(crate) objects: u64,
    pub(crate) names: BTreeSet<String>,
    pub(crate) settings: Vec<(Path, String)>,
    pub(crate) folders: BTreeMap<Uid, Folder>,
    pub(crate) problems: Vec<Problem>,
}

impl Listing {
    /// Adds an object.
    pub(crate) fn add(&mut self, layout: &Layout, found: Found<'_>) {
        self.objects += 1;
        if let Some((uid, entry)) = layout.fragment_at(found.key) {
            return self.fragment(uid, entry, found);
        }
        let path = found.path();
        match layout.kind(&path) {
            Kind::Account => {}
            Kind::Settings(name) => self.settings.push((path, name)),
            Kind::Name(name) => _ = self.names.insert(name),
            Kind::Record(uid) => {
                let folder = self.folder(uid, path);
                folder.record = true;
            }
            Kind::Dek(uid, id) => _ = self.folder(uid, path).keys.insert(id),
            Kind::Header(uid, id) => _ = self.folder(uid, path).headers.insert(id),
            Kind::Fragment(uid, entry) => self.fragment(uid, entry, found),
            Kind::Stray(_) | Kind::Unknown => {
                self.problems.push(Problem::new(&path, "not an object of ours"));
            }
        }
    }

    fn folder(&mut self, uid: Uid, path: Path) -> &mut Folder {
        let folder = self.folders.entry(uid).or_default();
        folder.paths.push(path);
        folder
    }

    fn fragment(&mut self, uid: Uid, mut entry: Entry, found: Found<'_>) {
        let media = usize::try_from(found.size).ok().and_then(|s| s.checked_sub(FRAGMENT_OVERHEAD));
        let media = media.and_then(|m| u32::try_from(m).ok());
        entry.damaged = media.is_none() || entry.aside;
        entry.size = media.unwrap_or_default();
        if entry.aside {
            self.problems.push(Problem::new(&found.path(), "damaged, and set aside"));
        } else if entry.damaged {
            self.problems.push(Problem::new(&found.path(), "shorter than any fragment"));
        }
        self.folders.entry(uid).or_default().fragments.push(entry);
    }

    /// Adds what another part of the listing has found.
    pub(crate) fn append(&mut self, other: Self) {
        self.objects += other.objects;
        self.names.extend(other.names);
        self.settings.extend(other.settings);
        self.problems.extend(other.problems);
        for (uid, more) in other.folders {
            let folder = self.folders.entry(uid).or_default();
            folder.record |= more.record;
            folder.keys.extend(more.keys);
            folder.headers.extend(more.headers);
            folder.fragments.extend(more.fragments);
            folder.paths.extend(more.paths);
        }
    }
}
