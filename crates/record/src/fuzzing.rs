//! A door for the fuzz target to what is not public.

use crate::sound::{Documents, Sounding};
use crate::wav::{Wanted, Weave};

/// Bytes of a recorded track, made into files.
pub use crate::rooms::fuzz as recording;

/// Bytes of a stream, in pieces that begin as documents do, woven into a file's channels.
pub fn sound(bytes: &[u8]) {
    let (mut documents, mut weave) = (Documents::default(), Weave::new(Wanted::Stereo, 1_000, 8_000));
    for piece in pieces(bytes) {
        documents.push(piece);
        while let Some(sounding) = documents.poll() {
            match sounding {
                Sounding::Fragment { tracks, .. } => drop(weave.fragment(&tracks)),
                Sounding::Block { track, at_ms, pcm } => {
                    assert!(pcm.len() <= piece.len() && pcm.len() % 2 == 0);
                    weave.block(track, at_ms, &pcm);
                }
                Sounding::Missing => {}
            }
            // A hole may be hours long: one piece of it says as much as all.
            assert!(weave.poll().is_none_or(|bytes| bytes.len() % 4 == 0));
        }
    }
}

/// Bytes cut where documents begin.
pub(crate) fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let begins = |at: &usize| bytes[*at..].starts_with(&antiphon_store::matroska::id::EBML.to_be_bytes());
    let mut starts: Vec<usize> = (0..bytes.len()).filter(begins).collect();
    starts.push(bytes.len());
    starts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}
