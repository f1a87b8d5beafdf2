//! How busy the shards of a room are, told to its engine: whom a busy one serves gets fewer videos.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::core::Core;

impl Core {
    /// The share of a core that this shard's thread used over the last second, in thousandths. Rooms at home here hear of
    /// it at once; the homes of branches here are told.
    pub(crate) fn set_load(&mut self, now: Instant, permille: u64) {
        self.metrics.busy_permille = permille;
        self.loads.set_busy(self.shard, permille);
        let mut homes = BTreeSet::new();
        for room in 0..self.hosts.len() {
            let home = self.id_of(room).home;
            if home == self.shard {
                let shard = self.shard;
                self.with_home(now, room, |home| home.room.load(now, shard, permille));
            } else {
                homes.insert(home);
            }
        }
        for home in homes {
            self.links.busy(home, permille);
        }
    }

    /// Another shard, on which rooms at home here have peers, says how busy it is.
    pub(crate) fn hear_load(&mut self, now: Instant, from: u16, permille: u64) {
        for room in 0..self.hosts.len() {
            if self.home(room).is_some_and(|home| home.branches.contains(&from)) {
                self.with_home(now, room, |home| home.room.load(now, from, permille));
            }
        }
    }
}
