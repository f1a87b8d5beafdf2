//! Service levels on bad lines: what one subscriber sees and hears, and that the others notice nothing. Everything random
//! depends on the seeds that are named here.

use std::ops::Range;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use antiphon_base::{MediaKind, Source, VideoCodec};
use antiphon_sim::net::{Rate, Way};
use antiphon_sim::playout::{self, Freezes, Shown};
use antiphon_sim::stamp::nested::Mode;
use antiphon_sim::world::given_seed;
use antiphon_sim::{Conditions, Profile, World, seeded};

/// What the layers of the camera take.
const LAYERS_BPS: [u64; 3] = [140_000, 450_000, 1_500_000];
/// Of a line of 500 kbit/s: the middle layer of 305 kbit/s and the voice, with their headers.
const CARRIES_BPS: f64 = 370_000.0;
const SECOND: Duration = Duration::from_secs(1);
/// Pictures that the camera sends in a second, where nothing else is said.
const FPS: u32 = 20;
/// A jitter buffer on a line that loses, as a browser makes it by itself (61 to 177 ms were seen); where it is to be deeper the server
/// has to say so. str0m asks again after 105 ms whatever the round trip.
const DEPTH: Duration = Duration::from_millis(100);
/// One that has followed what comes late: of voices, and of pictures where it is the publisher's line that loses.
const DEEP: Duration = Duration::from_millis(250);

/// Key frames of spatial layers are as large as so many other pictures; libvpx's in real time.
const USUAL_KEY: usize = 3;
const LARGE_KEY: usize = 6;
/// Who cannot decode for so long asks for a key frame.
const PATIENCE: Duration = Duration::from_millis(500);

/// A level must be held at all of these seeds, or at `ANTIPHON_SIM_SEEDS` from the first one on.
fn holds(mut seeds: Range<u64>, level: fn(u64)) {
    if let Ok(count) = std::env::var("ANTIPHON_SIM_SEEDS") {
        seeds.end = seeds.start + count.parse::<u64>().expect("the variable is a number");
    }
    if let Some(seed) = given_seed() {
        seeds = seed..seed + 1;
    }
    let missed = |seed: &u64| catch_unwind(|| seeded(*seed, || level(*seed))).is_err();
    let missed: Vec<u64> = seeds.clone().filter(missed).collect();
    assert!(missed.is_empty(), "not held at {missed:?} of {seeds:?}");
}

struct Stage {
    world: World,
    anna: usize,
    /// On the line that is looked at.
    ben: usize,
    /// On a good one.
    cleo: usize,
    /// Pictures that Anna sends in a second.
    fps: u32,
}

impl Stage {
    /// Anna's camera and voice; Ben, with these conditions of his line in both directions, and Cleo.
    fn new(seed: u64, conditions: &Conditions) -> Self {
        let mut stage = Self::empty(seed, conditions);
        stage.start(FPS, LAYERS_BPS, None);
        stage
    }

    /// Nobody shows anything.
    fn empty(seed: u64, conditions: &Conditions) -> Self {
        Self::of(seed, conditions, Profile::new("anna").simulcast())
    }

    /// Anna's camera is as this profile's.
    fn of(seed: u64, conditions: &Conditions, anna: Profile) -> Self {
        let mut world = World::new(seed);
        let codec = anna.codec;
        let anna = world.enter(Profile { red: true, ..anna });
        let patience = Some(PATIENCE);
        let listener = |id: &str| Profile { red: true, codec, patience, ..Profile::new(id).listener(1, 1) };
        let ben = world.enter(listener("ben"));
        let cleo = world.enter(listener("cleo"));
        let mut stage = Self { world, anna, ben, cleo, fps: FPS };
        stage.set(ben, conditions, conditions);
        stage
    }

    /// Anna's voice, and her camera with so many pictures a second; `place`: in temporal layers.
    fn start(&mut self, fps: u32, layers_bps: [u64; 3], place: Option<u8>) {
        self.fps = fps;
        let (now, anna) = (self.world.now, &mut self.world.clients[self.anna]);
        anna.start(now, Source::Camera, fps);
        anna.start(now, Source::Microphone, 0);
        for sender in &mut anna.senders {
            sender.bps = (sender.source == Source::Camera).then(|| layers_bps[usize::from(sender.layer)]);
            sender.place = place.filter(|_| sender.source == Source::Camera);
            sender.red = None;
        }
    }

    fn set(&mut self, client: usize, up: &Conditions, down: &Conditions) {
        let (now, address) = (self.world.now, self.world.clients[client].address);
        self.world.network.change(now, address, Way::Up, up.clone());
        self.world.network.change(now, address, Way::Down, down.clone());
    }

    fn narrow(&mut self, bps: u64) {
        self.set(
            self.ben,
            &Conditions { delay: Duration::from_millis(20), ..Conditions::default() },
            &line(bps),
        );
    }

    /// Bytes that the server has sent to a client.
    fn sent(&self, client: usize) -> u64 {
        self.world.network.paths[&self.world.clients[client].address].down.counters.bytes
    }

    /// What the server sends to a client over `time`, in bits per second.
    fn rate(&mut self, client: usize, time: Duration) -> f64 {
        let before = self.sent(client);
        self.world.run(time);
        (self.sent(client) - before) as f64 * 8.0 / time.as_secs_f64()
    }

    fn shown(&self, client: usize, depth: Duration) -> Vec<Shown> {
        let video = self.world.clients[client].slots.iter().find(|s| s.kind == MediaKind::Video).unwrap();
        playout::shown(video, depth)
    }

    fn freezes(&self, client: usize, depth: Duration, from: Instant) -> Freezes {
        playout::freezes(&self.shown(client, depth), from, self.world.now - depth - SECOND / 10, self.fps)
    }

    /// Share of the audio frames that were heard, with a jitter buffer; the rest is concealed.
    fn heard(&self, client: usize) -> f64 {
        let audio = self.world.clients[client].slots.iter().find(|s| s.kind == MediaKind::Audio).unwrap();
        let (came, sent) = playout::heard(audio, DEEP);
        came as f64 / sent as f64
    }

    /// Voice packets that came with earlier ones in them (RED, RFC 2198).
    fn repeated(&self, client: usize) -> usize {
        let slots = self.world.clients[client].slots.iter();
        slots.flat_map(|s| &s.packets).filter(|p| !p.repeated.is_empty()).count()
    }

    fn out(&self, id: &str) -> serde_json::Value {
        self.world.status(id).unwrap().stats.unwrap()["transport"]["out"].take()
    }

    /// Ben's line of `bps`, to half a megabit for twelve seconds, and back.
    fn drops(&mut self, seed: u64, bps: u64) -> Dropped {
        self.world.run(10 * SECOND + Duration::from_millis(8 * (seed % 30)));
        let (before, steady) = (self.world.now, self.rate(self.ben, 2 * SECOND));
        let at = self.world.now;
        self.narrow(500_000);
        self.world.run(SECOND);
        let adapted = self.rate(self.ben, SECOND);
        self.world.run(10 * SECOND);
        let freezes = self.freezes(self.ben, Duration::ZERO, at - SECOND);
        self.narrow(bps);
        self.world.run(10 * SECOND);
        let back = self.rate(self.ben, 2 * SECOND);
        let dropped = Dropped { before, steady, adapted, freezes, back };
        println!("seed {seed}: {dropped:?}, {}", self.out("ben"));
        dropped
    }

    /// The level of such a drop, with so long between two pictures at most.
    fn assert_bridged(&self, dropped: &Dropped, longest_ms: u64) {
        assert!(dropped.adapted <= 400_000.0, "{dropped:?}");
        assert!(dropped.freezes.longest <= Duration::from_millis(longest_ms), "{dropped:?}");
        assert!(dropped.back >= 0.9 * dropped.steady, "{dropped:?}");
        self.only_ben_noticed(dropped.before);
    }

    /// Nothing is torn, and Cleo sees and hears as if she were alone.
    fn only_ben_noticed(&self, from: Instant) {
        let report = self.world.check();
        report.assert_sound();
        let got = report.of(self.cleo);
        assert_eq!((got.missing, got.incomplete, got.gaps), (0, got.cut, 0), "{got:?}");
        let freezes = self.freezes(self.cleo, Duration::ZERO, from);
        assert!(freezes.longest < Duration::from_millis(150), "{freezes:?}");
        assert!(self.shown(self.cleo, Duration::ZERO).iter().filter(|s| s.at >= from).all(|s| s.layer == 2));
    }
}

/// What a drop to half a megabit did to Ben; rates in bits per second.
#[derive(Debug)]
struct Dropped {
    /// Two seconds before it.
    before: Instant,
    steady: f64,
    /// In the second second of it.
    adapted: f64,
    freezes: Freezes,
    /// Ten seconds after its end.
    back: f64,
}

/// A line with a queue of 200 ms.
fn line(bps: u64) -> Conditions {
    let rate = Some(Rate { bps, queue_bytes: bps / 8 / 5 });
    Conditions { delay: Duration::from_millis(20), rate, ..Conditions::default() }
}

/// 50 ms there and back.
fn lossy(loss: f64) -> Conditions {
    Conditions { loss, delay: Duration::from_millis(25), ..Conditions::default() }
}

#[test]
fn from_two_megabits_to_half_a_megabit() {
    holds(70..80, narrowed);
}

/// At different moments between two pictures, and between two messages of feedback.
fn narrowed(seed: u64) {
    let mut stage = Stage::new(seed, &line(2_000_000));
    let dropped = stage.drops(seed, 2_000_000);
    assert!(dropped.steady > 1_500_000.0, "{dropped:?}");
    stage.assert_bridged(&dropped, 300);
    assert!(stage.heard(stage.ben) > 0.97, "{}", stage.heard(stage.ben));
}

/// Of the forms of spatial layers in one stream, one a seed.
fn layered(seed: u64, conditions: &Conditions, key_size: usize) -> Stage {
    let codec = if seed.is_multiple_of(2) { VideoCodec::Vp9 } else { VideoCodec::Av1 };
    let mode = Some(Mode { layers: 3, key_only: seed / 2 % 2 == 1 });
    let mut stage = Stage::of(seed, conditions, Profile { codec, mode, ..Profile::new("anna") });
    let total = LAYERS_BPS.iter().sum();
    // As many in one stream as by rid, in three temporal layers.
    stage.start(FPS, [total; 3], Some(0));
    stage.world.clients[stage.anna].senders.iter_mut().for_each(|sender| sender.key_size = key_size);
    stage
}

#[test]
fn spatial_layers_from_two_megabits_to_half_a_megabit() {
    // All but those of the next test, with those that come near them.
    holds(176..194, |seed| layers_drop(seed, 300));
}

/// Where the first picture on the narrow line is one of the lowest temporal layer it alone fills the queue, is torn, and ends what others
/// could build on. Behind those 200 ms stand what was sent before that could be known, and the key frame.
#[test]
fn spatial_layers_whose_lowest_picture_the_drop_tears() {
    holds(194..198, |seed| layers_drop(seed, 415));
}

fn layers_drop(seed: u64, longest_ms: u64) {
    let mut stage = layered(seed, &line(2_500_000), USUAL_KEY);
    let dropped = stage.drops(seed, 2_500_000);
    // Where upper layers do not build on lower ones, the highest is sent alone, where a descriptor tells it.
    assert!(dropped.steady > 1_300_000.0, "{dropped:?}");
    stage.assert_bridged(&dropped, longest_ms);
}

/// Each key frame takes 250 ms of the wide line, and its lowest layer 150 of the narrow one: some drops find one under way.
#[test]
fn spatial_layers_with_large_key_frames() {
    holds(184..192, |seed| {
        let mut stage = layered(seed, &line(2_500_000), LARGE_KEY);
        let dropped = stage.drops(seed, 2_500_000);
        assert!(dropped.adapted <= 420_000.0, "{dropped:?}");
        assert!(dropped.freezes.longest <= Duration::from_millis(700), "{dropped:?}");
        assert!(dropped.back >= 0.9 * dropped.steady, "{dropped:?}");
        stage.only_ben_noticed(dropped.before);
    });
}

#[test]
fn spatial_layers_with_ten_percent_of_loss() {
    holds(180..188, |seed| {
        let mut stage = layered(seed, &lossy(0.1), USUAL_KEY);
        stage.world.run(3 * SECOND);
        let from = stage.world.now;
        stage.world.run(30 * SECOND);
        let freezes = stage.freezes(stage.ben, DEPTH, from);
        let shown = stage.shown(stage.ben, DEPTH);
        let top = shown.iter().filter(|s| s.layer == 2).count();
        println!("seed {seed}: {freezes:?}, {top} of {} in the top layer", shown.len());
        assert!(freezes.total < 30 * SECOND / 50, "{freezes:?}");
        assert!(freezes.pictures >= 500, "{freezes:?}");
        stage.only_ben_noticed(from);
    });
}

#[test]
fn what_a_line_that_has_narrowed_carries_is_there_after_three_seconds() {
    holds(150..156, steady_when_narrow);
}

/// Pictures as Chromium sends them, 30 a second in three temporal layers, of 90, 305 and 1,026 kbit/s: what the SDK allows them
/// at 540 lines. The middle layer and the voice are four fifths of the line; more does not fit.
fn steady_when_narrow(seed: u64) {
    let mut stage = Stage::empty(seed, &line(2_000_000));
    stage.start(30, [90_000, 305_000, 1_026_000], Some(0));
    stage.world.run(10 * SECOND + Duration::from_millis(8 * (seed % 30)));
    let before = stage.world.now;
    let steady = stage.rate(stage.ben, 2 * SECOND);
    stage.narrow(500_000);
    stage.world.run(3 * SECOND);
    let mut told = format!("seed {seed}: {steady:.0} before, then");
    let (mut rates, mut pictures) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let from = stage.world.now;
        let bps = stage.rate(stage.ben, SECOND);
        let shown = stage.shown(stage.ben, Duration::ZERO);
        let count = shown.iter().filter(|s| s.at >= from).count();
        let layer = shown.last().map_or(0, |s| s.layer);
        told += &format!(" {bps:.0} ({count} of {layer}, {})", stage.out("ben")["estimate_bps"]);
        rates.push(bps);
        pictures.push(count);
    }
    println!("{told}");
    assert!(pictures.iter().all(|count| *count >= 14), "{told}");
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    assert!((0.8 * CARRIES_BPS..=500_000.0).contains(&mean), "{told}");
    stage.only_ben_noticed(before);
}

#[test]
fn what_only_jitters_is_not_narrow() {
    holds(160..166, only_jitters);
}

/// Machines with too much to do: packets and feedback come up to 60 ms late, several at once.
fn only_jitters(seed: u64) {
    let late = Conditions { jitter: Duration::from_millis(60), ..Conditions::default() };
    let mut stage = Stage::new(seed, &late);
    let from = stage.world.now;
    stage.world.run(5 * SECOND);
    let soon = stage.shown(stage.ben, Duration::ZERO).iter().filter(|s| s.at >= from).count();
    let mut told = format!("seed {seed}: {soon} pictures, then");
    for _ in 0..25 {
        stage.world.run(SECOND);
        let layer = stage.shown(stage.ben, Duration::ZERO).last().map_or(9, |s| s.layer);
        told += &format!(" {} ({layer})", stage.out("ben")["estimate_bps"]);
    }
    println!("{told}");
    assert!(soon >= 50, "{told}");
    stage.only_ben_noticed(from + 3 * SECOND);
}

/// Thirty seconds of a line that loses in both directions: what Ben saw and heard.
fn losing(seed: u64, loss: f64) -> (Freezes, f64) {
    let mut stage = Stage::new(seed, &lossy(loss));
    stage.world.run(3 * SECOND);
    let from = stage.world.now;
    stage.world.run(30 * SECOND);
    let freezes = stage.freezes(stage.ben, DEPTH, from);
    let (heard, shown) = (stage.heard(stage.ben), stage.shown(stage.ben, DEPTH));
    let repeated = stage.repeated(stage.ben);
    let top = shown.iter().filter(|s| s.layer == 2).count();
    let of = shown.len();
    println!(
        "seed {seed}: {freezes:?}, heard {heard:.3}, {repeated} with RED, {top} of {of} in the top layer, {}",
        stage.out("ben")
    );
    // All but what came before the loss was known: 30 s are 1,500 packets of 20 ms.
    assert!(repeated >= 800, "{repeated} voice packets had earlier ones with them");
    assert_eq!(stage.repeated(stage.cleo), 0, "on a line that loses nothing");
    stage.only_ben_noticed(from);
    (freezes, heard)
}

#[test]
fn ten_percent_of_loss() {
    holds(136..142, |seed| {
        let (freezes, heard) = losing(seed, 0.1);
        assert!(freezes.total < 30 * SECOND / 50, "{freezes:?}");
        assert!(freezes.pictures >= 550, "{freezes:?}");
        assert!(heard > 0.97, "{heard}");
    });
}

#[test]
fn thirty_percent_of_loss() {
    holds(110..116, |seed| {
        let (freezes, heard) = losing(seed, 0.3);
        assert!(freezes.longest <= 2 * SECOND, "{freezes:?}");
        assert!(freezes.pictures >= 10 * 30, "{freezes:?}");
        assert!(heard >= 0.85, "{heard}");
    });
}

#[test]
fn ten_percent_of_loss_on_the_way_to_the_server() {
    holds(100..106, ten_percent_on_the_way_to_the_server);
}

fn ten_percent_on_the_way_to_the_server(seed: u64) {
    let mut stage = Stage::new(seed, &Conditions::default());
    stage.set(stage.anna, &lossy(0.1), &lossy(0.1));
    let sender = stage.world.clients[stage.anna].senders.iter_mut().find(|s| s.source == Source::Microphone);
    sender.unwrap().red = Some(63.into());
    stage.world.run(3 * SECOND);
    let from = stage.world.now;
    stage.world.run(60 * SECOND);
    let freezes = stage.freezes(stage.cleo, DEEP, from);
    let heard = stage.heard(stage.cleo);
    let recovered = stage.world.status("anna").unwrap().stats.unwrap()["transport"]["in"].take();
    println!("{freezes:?}, heard {heard:.3}, {recovered}");
    // Not always the two percent that hold towards a subscriber: str0m gives up a packet after five requests, and then it
    // takes a key frame.
    assert!(freezes.total < 60 * SECOND / 20, "{freezes:?}");
    assert!(freezes.pictures >= 1_100, "{freezes:?}");
    assert!(heard > 0.97, "{heard}");
    stage.world.check().assert_sound();
}

#[test]
fn a_good_line_gets_the_top_layer_soon_and_the_first_picture_at_once() {
    holds(90..96, good_line);
}

fn good_line(seed: u64) {
    let mut stage = Stage::new(seed, &Conditions::default());
    stage.world.run(5 * SECOND);
    let joined = stage.world.now;
    let dan = stage.world.enter(Profile::new("dan").listener(1, 1));
    let connected = stage.world.now;
    stage.world.run(5 * SECOND);
    let shown = stage.shown(dan, Duration::ZERO);
    let first = shown[0].at - joined;
    let top = shown.iter().find(|s| s.layer == 2).unwrap().at - shown[0].at;
    println!(
        "connected after {:?}, first picture after {first:?}, top layer {top:?} later",
        connected - joined
    );
    assert_eq!(shown[0].layer, 0);
    assert!(shown[0].at - connected < Duration::from_millis(150), "{first:?}");
    assert!(top < SECOND, "{top:?}");
    stage.world.check().assert_sound();
}

#[test]
fn who_joins_on_a_narrow_line_is_not_flooded() {
    holds(120..126, joins_on_a_narrow_line);
}

fn joins_on_a_narrow_line(seed: u64) {
    let mut stage = Stage::new(seed, &Conditions::default());
    stage.world.run(5 * SECOND);
    stage.world.conditions = line(400_000);
    let dan = stage.world.enter(Profile { red: true, ..Profile::new("dan").listener(1, 1) });
    let from = stage.world.now;
    stage.world.run(10 * SECOND);
    let path = &stage.world.network.paths[&stage.world.clients[dan].address];
    let freezes = stage.freezes(dan, Duration::ZERO, from);
    println!("{:?}, {freezes:?}, {}", path.down.counters, stage.out("dan"));
    assert!(path.down.counters.lost * 20 < path.down.counters.sent, "{:?}", path.down.counters);
    assert!(freezes.longest < Duration::from_millis(400), "{freezes:?}");
    assert!(stage.heard(dan) > 0.99, "{}", stage.heard(dan));
    assert!(stage.shown(dan, Duration::ZERO).iter().all(|s| s.layer == 0));
}

#[test]
fn key_frames_that_take_longer_than_anything_waits_are_seen() {
    holds(140..150, narrow_for_key_frames);
}

/// Of a camera of 100 kbit/s a key frame is 17 kB, 550 ms of a line of 250 kbit/s: what is no key frame is dropped after 300. Its
/// beginnings were all that came, one after the other.
fn narrow_for_key_frames(seed: u64) {
    let mut stage = Stage::of(seed, &line(2_000_000), Profile::new("anna"));
    stage.start(15, [100_000; 3], None);
    stage.world.clients[stage.anna].senders.iter_mut().for_each(|sender| sender.key_size = 20);
    stage.world.run(10 * SECOND + Duration::from_millis(8 * (seed % 30)));
    let from = stage.world.now;
    stage.narrow(250_000);
    stage.world.run(5 * SECOND);
    stage.world.clients[stage.ben].request_keyframe(1);
    stage.world.run(15 * SECOND);
    let freezes = stage.freezes(stage.ben, Duration::ZERO, from);
    println!("seed {seed}: {freezes:?}, {}", stage.out("ben"));
    stage.world.check().assert_sound();
    // Of 300. One freeze is the drop, one is the key frame on its way.
    assert!(freezes.pictures >= 260, "{freezes:?}");
    assert!(freezes.longest < 5 * SECOND / 2, "{freezes:?}");
}

#[test]
fn a_dead_line_lowers_the_estimate() {
    holds(130..136, dead_line);
}

fn dead_line(seed: u64) {
    let mut stage = Stage::new(seed, &line(5_000_000));
    stage.world.run(8 * SECOND);
    let before = stage.out("ben")["estimate_bps"].as_u64().unwrap();
    let dead = Conditions { loss: 1.0, ..Conditions::default() };
    stage.set(stage.ben, &dead, &dead);
    stage.world.run(3 * SECOND);
    let after = stage.out("ben")["estimate_bps"].as_u64().unwrap();
    println!("{before} before, {after} after three seconds without feedback");
    assert!(after * 2 < before, "{after} after {before}");
    stage.narrow(5_000_000);
    stage.world.run(10 * SECOND);
    assert!(stage.out("ben")["estimate_bps"].as_u64().unwrap() * 10 > before * 8);
}
