//! The whole estimator against a simulated bottleneck, in virtual time.

use std::collections::VecDeque;

use super::*;

const PACKET: usize = 1_200;
const MS: u64 = 1_000;
/// One way.
const DELAY_US: u64 = 20_000;
/// As libwebrtc sends them at these rates.
const FEEDBACK_US: u64 = 50_000;

/// A source that sends at the estimate, a link with a queue, a receiver that answers.
struct World {
    now_us: u64,
    estimator: Estimator,
    link_bps: f64,
    queue_us: u64,
    loss: f64,
    /// The source sends no more than this.
    most_bps: f64,
    /// Bytes of a packet.
    packet: usize,
    /// The server has time to send each so long.
    send_us: u64,
    /// The receiver reads what has come each so long.
    read_us: u64,
    debt_bits: f64,
    free_us: u64,
    random: u64,
    /// By sequence number: when it arrives; `None`: lost.
    under_way: VecDeque<(u64, Option<u64>)>,
    sent: u64,
    answered_us: u64,
    /// Messages on their way back.
    back: VecDeque<(u64, Vec<u8>)>,
    arrived_bytes: usize,
    worst_queue_us: u64,
}

impl World {
    fn new(link_bps: f64) -> Self {
        let mut estimator = Estimator::default();
        estimator.set_demand(4_000_000);
        estimator.set_can_probe(true);
        Self {
            now_us: 1_000_000,
            estimator,
            link_bps,
            queue_us: 200_000,
            loss: 0.0,
            most_bps: f64::MAX,
            packet: PACKET,
            send_us: MS,
            read_us: 1,
            debt_bits: 0.0,
            free_us: 0,
            random: 7,
            under_way: VecDeque::new(),
            sent: 0,
            answered_us: 0,
            back: VecDeque::new(),
            arrived_bytes: 0,
            worst_queue_us: 0,
        }
    }

    /// SplitMix64, 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn bps(&self) -> f64 {
        self.estimator.bps().map_or(300_000.0, |bps| bps as f64)
    }

    fn send(&mut self) {
        let bytes = self.packet;
        self.estimator.sent(self.now_us, bytes, None);
        let begin = self.free_us.max(self.now_us);
        let lost = self.chance() < self.loss || begin - self.now_us > self.queue_us;
        let mut arrival = None;
        if !lost {
            self.free_us = begin + whole(bytes as f64 * 8e6 / self.link_bps);
            self.worst_queue_us = self.worst_queue_us.max(begin - self.now_us);
            arrival = Some((self.free_us + DELAY_US).next_multiple_of(self.read_us));
        }
        self.under_way.push_back((self.sent, arrival));
        self.sent += 1;
    }

    fn tick(&mut self) {
        self.now_us += MS;
        self.debt_bits += self.bps().min(self.most_bps) / 1e3;
        if self.now_us.is_multiple_of(self.send_us) {
            self.send_due();
        }
        if self.now_us - self.answered_us >= FEEDBACK_US {
            self.answer();
        }
        while self.back.front().is_some_and(|(at, _)| *at <= self.now_us) {
            let (_, body) = self.back.pop_front().unwrap();
            self.estimator.feedback(self.now_us, &Feedback::parse(&body).unwrap());
        }
    }

    /// The source's packets, and those of a probe.
    fn send_due(&mut self) {
        while self.debt_bits > 0.0 {
            self.debt_bits -= self.packet as f64 * 8.0;
            self.send();
        }
        while self.estimator.probe_is_due(self.now_us) {
            self.send();
        }
    }

    /// What has come until the newest packet that has.
    fn answer(&mut self) {
        self.answered_us = self.now_us;
        let has_come = |p: &(u64, Option<u64>)| p.1.is_some_and(|at| at <= self.now_us);
        let Some(newest) = self.under_way.iter().rposition(has_come) else { return };
        let all: Vec<_> = self.under_way.drain(..=newest).collect();
        let first = all.iter().find_map(|p| p.1).unwrap();
        let reference = first / 64_000;
        let mut body = Vec::new();
        body.extend(u16::try_from(all[0].0 % 65_536).unwrap().to_be_bytes());
        body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
        body.extend((u32::try_from(reference % (1 << 24)).unwrap() << 8).to_be_bytes());
        for seven in all.chunks(7) {
            let symbols = (0..7).fold(0u16, |word, i| {
                word << 2 | seven.get(i).map_or(0, |p| if p.1.is_some() { 2 } else { 0 })
            });
            body.extend((0xc000 | symbols).to_be_bytes());
        }
        let mut last = i64::try_from(reference * 256).unwrap();
        for at in all.iter().filter_map(|p| p.1) {
            let units = i64::try_from(at / 250).unwrap();
            body.extend(i16::try_from(units - last).unwrap().to_be_bytes());
            last = units;
            self.arrived_bytes += self.packet;
        }
        self.back.push_back((self.now_us + DELAY_US, body));
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..whole(seconds * 1e3) {
            self.tick();
        }
    }

    /// Mean of the estimate, and of what arrived.
    fn means(&mut self, seconds: f64) -> (f64, f64) {
        let (mut sum, ticks, before) = (0.0, whole(seconds * 1e3), self.arrived_bytes);
        for _ in 0..ticks {
            self.tick();
            sum += self.bps();
        }
        (sum / ticks as f64, (self.arrived_bytes - before) as f64 * 8.0 / seconds)
    }
}

#[test]
fn it_converges_to_the_link() {
    let mut world = World::new(1e6);
    world.run(10.0);
    world.worst_queue_us = 0;
    let (estimate, arrived) = world.means(30.0);
    println!("estimate {estimate:.0}, arrived {arrived:.0}, queue {} us", world.worst_queue_us);
    assert!((0.8e6..1.1e6).contains(&estimate), "{estimate}");
    assert!(arrived > 0.8e6, "{arrived}");
    assert!(world.worst_queue_us < 200_000, "the queue never fills: {}", world.worst_queue_us);
}

#[test]
fn the_first_probes_find_the_link_within_a_second() {
    let mut world = World::new(3e6);
    world.run(1.0);
    assert!((0.8 * 3e6..1.1 * 3e6).contains(&world.bps()), "{}", world.bps());
}

#[test]
fn a_drop_is_followed_within_a_second_and_back_within_ten() {
    let mut world = World::new(2e6);
    world.run(20.0);
    assert!(world.bps() > 0.8 * 2e6, "{}", world.bps());
    world.link_bps = 0.5e6;
    world.run(1.0);
    println!("after 1 s: {}", world.bps());
    assert!(world.bps() < 0.6e6, "{}", world.bps());
    world.run(10.0);
    let (estimate, arrived) = world.means(10.0);
    assert!((0.8 * 0.5e6..1.1 * 0.5e6).contains(&estimate), "{estimate}, {arrived}");
    world.link_bps = 2e6;
    world.run(10.0);
    println!("10 s after the end: {}", world.bps());
    assert!(world.bps() >= 0.8 * 2e6, "{}", world.bps());
}

#[test]
fn an_application_that_sends_little_finds_what_it_could_send() {
    // 500 kbit/s on a link of 600, then 5 Mbit/s; it takes 2 Mbit/s to send more.
    let mut world = World::new(0.6e6);
    world.most_bps = 0.5e6;
    world.run(20.0);
    assert!((0.48e6..0.8e6).contains(&world.bps()), "{}", world.bps());
    world.link_bps = 5e6;
    world.run(10.0);
    assert!(world.bps() >= 2.3e6, "{}", world.bps());
}

/// The lowest estimate at the ends of 30 seconds.
fn lowest(world: &mut World) -> f64 {
    (0..30).fold(f64::MAX, |lowest, _| {
        world.run(1.0);
        lowest.min(world.bps())
    })
}

#[test]
fn a_server_without_time_is_no_narrow_line() {
    // Small pictures, sent when there is time: a probe is begun, and what leaves next is late.
    let mut world = World::new(5e6);
    (world.most_bps, world.packet, world.send_us) = (70e3, 250, 160 * MS);
    assert!(lowest(&mut world) >= 300e3);
    // Once it has time, the line is found.
    world.send_us = MS;
    world.run(6.0);
    assert!(world.bps() > 2e6, "{}", world.bps());
}

#[test]
fn a_receiver_without_time_is_no_narrow_line() {
    for read_ms in [25, 150] {
        let mut world = World::new(5e6);
        (world.most_bps, world.read_us) = (60e3, read_ms * MS);
        assert!(lowest(&mut world) >= 300e3, "{read_ms}");
    }
}

#[test]
fn a_narrow_line_is_told_as_it_is() {
    let mut world = World::new(150e3);
    world.run(5.0);
    assert!(world.bps() < 180e3, "{}", world.bps());
}

#[test]
fn random_loss_without_delay_does_not_starve() {
    let mut world = World::new(2e6);
    world.loss = 0.02;
    world.run(20.0);
    let (estimate, arrived) = world.means(20.0);
    println!("estimate {estimate:.0}, arrived {arrived:.0}");
    assert!(estimate > 0.8 * 2e6, "{estimate}");
}

#[test]
fn heavy_loss_bounds_it() {
    // A policer instead of a queue: nothing but loss tells.
    let mut world = World::new(1e6);
    world.queue_us = 5_000;
    world.run(20.0);
    let (estimate, _) = world.means(20.0);
    println!("estimate {estimate:.0}");
    assert!((0.7e6..1.35e6).contains(&estimate), "{estimate}");
}

#[test]
fn silence_and_nonsense_do_no_harm() {
    let mut world = World::new(1e6);
    world.run(10.0);
    let before = world.bps();
    // Feedback of a peer that makes it up.
    for i in 0..20_000u64 {
        let body: Vec<u8> = (0..40).map(|_| whole(world.chance() * 256.0).to_le_bytes()[0]).collect();
        if let Some(feedback) = Feedback::parse(&body) {
            world.estimator.feedback(world.now_us + i, &feedback);
        }
        assert!(world.bps().is_finite() && world.bps() >= MIN_BPS && world.bps() <= MAX_BPS);
    }
    // A minute of silence, and on.
    world.now_us += 60_000_000;
    world.under_way.clear();
    world.run(20.0);
    assert!(world.bps() > 0.5 * before.min(1e6), "{} after {before}", world.bps());
}
