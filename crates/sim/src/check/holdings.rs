//! The server holds no more than those who are there account for, and nothing when they have gone.

use std::time::Duration;

use antiphon_shard::Holdings;
use antiphon_shard::holdings::{Count, bounds};

use crate::world::World;

/// Four sources of at most four layers.
const FEEDS: usize = 16;
/// Layers that a slot gets and awaits.
const FEEDS_OF_A_SLOT: usize = 2;
/// Receive lines in the stories.
const SLOTS: usize = 8;
/// Until the last connection has ended without a word (20 s, if it never came up), its place is not kept any more (10 s in
/// the stories), and the empty room is not, either (30 s); and a round of housekeeping.
const UNTIL_ALL_IS_OVER: Duration = Duration::from_secs(61);

/// What `held` has more than so many connections (all that ever joined) on so many shards may have. Where one owner's share has a bound
/// of its own it is the owner with most that is looked at.
fn excess(held: &Holdings, joined: usize, shards: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut at_most = |what: &str, count: usize, limit: usize| {
        if count > limit {
            faults.push(format!("{count} {what}, more than {limit}"));
        }
    };
    at_most("peers", held.peers, joined);
    at_most("addresses", held.addresses, held.peers * bounds::ADDRESSES);
    at_most("user fragments", held.ufrags, held.peers);
    at_most("members", held.members, joined);
    // Who has gone is forgotten where the message of it has come.
    let unheard = held.waiting.all + held.ring_messages.all + held.flying_messages.all;
    at_most("feeds", held.feeds, (held.members + unheard) * FEEDS);
    at_most("routes", held.routes, held.peers * SLOTS * FEEDS_OF_A_SLOT);
    // One of each, and one of each shard's own.
    at_most("timers", held.timers, held.peers + held.rooms + shards);
    at_most("states of the gone", held.gone, shards * bounds::GONE);
    // Of all together: who has gone has left none of it.
    let mut each = |what: &str, count: Count, limit: usize, owners: usize| {
        at_most(what, count.most, limit);
        at_most(&format!("{what} of all"), count.all, owners * limit);
    };
    let (lines, links) = (held.peers * SLOTS, shards * shards);
    each("packets queued for a subscriber", held.queued, bounds::QUEUED, held.peers);
    each("packets asked for again", held.wanted, bounds::WANTED, held.peers);
    each("packets kept to be sent again", held.resendable, bounds::RESENDABLE, lines);
    each("packets to be repeated", held.repeated, bounds::REPEATED, lines);
    each("packets that feedback is to tell of", held.unanswered, bounds::UNANSWERED, held.peers);
    each("packets held for a switch", held.held, bounds::HELD, lines);
    each("packets held for their structure", held.early, bounds::EARLY, held.peers * FEEDS);
    each("happenings", held.happenings, bounds::HAPPENINGS, held.peers);
    each("messages for a peer", held.messages, bounds::MESSAGES, held.peers);
    each("commands", held.commands, bounds::COMMANDS, shards);
    // Those about nobody have no budget of their own: they are fewer than these.
    each("messages that wait for a ring", held.waiting, bounds::WAITING, joined);
    each("messages in a ring", held.ring_messages, bounds::RING_MESSAGES, links);
    // In the ring and before it.
    each("packets in a ring", held.ring_media, bounds::RING_MEDIA, 2 * links);
    // What is under way stands for what a ring holds of a shard that is slow.
    each("messages under way", held.flying_messages, bounds::RING_MESSAGES, links);
    each("packets under way", held.flying_media, bounds::RING_MEDIA, links);
    // Datagrams between rounds (what a command of the test has led to) are in it.
    each("bytes of a send buffer", held.arena_bytes, bounds::ARENA_BYTES, shards);
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
        // The shards' own housekeeping goes on; states of the gone are kept for who asks; a send buffer stays for the next round.
        let left = Holdings { timers: 0, gone: 0, arena_bytes: Count::default(), ..held };
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
        let full = Count { all: 2_048, most: 1_024 };
        assert!(excess(&Holdings { queued: full, resendable: full, ..sound }, 2, 1).is_empty());
        let of_one = |most| Count { all: most, most };
        for wrong in [
            Holdings { peers: 3, ..sound },
            Holdings { addresses: 17, ..sound },
            Holdings { ufrags: 3, ..sound },
            Holdings { members: 3, ..sound },
            Holdings { feeds: 33, ..sound },
            Holdings { routes: 33, ..sound },
            Holdings { timers: 5, ..sound },
            Holdings { gone: 2_049, ..sound },
            Holdings { queued: of_one(1_025), ..sound },
            Holdings { wanted: of_one(1_025), ..sound },
            Holdings { resendable: of_one(1_025), ..sound },
            Holdings { repeated: of_one(3), ..sound },
            Holdings { unanswered: of_one(4_097), ..sound },
            Holdings { held: of_one(385), ..sound },
            Holdings { early: of_one(129), ..sound },
            Holdings { happenings: of_one(4_097), ..sound },
            Holdings { messages: of_one(2_177), ..sound },
            Holdings { commands: Count { all: 16_385, most: 16_384 }, ..sound },
            Holdings { waiting: of_one(1_025), ..sound },
            Holdings { ring_messages: Count { all: 4_097, most: 4_096 }, ..sound },
            Holdings { ring_media: of_one(4_097), ..sound },
            Holdings { flying_messages: Count { all: 4_097, most: 4_096 }, ..sound },
            Holdings { flying_media: Count { all: 4_097, most: 4_096 }, ..sound },
            Holdings { arena_bytes: Count { all: 6_598_145, most: 6_598_144 }, ..sound },
            // Of somebody who has gone.
            Holdings { resendable: Count { all: 16_385, most: 1_024 }, ..sound },
        ] {
            assert_eq!(excess(&wrong, 2, 1).len(), 1, "{wrong:?}");
        }
    }
}
