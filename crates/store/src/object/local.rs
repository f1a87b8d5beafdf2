//! A folder of this machine as object store: synced writes, one process, no leftovers.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use object_store::local::LocalFileSystem;

use super::Found;
use crate::error::{Error, StorageFault};

/// Beside the objects, not among them.
const LOCK_FILE: &str = "lock";
/// Where the objects begin.
const OBJECTS: &str = "v1";

/// The operating system's lock on the folder: it goes with the process, however that ends.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

pub(super) fn io(what: &str, path: &Path, e: &std::io::Error) -> Error {
    let fault = match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StorageFault::Full,
        std::io::ErrorKind::PermissionDenied => StorageFault::Refused,
        _ => StorageFault::Unavailable,
    };
    Error::Storage { fault, message: format!("{what} {}: {e}", path.display()) }
}

/// The process ends, and what was asked was not done.
pub(super) fn stopped() -> Error {
    Error::Storage { fault: StorageFault::Unavailable, message: "the process ends".into() }
}

impl Lock {
    pub(super) fn take(root: &Path) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|e| io("cannot make the folder", root, &e))?;
        let path = root.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| io("cannot open", &path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked),
            Err(TryLockError::Error(e)) => Err(io("cannot lock", &path, &e)),
        }
    }
}

/// A regular file of the folder.
pub(super) fn lock_file(root: &Path) -> std::io::Result<File> {
    File::open(root.join(LOCK_FILE))
}

pub(super) fn open(root: &Path) -> Result<LocalFileSystem, Error> {
    Ok(LocalFileSystem::new_with_prefix(root)?.with_fsync(true).with_automatic_cleanup(true))
}

/// A write is staged as `<object>#<digits>` and renamed. A crash between the two leaves the staged file, which is no object.
pub(super) fn remove_staging(root: &Path) -> Result<(), Error> {
    let objects = root.join(OBJECTS);
    if objects.exists() {
        remove_below(&objects).map_err(|e| io("cannot clean", &objects, &e))?;
    }
    Ok(())
}

/// Where an object is staged. `LocalFileSystem` counts from 1 for each name, so ours have a digit more than it ever needs.
pub(super) fn staging(place: &Path, number: u64) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(format!("#0{number}"));
    name.into()
}

fn remove_below(folder: &Path) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_staging(&entry.file_name().to_string_lossy()) {
                tracing::info!("removed a write that was cut off");
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Makes what was removed from folders stay removed after a power loss. A folder that is gone itself was removed from the one above.
pub(super) fn settle(root: &Path, folders: &BTreeSet<String>) -> Result<(), Error> {
    let there: BTreeSet<_> = folders.iter().map(|folder| nearest(root, &root.join(folder))).collect();
    for folder in there {
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| io("cannot sync", &folder, &e))?;
    }
    Ok(())
}

/// The folder, or the first one above it that is there.
fn nearest(root: &Path, folder: &Path) -> PathBuf {
    let there = folder.ancestors().take_while(|above| above.starts_with(root)).find(|above| above.is_dir());
    there.unwrap_or(root).to_owned()
}

/// Shows `each` object of a folder, and gives the folders in it. `LocalFileSystem` asks the system several times for each file; this asks once,
/// for the size.
pub(super) fn look(root: &Path, folder: &str, mut each: impl FnMut(Found<'_>)) -> Result<Vec<String>, Error> {
    let path = root.join(folder);
    let failed = |e: std::io::Error| io("cannot list", &path, &e);
    let entries = match fs::read_dir(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let (mut folders, mut key) = (Vec::new(), format!("{folder}/"));
    for entry in entries {
        let entry = entry.map_err(failed)?;
        key.truncate(folder.len() + 1);
        key.push_str(&entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(failed)?;
        let linked = kind.is_symlink().then(|| fs::metadata(entry.path()));
        if kind.is_dir() || matches!(&linked, Some(Ok(there)) if there.is_dir()) {
            folders.push(key.clone());
            continue;
        }
        if is_staging(&key[folder.len() + 1..]) {
            continue;
        }
        // What was removed meanwhile is not there.
        let Ok(meta) = linked.unwrap_or_else(|| entry.metadata()) else { continue };
        if meta.is_file() {
            each(Found { key: &key, size: meta.len(), is_path: false });
        }
    }
    Ok(folders)
}

fn is_staging(name: &str) -> bool {
    let digits = name.rsplit_once('#').map(|(_, digits)| digits);
    digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_what_the_store_lists() {
        use futures_util::TryStreamExt;
        use object_store::ObjectStore;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("v1/a/b/c");
        fs::create_dir_all(&folder).unwrap();
        for name in ["object", "object#1", "object.x-y_z", "d/e"] {
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::write(folder.join(name), name).unwrap();
        }
        fs::write(root.path().join("v1/a/top"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("object"), root.path().join("v1/a/link")).unwrap();
        std::os::unix::fs::symlink(folder.join("d"), root.path().join("v1/a/linked")).unwrap();
        let (mut ours, mut folders) = (Vec::new(), vec!["v1/a".to_owned()]);
        while let Some(folder) = folders.pop() {
            let below = look(root.path(), &folder, |found| ours.push((found.path(), found.size)));
            folders.extend(below.unwrap());
        }
        ours.sort();
        let store = open(root.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let theirs = store.list(Some(&"v1/a".into())).map_ok(|meta| (meta.location, meta.size));
        let mut theirs = runtime.block_on(theirs.try_collect::<Vec<_>>()).unwrap();
        theirs.sort();
        assert_eq!((ours.len(), ours), (6, theirs));
        assert_eq!(look(root.path(), "v1/none", |_| unreachable!()).unwrap(), [] as [String; 0]);
    }

    #[test]
    fn what_is_settled_is_where_something_was_removed() {
        let root = tempfile::tempdir().unwrap();
        let below = |path: &str| root.path().join(path);
        fs::create_dir_all(below("v1/a/f")).unwrap();
        assert_eq!(nearest(root.path(), &below("v1/a/f")), below("v1/a/f"));
        assert_eq!(nearest(root.path(), &below("v1/a/f/2026010100")), below("v1/a/f"));
        assert_eq!(nearest(root.path(), &below("v2/a")), root.path());
        let folders = |all: &[&str]| all.iter().map(|folder| (*folder).to_owned()).collect();
        settle(root.path(), &folders(&["v1/a/f/2026010100", "v1/a/f"])).unwrap();
        fs::remove_dir_all(below("v1")).unwrap();
        settle(root.path(), &folders(&["v1/a/f"])).unwrap();
        let gone = below("gone");
        assert!(settle(&gone, &folders(&["v1"])).is_err());
    }

    /// No kill shows it: what was not synced outlasts a process.
    #[test]
    fn what_is_written_one_by_one_is_synced() {
        let root = tempfile::tempdir().unwrap();
        let said = format!("{:?}", open(root.path()).unwrap());
        assert!(said.contains("fsync: true"), "{said}");
    }

    #[test]
    fn one_process_at_a_time_and_no_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let lock = Lock::take(root.path()).unwrap();
        assert!(matches!(Lock::take(root.path()), Err(Error::Locked)));
        drop(lock);
        Lock::take(root.path()).unwrap();
        let folder = root.path().join("v1/a/b");
        fs::create_dir_all(&folder).unwrap();
        for name in ["object", "object#1", "object#x", "object#12"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        remove_staging(root.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["object", "object#x"]);
    }
}
