//! Doors for the fuzz targets to parsers that are not public.

use object_store::path::Path;

use crate::crypt::DataKey;
use crate::ingest::{Event, Ingest, Rules, Timecodes};
use crate::key::Secret;
use crate::layout::{Kind, Layout};
use crate::sealed;

/// A producer that sends `bytes` in pieces of `piece` bytes; gives how many fragments were announced and how many sealed.
pub fn ingest(bytes: &[u8], piece: usize) -> (usize, usize) {
    let rules = Rules { header_bytes: 16 << 10, fragment_bytes: 64 << 10, ..Rules::default() };
    let mut ingest = Ingest::new(rules, Timecodes::Absolute);
    let (mut opened, mut sealed) = (0, 0);
    let mut count = |ingest: &mut Ingest| {
        while let Some(event) = ingest.poll() {
            match event {
                Event::Opened(_) => opened += 1,
                Event::Sealed(_) => sealed += 1,
                Event::Live(_) => {}
            }
        }
    };
    let pushed = bytes.chunks(piece.max(1)).try_for_each(|piece| {
        let pushed = ingest.push(piece, 0);
        count(&mut ingest);
        pushed
    });
    if pushed.is_ok() {
        let _ = ingest.finish();
        count(&mut ingest);
    }
    (opened, sealed)
}

/// An object's bytes as each kind of sealed object, its checksum being made right.
pub fn object(bytes: &[u8]) {
    let path = Path::from("p");
    let key = DataKey::new(&Secret([1; 32]), "fuzz");
    let object = sealed::finish(bytes.to_vec());
    assert!(sealed::open_fragment(&path, &key, &object).is_err(), "nobody guesses an authentication tag");
    assert!(sealed::open_small(&path, &key, &object).is_err(), "nobody guesses an authentication tag");
    let _ = sealed::fragment_meta(&path, &object);
}

/// What a journal's reader may find: see the module.
pub fn journal(bytes: &[u8]) {
    crate::journal::fuzz::run(bytes);
}

/// What is asked of a stream by time or number: see the module.
pub fn selectors(bytes: &[u8]) {
    crate::selectors_fuzz::run(bytes);
}

/// A path of the storage.
pub fn path(text: &str) {
    let layout = Layout::new("0");
    let path = Path::from(format!("v1/0/{text}"));
    if let Kind::Fragment(uid, entry) = layout.kind(&path) {
        assert_eq!(layout.fragment(uid, &entry), path);
    }
}
