//! What is told to stand in a slot comes in it: where its publisher sends and both links are good, some of it in every ten seconds. A gap is
//! seen between two frames that came; this sees a slot that falls silent and stays so.

use std::time::{Duration, Instant};

use antiphon_base::Source;

use super::Checker;
use crate::client::Client;
use crate::net::Path;
use crate::world::Stall;

/// In every time so long something has to come.
const WITHIN: Duration = Duration::from_secs(10);
/// In each of so many parts of it the publisher has sent something.
const PARTS: u32 = 5;
/// For so long before it nothing was wrong, either: estimates have grown again, key frames were asked for and came.
const SETTLED: Duration = Duration::from_secs(10);

impl Checker<'_> {
    pub(super) fn check_flow(&mut self) {
        let told: Vec<_> = self.told().map(|(at, slot)| (at, slot.csrc.zip(slot.source))).collect();
        let end =
            self.client.vanished_at.into_iter().chain(self.client.closed).min().unwrap_or(self.world.now);
        for (i, (at, who)) in told.iter().enumerate() {
            let Some((key, source)) = *who else { continue };
            let until = told.get(i + 1).map_or(end, |(next, _)| (*next).min(end));
            let mut from = *at + SETTLED;
            while from + WITHIN <= until {
                if self.is_silent(key, from) && self.flows(key, source, from) {
                    let (id, mid, at) = (&self.client.profile.id, &self.slot.mid, from - self.world.base);
                    self.faults.push(format!(
                        "{id} mid {mid} at {at:?}: nothing of {key} came in {WITHIN:?}, whose {source:?} stands there"
                    ));
                    break;
                }
                from += WITHIN;
            }
        }
    }

    fn is_silent(&self, key: u32, from: Instant) -> bool {
        let within = |at: Instant| at >= from && at <= from + WITHIN;
        !self.slot.packets.iter().any(|p| p.csrc == Some(key) && within(p.at))
    }

    /// It is sent all the time, and nothing is wrong with its way to the client.
    fn flows(&self, key: u32, source: Source, from: Instant) -> bool {
        let publishes = |client: &&Client| {
            self.world.publishers.get(&client.number).is_some_and(|p| p.key.0 == key)
                && sends(client, source, from)
        };
        let stalled =
            |stall: &Stall| stall.from <= from + WITHIN && stall.to.is_none_or(|end| end + SETTLED >= from);
        let good = |client: &Client| {
            self.world
                .network
                .path(client.address)
                .is_some_and(|path| is_good(path, from - SETTLED, from + WITHIN))
        };
        !self.world.stalls.iter().any(stalled)
            && good(self.client)
            && self.world.clients.iter().filter(publishes).any(good)
    }
}

/// Something of it leaves in each part of the time.
fn sends(client: &Client, source: Source, from: Instant) -> bool {
    let senders = || client.senders.iter().filter(|s| s.source == source);
    (0..PARTS).all(|part| {
        let begin = from + WITHIN * part / PARTS;
        senders().any(|s| s.sent_between(begin, begin + WITHIN / PARTS))
    })
}

fn is_good(path: &Path, from: Instant, to: Instant) -> bool {
    let harmed = [&path.up, &path.down].iter().any(|link| link.did_harm(from, to) || link.was_full(from, to));
    !harmed && !path.was_hard(from, to)
}
