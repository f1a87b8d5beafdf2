use super::*;

fn deliveries(conditions: Conditions, count: u32) -> (Vec<Duration>, Counters) {
    let base = Instant::now();
    let mut link = Link::new(conditions, 7);
    let send = |i: u32| {
        let now = base + Duration::from_millis(1) * i;
        let delivery = link.send(now, 1_000);
        delivery.into_iter().flat_map(|d| vec![d.at; 1 + usize::from(d.twice)]).map(move |at| at - now)
    };
    let got = (0..count).flat_map(send).collect();
    (got, link.counters)
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 0], port))
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let conditions = Conditions {
        loss: 0.1,
        jitter: Duration::from_millis(5),
        reorder: 0.1,
        duplicate: 0.1,
        corrupt: 0.1,
        ..Conditions::default()
    };
    assert_eq!(deliveries(conditions.clone(), 1_000), deliveries(conditions, 1_000));
}

#[test]
fn losses_come_at_their_rates() {
    let (got, _) = deliveries(Conditions { loss: 0.2, ..Conditions::default() }, 10_000);
    assert!((7_800..8_200).contains(&got.len()), "{}", got.len());
    let burst = Some(Burst { enter: 0.01, leave: 0.09, loss: 1.0 });
    let (got, _) = deliveries(Conditions { burst, ..Conditions::default() }, 100_000);
    assert!((87_000..93_000).contains(&got.len()), "{}", got.len());
}

#[test]
fn a_bottleneck_delays_and_then_drops() {
    // A kilobyte each millisecond is 8 Mbit/s: twice what passes.
    let rate = Some(Rate::with_queue(4_000_000, Duration::from_millis(40)));
    let (got, counters) = deliveries(Conditions { rate, ..Conditions::default() }, 1_000);
    assert!((500..=520).contains(&got.len()), "{}", got.len());
    assert_eq!(counters.lost + got.len() as u64, 1_000);
    let longest = got.iter().max().unwrap();
    assert!(*longest <= Duration::from_millis(50) && *longest > Duration::from_millis(40), "{longest:?}");
}

#[test]
fn jitter_delays_and_keeps_the_order() {
    let jitter = Duration::from_millis(30);
    let base = Instant::now();
    let mut link = Link::new(Conditions { jitter, ..Conditions::default() }, 3);
    let at = (0..1_000).map(|i| link.send(base + Duration::from_millis(i), 100).unwrap().at);
    assert!(at.is_sorted());
    assert!(link.harm.is_empty());
}

#[test]
fn duplicates_and_turned_bits_come_at_their_rates() {
    let conditions = Conditions { duplicate: 0.1, corrupt: 0.05, ..Conditions::default() };
    let (got, counters) = deliveries(conditions, 10_000);
    assert!((10_900..11_100).contains(&got.len()), "{}", got.len());
    assert!((420..580).contains(&counters.corrupted), "{counters:?}");
}

#[test]
fn a_turned_bit_is_one_bit() {
    let mut network = Network::default();
    let conditions = Conditions { corrupt: 1.0, ..Conditions::default() };
    network.add(address(1), conditions, Conditions::default(), 5);
    for first in [0x80, 22] {
        let now = Instant::now();
        let bytes = vec![first; 100];
        let datagram = Datagram { source: address(1), destination: address(9), bytes: bytes.clone() };
        let delivery = network.send(now, datagram).unwrap();
        let got = network.pop(delivery.at).unwrap().bytes;
        let turned: u32 = got.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((got.len(), turned), (100, 1));
    }
}

#[test]
fn changes_come_at_their_times_and_per_direction() {
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let mut network = Network::default();
    network.add(address(1), Conditions::default(), Conditions::default(), 1);
    network.add(address(2), Conditions::default(), Conditions::default(), 2);
    let cut = Conditions { cut: true, ..Conditions::default() };
    // Said in the wrong order.
    network.change(at(200), address(1), Way::Both, Conditions::default());
    network.change(at(100), address(1), Way::Down, cut);
    let mut passes = |ms, source: u16, destination: u16| {
        while network.pop(at(ms)).is_some() {}
        let datagram =
            Datagram { source: address(source), destination: address(destination), bytes: vec![0; 10] };
        network.send(at(ms), datagram).is_some()
    };
    assert!(passes(0, 1, 9) && passes(0, 9, 1));
    // One way only, and for one client only.
    assert!(passes(100, 1, 9) && !passes(100, 9, 1) && passes(100, 9, 2));
    assert!(passes(200, 9, 1));
    let path = &network.paths[&address(1)];
    assert_eq!((&path.down.harm, &path.hard), (&vec![at(100)], &vec![(at(100), Some(at(200)))]));
    assert!(path.was_hard(at(0), at(150)) && path.was_hard(at(200), at(300)));
    assert!(!path.was_hard(at(0), at(99)) && !path.was_hard(at(201), at(300)));
}
