//! How busy a shard is, told to its rooms: above a limit they serve fewer videos.

use std::time::Instant;

use crate::core::Core;

impl Core {
    /// The share of time not waiting over the last second, in thousandths.
    pub(crate) fn set_load(&mut self, now: Instant, permille: u64) {
        self.metrics.busy_permille = permille;
        for room in 0..self.hosts.len() {
            self.with_host(now, room, |host| host.room.load(now, permille));
        }
    }
}
