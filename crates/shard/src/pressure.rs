//! How busy the shards of a room are, told to its engine: whom a busy one serves gets fewer videos.

use std::time::Instant;

use crate::core::Core;

impl Core {
    /// The share of a core that this shard's thread used over the last second, in thousandths. Rooms at home here hear of
    /// it, and of what the shards of their branches have left in the common loads.
    pub(crate) fn set_load(&mut self, now: Instant, permille: u64) {
        self.metrics.busy_permille = permille;
        self.loads.set_busy(self.shard, permille);
        for room in 0..self.hosts.len() {
            let (shard, loads) = (self.shard, self.loads.clone());
            self.with_home(now, room, |home| {
                home.room.load(now, shard, permille);
                for branch in &home.branches {
                    home.room.load(now, *branch, loads.busy_permille(*branch));
                }
            });
        }
    }
}
