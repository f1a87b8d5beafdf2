//! How busy the shards of a room are, told to its engine: above a limit it serves fewer videos.

use std::time::Instant;

use crate::core::Core;
use crate::home::Member;

impl Core {
    /// The share of time that this shard was not waiting over the last second, in thousandths. Rooms at home here hear of
    /// the busiest of the shards that serve their peers; the others have left theirs in the common loads.
    pub(crate) fn set_load(&mut self, now: Instant, permille: u64) {
        self.metrics.busy_permille = permille;
        self.loads.set_busy(self.shard, permille);
        for room in 0..self.hosts.len() {
            let loads = self.loads.clone();
            self.with_home(now, room, |home| {
                let away = home.members.values().filter_map(|member| match member {
                    Member::Away(away) => Some(loads.busy_permille(away.shard)),
                    _ => None,
                });
                let busiest = away.fold(permille, u64::max);
                home.room.load(now, busiest);
            });
        }
    }
}
