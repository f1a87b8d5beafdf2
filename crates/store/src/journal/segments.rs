//! The files of one run: appended to, synced, and removed from the front once nobody needs them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::format::{RUN_BYTES, Run, segment_head};
use crate::crypt::hex;

/// What files are called behind their run and number.
const SUFFIX: &str = ".journal";
/// A segment is left for the next when it is as large as this: a restart reads one at a time.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Or after so many syncs, a second of them: fragments of a call are a second long, so files are gone soon after what is in them.
const SYNCS_PER_SEGMENT: u32 = 5;

struct Segment {
    path: PathBuf,
    /// Lanes not ended that begin in it.
    lanes: usize,
    bytes: u64,
}

/// What is appended to.
struct Current {
    number: u64,
    file: File,
    /// Not given to the file yet.
    buffer: Vec<u8>,
    syncs: u32,
}

pub(super) struct Segments {
    folder: PathBuf,
    run: Run,
    next: u64,
    all: BTreeMap<u64, Segment>,
    current: Option<Current>,
    bytes: u64,
}

impl Segments {
    /// Nothing is made before something is written.
    pub(super) fn new(folder: PathBuf, run: Run) -> Self {
        Self { folder, run, next: 0, all: BTreeMap::new(), current: None, bytes: 0 }
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a record; gives the number of its segment. It is durable after [`Self::sync`].
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<u64> {
        if let Some(current) = &self.current
            && self.all.get(&current.number).is_some_and(|s| s.bytes >= SEGMENT_BYTES)
        {
            self.close()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let begun = self.begin()?;
                self.current.insert(begun)
            }
        };
        current.buffer.extend_from_slice(record);
        let bytes = record.len() as u64;
        self.bytes += bytes;
        if let Some(segment) = self.all.get_mut(&current.number) {
            segment.bytes += bytes;
        }
        Ok(current.number)
    }

    fn begin(&mut self) -> io::Result<Current> {
        let number = self.next;
        let path = self.folder.join(format!("{}.{number:08x}{SUFFIX}", hex(&self.run.0)));
        let made = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path);
        let file = match made {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
                OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?
            }
            made => made?,
        };
        self.next += 1;
        let buffer = segment_head(&self.run);
        let bytes = buffer.len() as u64;
        self.bytes += bytes;
        self.all.insert(number, Segment { path, lanes: 0, bytes });
        // Without its entry in the folder a file is lost with the power, whatever is in it.
        File::open(&self.folder)?.sync_all()?;
        Ok(Current { number, file, buffer, syncs: 0 })
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.file.write_all(&current.buffer)?;
        current.buffer.clear();
        current.file.sync_data()?;
        current.syncs += 1;
        if current.syncs >= SYNCS_PER_SEGMENT {
            self.current = None;
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if let Some(mut current) = self.current.take() {
            current.file.write_all(&current.buffer)?;
            current.file.sync_data()?;
        }
        Ok(())
    }

    /// After a write that failed: what it left is the end of that file.
    pub(super) fn abandon(&mut self) {
        self.current = None;
    }

    /// A lane begins in that segment, whose files are kept from it on until the lane ends.
    pub(super) fn pin(&mut self, number: u64) {
        if let Some(segment) = self.all.get_mut(&number) {
            segment.lanes += 1;
        }
    }

    pub(super) fn unpin(&mut self, number: u64) {
        if let Some(segment) = self.all.get_mut(&number) {
            segment.lanes = segment.lanes.saturating_sub(1);
        }
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.all.contains_key(&number)
    }

    /// The oldest there is.
    pub(super) fn first(&self) -> Option<u64> {
        self.all.keys().next().copied()
    }

    /// Removes files from the front that no lane needs. One that cannot be removed is left for the next start.
    pub(super) fn trim(&mut self) {
        while let Some(oldest) = self.all.first_entry() {
            if oldest.get().lanes > 0 {
                break;
            }
            if self.current.as_ref().is_some_and(|c| c.number == *oldest.key()) {
                self.current = None;
            }
            let segment = oldest.remove();
            self.bytes -= segment.bytes;
            if let Err(error) = fs::remove_file(&segment.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a file of the journal cannot be removed");
            }
        }
    }
}

/// Files of earlier runs, with their sizes, each run's in the order they were written.
pub(super) fn left_over(folder: &Path, not_of: &Run) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let ours = hex(&not_of.0);
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|n| n.strip_suffix(SUFFIX)) else { continue };
        if name.len() == 2 * RUN_BYTES + 1 + 8 && !name.starts_with(&ours) {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}
