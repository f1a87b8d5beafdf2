//! How loaded each shard is, and to which a new peer goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_base::RoomName;

/// What one receive line costs at the most, in millionths of a core: 200 packets per second at 2 us. Voices cost a quarter;
/// too high an estimate spreads a room early, which costs little, one too low overloads its home.
const LINE_PPM: u64 = 400;
/// What a peer costs beside its lines, in lines: connectivity checks, reports, timers, what it sends.
const PEER_LINES: u64 = 2;
/// A shard must be less loaded than another by this share of the threshold to be chosen, in percent: as long as no other
/// is clearly better, a room stays together.
const MARGIN_PERCENT: u64 = 40;

/// The loads of all shards of this process. Each writes its own; joins read all.
#[derive(Debug)]
pub(crate) struct Loads(Vec<Load>);

#[derive(Debug, Default)]
struct Load {
    peers: AtomicU64,
    lines: AtomicU64,
    busy_permille: AtomicU64,
}

impl Loads {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Load::default()).collect())
    }

    /// A peer with so many receive lines is on `shard` from now on.
    pub(crate) fn enter(&self, shard: u16, lines: usize) {
        if let Some(load) = self.0.get(usize::from(shard)) {
            load.peers.fetch_add(1, Ordering::Relaxed);
            load.lines.fetch_add(lines as u64 + PEER_LINES, Ordering::Relaxed);
        }
    }

    /// It is gone.
    pub(crate) fn leave(&self, shard: u16, lines: usize) {
        if let Some(load) = self.0.get(usize::from(shard)) {
            load.peers.fetch_sub(1, Ordering::Relaxed);
            load.lines.fetch_sub(lines as u64 + PEER_LINES, Ordering::Relaxed);
        }
    }

    /// What share of the last second `shard` was not waiting, in thousandths.
    pub(crate) fn set_busy(&self, shard: u16, permille: u64) {
        if let Some(load) = self.0.get(usize::from(shard)) {
            load.busy_permille.store(permille, Ordering::Relaxed);
        }
    }

    /// As last set.
    pub(crate) fn busy_permille(&self, shard: u16) -> u64 {
        self.0.get(usize::from(shard)).map_or(0, |load| load.busy_permille.load(Ordering::Relaxed))
    }

    /// How many there are.
    pub(crate) fn shards(&self) -> usize {
        self.0.len()
    }

    /// Peers on all shards.
    pub(crate) fn peers(&self) -> u64 {
        self.0.iter().map(|load| load.peers.load(Ordering::Relaxed)).sum()
    }

    fn shares(&self) -> Vec<u64> {
        self.0.iter().map(Load::ppm).collect()
    }
}

/// Where the next peers go. Used where offers are answered, off the packet threads.
#[derive(Debug)]
pub(crate) struct Placement {
    loads: Arc<Loads>,
    above: u64,
    /// Where the last peer of a room went, if not to its home. A hint: losing it splits a room for nothing, no more.
    last: Mutex<HashMap<RoomName, usize>>,
    max_rooms: usize,
}

impl Placement {
    /// Shards loaded for more than `above` (0 to 1) give new peers away. Remembers at most `max_rooms`.
    pub(crate) fn new(loads: Arc<Loads>, above: f64, max_rooms: usize) -> Self {
        Self { loads, above: ppm(above), last: Mutex::new(HashMap::new()), max_rooms }
    }

    /// The home of a room: the same on every call, whoever asks.
    pub(crate) fn home(&self, room: &RoomName) -> usize {
        // FNV-1a: spreads names, needs no state, and is the same in every build.
        let hash = room
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        usize::try_from(hash % self.loads.0.len().max(1) as u64).expect("a remainder of a usize is one")
    }

    /// The shard for a new peer of a room.
    pub(crate) fn choose(&self, room: &RoomName) -> usize {
        let home = self.home(room);
        if self.loads.0.len() < 2 {
            return home;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = choose(home, last.get(room).copied().unwrap_or(home), self.above, &self.loads.shares());
        if chosen == home {
            last.remove(room);
        } else {
            if last.len() >= self.max_rooms && !last.contains_key(room) {
                last.clear();
            }
            last.insert(room.clone(), chosen);
        }
        chosen
    }
}

impl Load {
    /// The higher of what was measured and what the lines will cost: the measurement is a second old, and those who have
    /// just come cost nothing yet.
    fn ppm(&self) -> u64 {
        let measured = self.busy_permille.load(Ordering::Relaxed) * 1_000;
        measured.max(self.lines.load(Ordering::Relaxed) * LINE_PPM)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before the cast")]
fn ppm(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1e6) as u64
}

/// The home, where it is clearly less loaded than `above`; else where the `last` one went, while that is loaded for no more
/// than `above`, or no other is clearly less loaded; else the next one that is, counted from there. So the peers of a small
/// room follow each other, and those of a large one come in waves that even out.
fn choose(home: usize, last: usize, above: u64, shares: &[u64]) -> usize {
    let share = |shard: usize| shares.get(shard).copied().unwrap_or(u64::MAX);
    let margin = above * MARGIN_PERCENT / 100;
    if share(home).saturating_add(margin) <= above {
        return home;
    }
    if share(last) <= above {
        return last;
    }
    let mut others = (1..shares.len()).map(|i| (last + i) % shares.len());
    others.find(|i| share(*i).saturating_add(margin) < share(last)).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOVE: u64 = 250_000;

    fn placement(loads: &Arc<Loads>, above: f64) -> Placement {
        Placement::new(loads.clone(), above, 2)
    }

    /// A name whose home is this shard.
    fn room(placement: &Placement, home: usize) -> RoomName {
        let names = (0..64).map(|i| RoomName::new(&format!("room-{i}")).unwrap());
        names.into_iter().find(|name| placement.home(name) == home).unwrap()
    }

    #[test]
    fn a_room_stays_at_home_while_there_is_room() {
        assert_eq!(choose(1, 1, ABOVE, &[0, 250_000, 0]), 1);
        assert_eq!(choose(0, 0, ABOVE, &[900_000]), 0);
        // Equally loaded ones are no reason to leave, nor ones that are a little less.
        assert_eq!(choose(1, 1, ABOVE, &[600_000, 600_000, 500_000]), 1);
    }

    #[test]
    fn from_a_busy_home_it_spreads_to_the_next_that_is_less_loaded() {
        assert_eq!(choose(1, 1, ABOVE, &[0, 250_001, 0]), 2);
        assert_eq!(choose(1, 1, ABOVE, &[0, 300_000, 250_000]), 0);
        assert_eq!(choose(2, 2, ABOVE, &[300_000, 100_000, 900_000]), 0);
    }

    #[test]
    fn who_comes_next_follows() {
        // The home is a little less loaded again, or a little more than where the last one went.
        assert_eq!(choose(0, 1, ABOVE, &[200_000, 100_000]), 1);
        assert_eq!(choose(0, 1, ABOVE, &[400_000, 450_000]), 1);
        // It is really free.
        assert_eq!(choose(0, 1, ABOVE, &[150_000, 100_000]), 0);
        // Where the last one went is full.
        assert_eq!(choose(0, 1, ABOVE, &[400_000, 500_001]), 0);
    }

    #[test]
    fn at_a_threshold_of_nothing_they_take_turns() {
        let loads = Arc::new(Loads::new(2));
        let placement = placement(&loads, 0.0);
        let name = room(&placement, 0);
        let next = |_| {
            let shard = placement.choose(&name);
            loads.enter(u16::try_from(shard).unwrap(), 1);
            shard
        };
        assert_eq!((0..6).map(next).collect::<Vec<_>>(), [0, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn a_large_room_ends_up_even_without_flapping() {
        let loads = Arc::new(Loads::new(2));
        let placement = placement(&loads, 0.25);
        let name = room(&placement, 0);
        let (mut moves, mut last, mut counts) = (0, 0, [0_u32; 2]);
        for _ in 0..3_000 {
            let shard = placement.choose(&name);
            moves += u32::from(shard != last);
            last = shard;
            counts[shard] += 1;
            loads.enter(u16::try_from(shard).unwrap(), 1);
        }
        assert!((45..=55).contains(&(counts[0] * 100 / 3_000)) && moves < 40, "{counts:?} {moves}");
        // They go, and the home takes its own again.
        for _ in 0..counts[0] {
            loads.leave(0, 1);
        }
        assert_eq!((placement.choose(&name), loads.peers()), (0, u64::from(counts[1])));
    }

    #[test]
    fn what_is_measured_counts_where_it_is_more() {
        let loads = Arc::new(Loads::new(2));
        let placement = placement(&loads, 0.25);
        let name = room(&placement, 0);
        loads.set_busy(0, 400);
        assert_eq!(placement.choose(&name), 1);
        assert_eq!(placement.choose(&room(&placement, 1)), 1);
        loads.set_busy(0, 100);
        assert_eq!((placement.choose(&name), loads.busy_permille(0)), (0, 100));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let loads = Arc::new(Loads::new(2));
        let placement = placement(&loads, 0.25);
        loads.set_busy(0, 900);
        loads.set_busy(1, 800);
        for i in 0..100 {
            placement.choose(&RoomName::new(&format!("room-{i}")).unwrap());
        }
        loads.set_busy(1, 100);
        for i in 0..100 {
            placement.choose(&RoomName::new(&format!("room-{i}")).unwrap());
            assert!(placement.last.lock().unwrap().len() <= 2);
        }
    }
}
