//! What `sfuload --batches` has written, as wake-ups of the server: which peers got packets together, and of which sizes.
//!
//! The recording has the moment of each message, not the wake-up that it belongs to. A wake-up ends where nothing came for
//! [`GAP_NS`], or where a peer gets more after others had their turn: a server finishes each peer once in a wake-up.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Longer than it takes to encrypt for the peers of one call, shorter than what lies between packets of a stream.
const GAP_NS: u64 = 150_000;

/// One wake-up.
pub struct Wakeup {
    pub at_ns: u64,
    /// For each peer, in the order of sending, the sizes of its packets.
    pub batches: Vec<(usize, Vec<u16>)>,
}

/// All of a recording.
pub struct Recording {
    pub peers: usize,
    pub wakeups: Vec<Wakeup>,
}

/// Reads the first `seconds` of a recording.
pub fn read(path: &Path, seconds: f64) -> Result<Recording> {
    let bytes = std::fs::read(path)?;
    parse(&bytes, (seconds * 1e9) as u64)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "not a recording of sfuload"))
}

fn parse(bytes: &[u8], length_ns: u64) -> Option<Recording> {
    let mut rest = bytes;
    let (mut peers, mut wakeups): (HashMap<u32, usize>, Vec<Wakeup>) = (HashMap::new(), vec![]);
    let (mut first_ns, mut last_ns) = (None, 0);
    while !rest.is_empty() {
        let at_ns = u64::from_le_bytes(*rest.first_chunk()?);
        let peer = u32::from_le_bytes(*rest.get(8..)?.first_chunk()?);
        let count = usize::from(u16::from_le_bytes(*rest.get(12..)?.first_chunk()?));
        let sizes = rest.get(14..14 + 2 * count)?;
        rest = &rest[14 + 2 * count..];
        if at_ns - *first_ns.get_or_insert(at_ns) > length_ns {
            break;
        }
        let next = peers.len();
        let peer = *peers.entry(peer).or_insert(next);
        let sizes = sizes.chunks_exact(2).map(|s| u16::from_le_bytes([s[0], s[1]]));
        let gap = at_ns - std::mem::replace(&mut last_ns, at_ns) > GAP_NS;
        let again = |w: &Wakeup| {
            w.batches
                .split_last()
                .is_some_and(|((last, _), before)| *last != peer && before.iter().any(|(p, _)| *p == peer))
        };
        if gap || wakeups.last().is_none_or(again) {
            wakeups.push(Wakeup { at_ns, batches: vec![] });
        }
        let batches = &mut wakeups.last_mut()?.batches;
        match batches.last_mut() {
            Some((last, of_last)) if *last == peer => of_last.extend(sizes),
            _ => batches.push((peer, sizes.collect())),
        }
    }
    Some(Recording { peers: peers.len(), wakeups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted_into_wakeups() {
        let mut bytes = vec![];
        let messages = [
            (1_000_000_u64, 7_u32, &[100_u16, 90][..]),
            (1_002_000, 7, &[50]),
            (1_004_000, 9, &[100]),
            // The first one again after the second had its turn.
            (1_006_000, 7, &[80]),
            // A pause.
            (2_000_000, 9, &[70]),
            (9_000_000, 9, &[60]),
        ];
        for (at, peer, sizes) in messages {
            bytes.extend(at.to_le_bytes());
            bytes.extend(peer.to_le_bytes());
            bytes.extend((sizes.len() as u16).to_le_bytes());
            sizes.iter().for_each(|s| bytes.extend(s.to_le_bytes()));
        }
        let recording = parse(&bytes, 5_000_000).unwrap();
        let got: Vec<_> = recording.wakeups.iter().map(|w| (w.at_ns, w.batches.clone())).collect();
        let want = [
            (1_000_000, vec![(0, vec![100, 90, 50]), (1, vec![100])]),
            (1_006_000, vec![(0, vec![80])]),
            (2_000_000, vec![(1, vec![70])]),
        ];
        assert_eq!((recording.peers, got), (2, want.to_vec()));
        assert!(parse(&bytes[..20], 5_000_000).is_none());
    }
}
