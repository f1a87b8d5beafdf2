//! What is lost between a publisher and the server is asked for again by the round trip to it, a few times, and comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use antiphon_base::Source;
use antiphon_sim::net::Way;
use antiphon_sim::{Conditions, Profile, World};

/// Requests for one packet, at most (str0m, `register_nack.rs`).
const MOST: usize = 5;
/// Until the server knows the round trip: by a report of its own (RFC 3611, 4.4), and the answer with the publisher's next one (4.5).
const KNOWN: Duration = Duration::from_secs(12);
/// What str0m takes for the round trip until then.
const UNKNOWN: Duration = Duration::from_millis(100);
const FPS: u32 = 25;

/// A publisher at this distance whose way up loses so many of a hundred for half a minute, once it has been there for a while. The world,
/// the publisher, who watches it, and when that begins.
fn lossy(round_trip: Duration, percent: u8) -> (World, usize, usize, Instant) {
    let mut world = World::new(91);
    world.opens = true;
    let good = Conditions { delay: round_trip / 2, ..Conditions::default() };
    world.conditions = good.clone();
    let anna = world.enter(Profile::new("anna"));
    world.conditions = Conditions::default();
    let ben = world.enter(Profile::new("ben").listener(1, 1));
    world.talk(anna, FPS);
    world.run(KNOWN);
    let (begin, address) = (world.now, world.clients[anna].address);
    let bad = Conditions { loss: f64::from(percent) / 100.0, ..good.clone() };
    world.network.change(begin, address, Way::Up, bad);
    world.run(Duration::from_secs(30));
    world.network.change(world.now, address, Way::Up, good);
    world.run(Duration::from_secs(3));
    (world, anna, ben, begin)
}

/// When each packet of the publisher's was asked for.
fn requests(world: &World, publisher: usize) -> BTreeMap<(u32, u16), Vec<Instant>> {
    let mut requests: BTreeMap<_, Vec<Instant>> = BTreeMap::new();
    for request in &world.clients[publisher].seals.requests {
        requests.entry((request.ssrc, request.seq)).or_default().push(request.at);
    }
    requests
}

/// So far apart that one round trip fits between, and no further than the 33 ms in which str0m looks for what is due.
#[test]
fn a_packet_is_asked_for_again_after_a_round_trip_and_five_times_at_most() {
    for ms in [20, 50, 200] {
        let round_trip = Duration::from_millis(ms);
        let (world, anna, _, begin) = lossy(round_trip, 40);
        let all = requests(&world, anna);
        let mut pauses = Vec::new();
        for ((ssrc, seq), times) in &all {
            assert!(times.len() <= MOST, "{seq} of {ssrc:08x} was asked for {} times", times.len());
            assert!(times[0] >= begin, "nothing was lost before");
            pauses.extend(times.windows(2).map(|two| two[1] - two[0]));
        }
        pauses.sort();
        let most = all.values().map(Vec::len).max().unwrap();
        println!(
            "{ms} ms: {} packets, {} pauses, {:?} to {:?}, {most} times",
            all.len(),
            pauses.len(),
            pauses[0],
            pauses[pauses.len() - 1]
        );
        assert!(pauses.len() > 100 && most == MOST, "{} pauses, {most} times", pauses.len());
        assert!(
            pauses[0] >= round_trip,
            "{:?} after the last time, the round trip is {round_trip:?}",
            pauses[0]
        );
        // It is the round trip that is waited for, not what is taken for it where it is not known.
        let usual = pauses[pauses.len() / 2];
        let late = round_trip + Duration::from_millis(5 + 33);
        assert!(usual <= late, "{usual:?} after the last time, the round trip is {round_trip:?}");
        assert!(round_trip > UNKNOWN || usual < UNKNOWN);
    }
}

#[test]
fn what_was_lost_once_comes_again_and_leaves_no_gap() {
    for ms in [20, 50, 200] {
        let (world, anna, ben, begin) = lossy(Duration::from_millis(ms), 5);
        let sender = world.clients[anna].senders.iter().find(|s| s.source == Source::Camera).unwrap();
        let ssrc = sender.ssrc.unwrap();
        let path = world.network.path(world.clients[anna].address).unwrap();
        let lost = path.up.harmed.iter().filter(|(at, place)| *at >= begin && place.ssrc == ssrc).count();
        let slot = &world.clients[ben].slots[1];
        let got: BTreeSet<u64> = slot.packets.iter().map(|p| p.seq).collect();
        let (first, last) = (*got.first().unwrap(), *got.last().unwrap());
        let missing: Vec<u64> = (first..=last).filter(|seq| !got.contains(seq)).collect();
        println!("{ms} ms: {lost} of {} lost, {} came", sender.packets, got.len());
        assert!(lost > 30, "{lost} lost");
        assert_eq!(missing, [0; 0], "of {} packets, {lost} of which were lost", got.len());
        // All that was sent since ben came, not only what has no number left out.
        let frames: BTreeSet<_> =
            slot.packets.iter().filter_map(|p| p.parsed).map(|p| (p.stamp.frame, p.stamp.index)).collect();
        assert_eq!(frames.len(), got.len());
        assert!(got.len() as u64 + 10 > sender.packets, "{} of {}", got.len(), sender.packets);
        world.check().assert_sound();
    }
}
