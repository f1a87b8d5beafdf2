//! What a call sends: Matroska with two tracks of PCM whose blocks say when they were sent.

use std::time::Duration;

/// Milliseconds of one block.
pub(crate) const BLOCK_MS: u64 = 64;
/// Bytes of it: 8 kHz, 16 bit.
const BLOCK: usize = 1024;
/// Before a time in a block. Zeroes follow, so nothing else looks like it.
const MARK: [u8; 8] = *b"\xa7kvsload";

fn element(id: &[u8], data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap_or_default() | 1 << 28;
    [id, &size.to_be_bytes(), data].concat()
}

const UNKNOWN: [u8; 8] = [1, 255, 255, 255, 255, 255, 255, 255];

/// All before the first cluster.
pub(crate) fn header() -> Vec<u8> {
    let sound =
        [element(&[0xb5], &8000f64.to_be_bytes()), element(&[0x9f], &[1]), element(&[0x62, 0x64], &[16])];
    let track = |number: u8| {
        let parts = [
            element(&[0xd7], &[number]),
            element(&[0x83], &[2]),
            element(&[0x86], b"A_PCM/INT/LIT"),
            element(&[0xe1], &sound.concat()),
        ];
        element(&[0xae], &parts.concat())
    };
    [
        element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"matroska")),
        [&[0x18, 0x53, 0x80, 0x67][..], &UNKNOWN].concat(),
        element(&[0x15, 0x49, 0xa9, 0x66], &element(&[0x2a, 0xd7, 0xb1], &1_000_000u32.to_be_bytes()[1..])),
        element(&[0x16, 0x54, 0xae, 0x6b], &[track(1), track(2)].concat()),
    ]
    .concat()
}

/// The head of a cluster at a time.
pub(crate) fn cluster(at_ms: u64) -> Vec<u8> {
    [&[0x1f, 0x43, 0xb6, 0x75][..], &UNKNOWN, &element(&[0xe7], &at_ms.to_be_bytes())].concat()
}

/// A block of each track.
pub(crate) fn block_pair(in_cluster: u64, now: Duration) -> Vec<u8> {
    let at = u16::try_from(in_cluster * BLOCK_MS).unwrap_or_default().to_be_bytes();
    let nanos = u64::try_from(now.as_nanos()).unwrap_or_default();
    let mut out = Vec::new();
    for track in [0x81, 0x82] {
        let mut data = vec![track, at[0], at[1], 0x80];
        data.extend(MARK);
        data.extend(nanos.to_be_bytes());
        data.resize(4 + BLOCK, 0);
        out.extend(element(&[0xa3], &data));
    }
    out
}

/// Finds the times in what was received, wherever it is cut.
#[derive(Default)]
pub(crate) struct Stamps(Vec<u8>);

impl Stamps {
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Vec<Duration> {
        self.0.extend_from_slice(bytes);
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(next) = self.0[at..].windows(MARK.len()).position(|w| w == MARK) {
            let begin = at + next + MARK.len();
            let Some(time) = self.0.get(begin..begin + 8) else {
                at += next;
                break;
            };
            let nanos = time.iter().fold(0u64, |nanos, byte| nanos << 8 | u64::from(*byte));
            found.push(Duration::from_nanos(nanos));
            at = begin + 8;
        }
        // A mark may begin in the last bytes.
        let keep = at.max(self.0.len().saturating_sub(MARK.len() + 8));
        self.0.drain(..keep);
        found
    }
}
