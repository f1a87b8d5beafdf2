//! The server holds no more than those who are there account for, and nothing when they have gone.

use std::time::Duration;

use antiphon_shard::Holdings;

use crate::world::World;

/// Addresses one connection may send from (`MAX_ADDRESSES` of the shard).
const ADDRESSES: usize = 8;
/// Four sources of at most four layers.
const FEEDS: usize = 16;
/// Layers that a slot gets and awaits.
const FEEDS_OF_A_SLOT: usize = 2;
/// Receive lines in the stories.
const SLOTS: usize = 8;
/// States of those who have gone (`MAX_GONE` of the shard).
const GONE: usize = 2_048;
/// Until the last connection has ended without a word (20 s, if it never came up), its place is not kept any more (10 s in
/// the stories), and the empty room is not, either (30 s); and a round of housekeeping.
const UNTIL_ALL_IS_OVER: Duration = Duration::from_secs(61);

/// What `held` has more than so many connections (all that ever joined) on so many shards may have.
fn excess(held: &Holdings, joined: usize, shards: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut at_most = |what: &str, count: usize, limit: usize| {
        if count > limit {
            faults.push(format!("{count} {what}, more than {limit}"));
        }
    };
    at_most("peers", held.peers, joined);
    at_most("addresses", held.addresses, held.peers * ADDRESSES);
    at_most("user fragments", held.ufrags, held.peers);
    at_most("members", held.members, joined);
    at_most("feeds", held.feeds, held.members * FEEDS);
    at_most("routes", held.routes, held.peers * SLOTS * FEEDS_OF_A_SLOT);
    // One of each, and one of each shard's own.
    at_most("timers", held.timers, held.peers + held.rooms + shards);
    at_most("states of the gone", held.gone, GONE);
    faults
}

impl World {
    /// Faults: the server holds more than those who are there account for.
    pub fn excess(&self) -> Vec<String> {
        excess(&self.engine.holdings(), self.clients.len(), self.shards())
    }

    /// Lets everybody vanish, waits until all is over, and gives as faults what the server still holds.
    pub fn leftovers(&mut self) -> Vec<String> {
        (0..self.clients.len()).for_each(|client| self.vanish(client));
        self.run(UNTIL_ALL_IS_OVER);
        let held = self.engine.holdings();
        let left = Holdings { timers: 0, gone: 0, ..held };
        let mut faults = excess(&held, 0, self.shards());
        if left != Holdings::default() {
            faults.push(format!("all have gone, and there is still {held:?}"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_accounts_for_is_a_fault() {
        let sound = Holdings {
            peers: 2,
            addresses: 3,
            ufrags: 2,
            rooms: 1,
            members: 2,
            timers: 4,
            ..Holdings::default()
        };
        assert!(excess(&sound, 2, 1).is_empty());
        for wrong in [
            Holdings { peers: 3, ..sound },
            Holdings { addresses: 17, ..sound },
            Holdings { ufrags: 3, ..sound },
            Holdings { members: 3, ..sound },
            Holdings { feeds: 33, ..sound },
            Holdings { routes: 33, ..sound },
            Holdings { timers: 5, ..sound },
            Holdings { gone: 2_049, ..sound },
        ] {
            assert_eq!(excess(&wrong, 2, 1).len(), 1, "{wrong:?}");
        }
    }
}
