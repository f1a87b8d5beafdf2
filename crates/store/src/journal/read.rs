//! What earlier runs left: first which lanes there are, then one lane at a time, so that memory is bounded by one file or lane.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;

use super::format::{Begin, Kind, Records, Run, Whose, run_of};
use crate::crypt::DataKey;
use crate::layout::Uid;

/// Bytes of a file that are looked at: a segment and the largest record, with room. What is behind is a damaged tail.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Records of all files: what a gigabyte has with one record for each fragment and sync of a call of PCM, many times over.
const MAX_RECORDS: usize = 4 << 20;

/// Where a record's body is.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    file: usize,
    kind: Kind,
    body: Range<usize>,
}

/// A lane that was not ended.
#[derive(Debug)]
pub(crate) struct Left {
    run: Run,
    lane: u64,
    whose: Whose,
    records: Vec<Place>,
}

/// The lanes of some files.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    files: Vec<PathBuf>,
    pub(crate) lanes: Vec<Left>,
}

/// What a lane has of its fragment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) begin: Begin,
    /// Whole elements, in the order they came.
    pub(crate) media: Vec<Bytes>,
    /// It was stored, or was not to be.
    pub(crate) ended: bool,
}

/// Lanes while files are gone through.
#[derive(Default)]
pub(super) struct Lanes {
    all: BTreeMap<(Run, u64), Left>,
    records: usize,
}

impl Lanes {
    /// Takes in one file. Those of a run have to come in the order they were written.
    pub(super) fn add(&mut self, file: usize, segment: &[u8], account: &DataKey) {
        let Some(run) = run_of(segment) else { return };
        let opens = account.sequence_key(&[&run.0]);
        for record in Records::new(segment) {
            if self.records >= MAX_RECORDS {
                return;
            }
            self.records += 1;
            let (lane, kind) = (record.lane, record.kind);
            if kind == Kind::Open {
                let whose = opens.open(lane, &kind.aad(), &segment[record.body]);
                if let Some(whose) = whose.as_deref().and_then(Whose::decode) {
                    // One that is there twice is not ours the second time.
                    let left = Left { run, lane, whose, records: Vec::new() };
                    self.all.entry((run, lane)).or_insert(left);
                }
            } else if let Some(left) = self.all.get_mut(&(run, lane)) {
                left.records.push(Place { file, kind, body: record.body });
            }
        }
    }

    pub(super) fn done(self) -> Vec<Left> {
        self.all.into_values().collect()
    }
}

impl Left {
    pub(crate) fn uid(&self) -> Uid {
        self.whose.uid
    }

    pub(crate) fn key_id(&self) -> u32 {
        self.whose.key_id
    }

    /// Reads the lane's records up to the first that is not what was written there; `body` gives the bytes of one.
    pub(super) fn read(
        &self,
        key: &DataKey,
        mut body: impl FnMut(usize, &Range<usize>) -> Option<Vec<u8>>,
    ) -> Option<Found> {
        let key = key.sequence_key(&[&self.run.0, &self.lane.to_be_bytes()]);
        let mut found: Option<Found> = None;
        for (number, place) in (0..).zip(&self.records) {
            let sealed = body(place.file, &place.body);
            let Some(plain) = sealed.and_then(|sealed| key.open(number, &place.kind.aad(), &sealed)) else {
                break;
            };
            match (place.kind, &mut found) {
                (Kind::Begin, None) => {
                    found = Some(Found { begin: Begin::decode(&plain)?, media: Vec::new(), ended: false });
                }
                (Kind::Media, Some(found)) => found.media.push(plain.into()),
                (Kind::End, Some(found)) => found.ended = true,
                _ => break,
            }
        }
        found
    }
}

impl Scan {
    pub(super) fn new(files: Vec<PathBuf>, account: &DataKey) -> io::Result<Self> {
        let mut lanes = Lanes::default();
        for (number, path) in files.iter().enumerate() {
            let mut segment = Vec::new();
            File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut segment)?;
            lanes.add(number, &segment, account);
        }
        Ok(Self { files, lanes: lanes.done() })
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What a lane has, with its stream's key. Blocks on the disk.
    pub(crate) fn read(&self, left: &Left, key: &DataKey) -> Option<Found> {
        let mut open: Option<(usize, File)> = None;
        left.read(key, |file, range| {
            if open.as_ref().is_none_or(|(number, _)| *number != file) {
                open = Some((file, File::open(self.files.get(file)?).ok()?));
            }
            let mut body = vec![0; range.len()];
            open.as_ref()?.1.read_exact_at(&mut body, range.start as u64).ok()?;
            Some(body)
        })
    }

    /// All of it is stored or is not to be: removes the files.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.files.iter().try_for_each(std::fs::remove_file)
    }
}
