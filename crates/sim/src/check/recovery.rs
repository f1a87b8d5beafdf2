//! After something bad has ended, a subscriber soon gets as much as before; and others notice nothing of it.

use std::time::{Duration, Instant};

use antiphon_base::MediaKind;

use crate::world::World;

/// How long it may take.
pub const WITHIN: Duration = Duration::from_secs(10);
/// How much of the rate before it must be there again, in percent.
const BACK_PERCENT: u64 = 80;
/// Over what time rates are taken: several pictures of each kind.
const WINDOW: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(100);

/// Bytes of video that came to a client in the window that ends at `end`.
fn bytes(world: &World, client: usize, end: Instant) -> u64 {
    let slots = world.clients[client].slots.iter().filter(|s| s.kind == MediaKind::Video);
    let packets = slots.flat_map(|s| &s.packets).filter(|p| p.at < end && p.at + WINDOW >= end);
    packets.map(|p| p.bytes as u64).sum()
}

/// A fault, unless what comes to `client` is back at 80 % at most ten seconds after `to`.
pub fn check(world: &World, client: usize, from: Instant, to: Instant) -> Option<String> {
    let before = bytes(world, client, from);
    let steps = WITHIN.as_millis() / STEP.as_millis();
    let ends =
        (0..=u32::try_from(steps).expect("a hundred")).map(|i| to + STEP * i).filter(|e| *e <= world.now);
    let best = ends.skip_while(|e| *e < to + WINDOW).map(|end| bytes(world, client, end)).max().unwrap_or(0);
    let id = &world.clients[client].profile.id;
    if before == 0 {
        return Some(format!("{id} got no video before anything bad happened"));
    }
    (best * 100 < before * BACK_PERCENT).then(|| {
        let times = (from - world.base, to - world.base);
        format!("{id}: {best} bytes in the best {WINDOW:?} after {times:?}, before it {before}")
    })
}

/// A fault, unless `client` got as much while it lasted as before.
pub fn unaffected(world: &World, client: usize, from: Instant, to: Instant) -> Option<String> {
    let before = bytes(world, client, from);
    let windows = (to - from).as_millis() / STEP.as_millis();
    let ends = (0..=u32::try_from(windows).expect("a minute at most")).map(|i| from + STEP * i);
    let least = ends.map(|end| bytes(world, client, end)).min().unwrap_or(0);
    let id = &world.clients[client].profile.id;
    (least * 100 < before * BACK_PERCENT).then(|| {
        format!("{id}: {least} bytes in {WINDOW:?} while another's link was bad, before it {before}")
    })
}
