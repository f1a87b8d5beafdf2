//! From 20 ms frames of PCM to blocks at their places on the time axis, and from blocks to clusters. No clock, no I/O.

use antiphon_store::matroska::write;
use bytes::Bytes;

/// Milliseconds of a block: what contact centres send (1024 bytes of 8 kHz).
pub(crate) const BLOCK_MS: u64 = 64;
/// Milliseconds of a cluster, which is a fragment: 16 blocks of each track.
pub(crate) const CLUSTER_MS: u64 = 16 * BLOCK_MS;

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

/// Writes blocks into clusters, each of which becomes a fragment when the next begins.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    began_ms: Option<u64>,
}

impl Clusters {
    /// The bytes of a block, with the beginning of a cluster where one is due.
    pub(crate) fn block(&mut self, block: &Block) -> Vec<u8> {
        let relative = |began: u64| block.at_ms.checked_sub(began).filter(|ms| *ms < CLUSTER_MS);
        let mut bytes = Vec::new();
        let relative = self.began_ms.and_then(relative).unwrap_or_else(|| {
            // The time axis goes one way; a cluster does not begin before the one before it.
            let began = self.began_ms.map_or(block.at_ms, |began| began.max(block.at_ms));
            bytes = write::cluster_start(began);
            self.began_ms = Some(began);
            0
        });
        let relative = i16::try_from(relative).expect("below the length of a cluster");
        bytes.extend(write::simple_block(block.track, relative, &block.data));
        bytes
    }

    /// The open cluster was sealed: the next block begins another.
    pub(crate) fn sealed(&mut self) {
        self.began_ms = self.began_ms.map(|ms| ms.saturating_sub(CLUSTER_MS));
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
}
