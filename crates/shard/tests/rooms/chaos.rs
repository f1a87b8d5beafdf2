//! Everything at once, from seeds ([`antiphon_sim::story`]): whatever people and networks do, what everybody receives is
//! sound, comes back, and leaves nothing behind.
//!
//! `make sim SEEDS=1000 FROM=5000` tells more of them; `ANTIPHON_SIM_SEED=N` tells one again.

use std::process::Command;
use std::time::Duration;

use antiphon_sim::story::{Outcome, tell, tell_timed};
use antiphon_sim::world::given_seed;

/// Seeds of `make test`.
const SEEDS: u64 = 200;
/// From so many on the number of packets says something.
const MANY: u64 = 20;
/// Minutes of participants that a minute of processor time tells at least: a quarter of what the slower parts do, those without the long
/// meetings (docs/design/sim.md), since a processor that is shared gives less in a minute.
const LEAST_SPEED: f64 = 150.0;
/// Asks this program, started by itself, for the outcomes of these seeds.
const RETELL: &str = "ANTIPHON_SIM_RETELL";
/// Stands before each of these outcomes.
const RETOLD: &str = "retold: ";

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().expect("the variable is a number"))
}

/// Tells the stories of one part of four of the seeds: each part is a test, so that all cores are used.
fn part(part: u64) {
    let (from, count) = (number("ANTIPHON_SIM_FROM", 0), number("ANTIPHON_SIM_SEEDS", SEEDS));
    let seeds = match given_seed() {
        Some(seed) => seed..seed + 1,
        None => from..from + count,
    };
    let mine: Vec<u64> = seeds.filter(|seed| seed / 4 % 4 == part).collect();
    let (mut packets, mut rooms, mut people, mut spent) = (0, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut unsound = Vec::new();
    for seed in &mine {
        let (outcome, took) = tell_timed(*seed);
        println!("seed {seed}: trace {:016x}, {} packets", outcome.trace, outcome.packets);
        unsound.extend(faults(&outcome));
        packets += outcome.packets;
        rooms += outcome.room_time;
        people += outcome.participant_time;
        spent += took;
    }
    assert!(unsound.is_empty(), "{} seeds have faults:\n{}", unsound.len(), unsound.join("\n"));
    let speed = people.as_secs_f64() / spent.as_secs_f64().max(0.01);
    println!(
        "{} seeds: {rooms:?} of rooms, {people:?} of participants, {packets} packets, in {spent:?} of processor time: {speed:.0} minutes of \
         participants per minute",
        mine.len()
    );
    // Guards against stories in which nothing flows; they give some 2,000 packets each.
    let told = mine.len() as u64;
    assert!(told < MANY || packets >= 1_000 * told, "{packets} packets from {told} seeds");
    assert!(
        told < MANY || speed >= LEAST_SPEED,
        "{speed:.0} minutes of participants per minute of processor time"
    );
}

/// What was wrong with a seed, and how to see it again.
fn faults(Outcome { seed, faults, .. }: &Outcome) -> Option<String> {
    let first = faults[..faults.len().min(20)].join("\n");
    let count = faults.len();
    (count > 0)
        .then(|| format!("seed {seed} has {count} faults; replay it with `make sim SEED={seed}`:\n{first}"))
}

#[test]
fn stories_are_sound_1_of_4() {
    part(0);
}

#[test]
fn stories_are_sound_2_of_4() {
    part(1);
}

#[test]
fn stories_are_sound_3_of_4() {
    part(2);
}

#[test]
fn stories_are_sound_4_of_4() {
    part(3);
}

#[test]
fn a_seed_replays_exactly() {
    // With one shard and with two; both ends of a recovery.
    for seed in [1, 3, 18] {
        let [a, b] = [(); 2].map(|()| tell(seed));
        assert_eq!(a, b);
    }
}

/// As [`a_seed_replays_exactly`], where addresses, hash keys, statics and thread-locals are others.
#[test]
fn a_seed_replays_in_another_process() {
    // Chaos with one shard, a recovery with two in AV1, a meeting with two.
    let seeds = [1, 115, 21];
    let print = |seed| format!("{RETOLD}{:?}", tell(seed));
    if std::env::var_os(RETELL).is_some() {
        return seeds.into_iter().for_each(|seed| println!("\n{}", print(seed)));
    }
    let this = std::env::current_exe().expect("a test runs from a file");
    let mut again = Command::new(this);
    again.args(["--exact", "chaos::a_seed_replays_in_another_process", "--nocapture"]).env(RETELL, "1");
    let output = again.output().expect("it was started before");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("what is printed is text");
    let retold: Vec<&str> = text.lines().filter(|line| line.starts_with(RETOLD)).collect();
    assert_eq!(retold, seeds.map(print));
}
