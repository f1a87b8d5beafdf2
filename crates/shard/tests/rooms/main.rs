//! Whole rooms: the real shard and real WebRTC peers in virtual time, on a simulated network (`antiphon_sim`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod asking;
mod attached;
mod bandwidth;
mod chaos;
mod crowd;
mod early;
mod flood;
mod golden;
mod hostile;
mod injections;
mod layers;
mod lossy;
mod meeting;
mod moderation;
mod offered;
mod opus;
mod outages;
mod players;
mod reach;
mod reports;
mod restarting;
mod returning;
mod sealing;
mod service;
mod shards;
mod sockets;
mod speakers;
mod spread;
mod stress;
mod topics;

use std::time::Duration;

use antiphon_sim::World;

/// Waits until a client got a message for which `is` holds.
fn until_told(
    world: &mut World,
    client: usize,
    what: &str,
    is: impl Fn(&antiphon_wire::control::ServerMessage) -> bool,
) {
    world.until(Duration::from_secs(5), what, |w| w.clients[client].messages.iter().any(|(_, m)| is(m)));
}

/// Frames that a client got of a publisher's source and layer.
fn frames_of(
    world: &World,
    client: usize,
    publisher: usize,
    source: antiphon_base::Source,
    layer: u8,
) -> u64 {
    let publisher = u16::try_from(publisher).unwrap();
    let got = world.check().of(client);
    got.from.get(&(publisher, source.index(), layer)).copied().unwrap_or(0)
}
