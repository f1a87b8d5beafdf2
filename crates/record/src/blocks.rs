//! From 20 ms frames of PCM to blocks at their places on the time axis, and from blocks to clusters. No clock, no I/O.

use antiphon_store::matroska::write;
use bytes::Bytes;

use crate::take::Frame;

/// Milliseconds of a block: what contact centres send (1024 bytes of 8 kHz).
pub(crate) const BLOCK_MS: u64 = 64;
/// Milliseconds of a cluster, which is a fragment: 16 blocks of each track.
pub(crate) const CLUSTER_MS: u64 = 16 * BLOCK_MS;

/// Milliseconds of a cluster with pictures, where no key picture comes: twice the time in which one is asked for.
const PICTURED_MS: u64 = 4_096;
/// A key picture that comes sooner after one that began a cluster begins none: a camera that sends nothing else would make a
/// fragment, and a file, of each. Five in a second are as many as Amazon takes.
const MIN_KEYED_MS: u64 = 200;
/// Bytes of a cluster: 16 Mbit/s. The store takes 50 MB.
const MAX_CLUSTER_BYTES: usize = 8 << 20;

/// A frame of one track in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// 1, 2, …
    pub(crate) track: u8,
    pub(crate) data: Bytes,
}

/// Makes blocks of equal length of the PCM of one or two tracks, which go side by side.
#[derive(Debug)]
pub(crate) struct Blocks {
    rate: u32,
    start_ms: u64,
    /// Samples of each track before those that wait.
    done: u64,
    waiting: Vec<Vec<i16>>,
}

impl Blocks {
    /// Of `tracks` tracks, the first sample of which is at `start_ms`.
    pub(crate) fn new(rate: u32, tracks: usize, start_ms: u64) -> Self {
        Self { rate, start_ms, done: 0, waiting: vec![Vec::new(); tracks] }
    }

    /// Takes a frame of each track, all of one length.
    pub(crate) fn push(&mut self, frames: &[&[i16]]) -> Vec<Block> {
        for (waiting, frame) in self.waiting.iter_mut().zip(frames) {
            waiting.extend_from_slice(frame);
        }
        let len = usize::try_from(u64::from(self.rate) * BLOCK_MS / 1000).expect("thousands");
        let mut out = Vec::new();
        while self.waiting[0].len() >= len {
            self.cut(len, &mut out);
        }
        out
    }

    /// What waits, as shorter blocks.
    pub(crate) fn finish(&mut self) -> Vec<Block> {
        let mut out = Vec::new();
        let len = self.waiting[0].len();
        if len > 0 {
            self.cut(len, &mut out);
        }
        out
    }

    fn cut(&mut self, len: usize, out: &mut Vec<Block>) {
        let at_ms = self.start_ms + self.done * 1000 / u64::from(self.rate);
        for (waiting, track) in self.waiting.iter_mut().zip(1..) {
            let data: Vec<u8> = waiting.drain(..len).flat_map(i16::to_le_bytes).collect();
            out.push(Block { at_ms, track, data: data.into() });
        }
        self.done += len as u64;
    }
}

/// Writes blocks and pictures into clusters, each of which becomes a fragment when the next begins: one begins with each key
/// picture, else a cluster of sound is as long as sixteen blocks, and one with pictures waits for the next key picture.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    open: Option<Open>,
    /// When the newest began: the time axis goes one way, and a cluster does not begin before the one before it.
    began_ms: u64,
    /// The next picture is not before this.
    next_picture_ms: u64,
}

#[derive(Debug)]
struct Open {
    /// It began with a key picture.
    keyed: bool,
    pictured: bool,
    bytes: usize,
}

impl Clusters {
    /// The bytes of a block of sound, with the beginning of a cluster where one is due.
    pub(crate) fn block(&mut self, block: &Block) -> Vec<u8> {
        let (mut bytes, relative) = self.place(block.at_ms, block.data.len(), false);
        bytes.extend(write::simple_block(block.track, relative, &block.data));
        bytes
    }

    /// The bytes of a picture, in the same way.
    pub(crate) fn picture(&mut self, frame: &Frame, track: u8) -> Vec<u8> {
        let (at_ms, again_ms) = (frame.at_ms.max(self.next_picture_ms), self.began_ms + MIN_KEYED_MS);
        let cut = frame.key && !self.open.as_ref().is_some_and(|open| open.keyed && at_ms < again_ms);
        let (mut bytes, relative) = self.place(at_ms, frame.data.len(), cut);
        // One that came late may have been before its cluster: no two have one time.
        self.next_picture_ms = at_ms.max(self.began_ms) + 1;
        if let Some(open) = &mut self.open {
            open.keyed |= cut;
            open.pictured = true;
        }
        bytes.extend(write::frame_block(track, relative, frame.key, &frame.data));
        bytes
    }

    /// Where in its cluster something stands; with the beginning of one where that is due, or has to be (`cut`).
    fn place(&mut self, at_ms: u64, len: usize, cut: bool) -> (Vec<u8>, i16) {
        let since = |began_ms: u64| at_ms.saturating_sub(began_ms);
        let mut head = Vec::new();
        let fits = self.open.as_mut().filter(|open| {
            let limit_ms = if open.pictured { PICTURED_MS } else { CLUSTER_MS };
            !cut && since(self.began_ms) < limit_ms && open.bytes + len <= MAX_CLUSTER_BYTES
        });
        match fits {
            Some(open) => open.bytes += len,
            None => {
                self.began_ms = self.began_ms.max(at_ms);
                head = write::cluster_start(self.began_ms);
                self.open = Some(Open { keyed: false, pictured: false, bytes: len });
            }
        }
        (head, i16::try_from(since(self.began_ms)).expect("below the length of a cluster"))
    }

    /// The open cluster was sealed: what comes next begins another.
    pub(crate) fn sealed(&mut self) {
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_on_the_time_axis_whatever_the_rate() {
        for (rate, len, bytes) in [(8_000, 160, 1024), (16_000, 320, 2048), (48_000, 960, 6144)] {
            let mut blocks = Blocks::new(rate, 2, 1_000_000);
            let frame = vec![7_i16; len];
            let mut all: Vec<Block> = (0..160).flat_map(|_| blocks.push(&[&frame, &frame])).collect();
            assert!(all.iter().all(|b| b.data.len() == bytes));
            let times: Vec<_> = all.iter().filter(|b| b.track == 1).map(|b| b.at_ms).collect();
            assert_eq!(times, (0..50).map(|i| 1_000_000 + i * 64).collect::<Vec<_>>());
            assert_eq!(all.len(), 100);
            blocks.push(&[&frame, &frame]);
            all = blocks.finish();
            assert_eq!(all.iter().map(|b| b.data.len()).collect::<Vec<_>>(), [len * 2, len * 2]);
            assert_eq!((all[0].at_ms, blocks.finish().len()), (1_003_200, 0));
        }
    }

    #[test]
    fn clusters_hold_sixteen_blocks_of_a_track_and_a_lost_block_moves_nothing() {
        let block =
            |i: u64, track| Block { at_ms: 5_000 + i * BLOCK_MS, track, data: Bytes::from_static(b"xy") };
        let mut clusters = Clusters::default();
        let starts = |bytes: &[u8]| bytes.starts_with(&write::live_cluster_head());
        let begun: Vec<u64> = (0..64).filter(|i| starts(&clusters.block(&block(*i, 1)))).collect();
        assert_eq!(begun, [0, 16, 32, 48]);
        // 64 to 69 were lost.
        assert!(starts(&clusters.block(&block(70, 1))));
        assert_eq!(clusters.block(&block(70, 2)), write::simple_block(2, 0, b"xy"));
        assert_eq!(clusters.block(&block(71, 1)), write::simple_block(1, 64, b"xy"));
        clusters.sealed();
        assert!(starts(&clusters.block(&block(72, 1))));
    }

    #[test]
    fn a_cluster_with_pictures_lasts_from_key_picture_to_key_picture() {
        let mut clusters = Clusters::default();
        let mut starts = Vec::new();
        let mut note = |at_ms: u64, bytes: Vec<u8>| {
            if bytes.starts_with(&write::live_cluster_head()) {
                starts.push(at_ms);
            }
        };
        // A picture each 32 ms; a key picture at 1 s, shortly after that, at 3 s, and then none any more.
        for at_ms in (0..12_000_u64).step_by(32) {
            let key = [1_024, 1_056, 3_008].contains(&at_ms);
            if (1_024..9_000).contains(&at_ms) {
                let frame = Frame { at_ms, key, data: Bytes::from_static(b"v") };
                note(at_ms, clusters.picture(&frame, 2));
            }
            if at_ms % 64 == 0 {
                note(at_ms, clusters.block(&Block { at_ms, track: 1, data: Bytes::from_static(b"xy") }));
            }
        }
        // Sound alone; from key to key; as long as may be; what is left of pictures; sound alone.
        assert_eq!(starts, [0, 1_024, 3_008, 7_104, 11_200]);
    }

    #[test]
    fn a_cluster_is_no_larger_than_the_store_takes_and_time_goes_one_way() {
        let mut clusters = Clusters::default();
        let large = |at_ms| Frame { at_ms, key: false, data: vec![0; 3 << 20].into() };
        let starts = |bytes: &[u8]| bytes.starts_with(&write::live_cluster_head());
        let begun: Vec<u64> = (0..6).filter(|i| starts(&clusters.picture(&large(*i), 1))).collect();
        assert_eq!(begun, [0, 2, 4]);
        let early = clusters.picture(&Frame { at_ms: 1, key: true, data: Bytes::from_static(b"k") }, 1);
        // A cluster is not before the one before it, and a picture is behind the one before it.
        let first = write::frame_block(1, 0, true, b"k");
        assert_eq!(early, [write::cluster_start(6), first].concat());
        let late = clusters.picture(&Frame { at_ms: 2, key: false, data: Bytes::from_static(b"v") }, 1);
        assert_eq!(late, write::frame_block(1, 1, false, b"v"));
    }
}
