//! One speaks, thousands listen: a room larger than a shard, spread by the server itself.

use std::time::{Duration, Instant};

use antiphon_base::Source;
use antiphon_shard::{Config, Grants};
use antiphon_sim::{Profile, World};
use antiphon_wire::control::ParticipantKind;

/// How long the speaker speaks.
const TALK: Duration = Duration::from_secs(2);

/// One publisher and so many players with `lines` lines for voices, over two shards.
fn crowd(count: usize, lines: usize) {
    let mut world = World::spread(301, &Config::default(), 2);
    let speaker = world.enter(Profile::new("speaker"));
    let home = world.engine.home(&world.room);
    let began = Instant::now();
    let listeners: Vec<usize> = (0..count)
        .map(|i| {
            let grants = Grants { publish: false, subscribe: true, moderate: false };
            let profile = Profile {
                kind: ParticipantKind::Whep,
                control: false,
                grants,
                ..Profile::new(&format!("listener-{i}"))
            };
            let client = world.join(profile.listener(lines, 0));
            // Not all in one moment.
            if i % 50 == 49 {
                world.run(Duration::from_millis(100));
            }
            client
        })
        .collect();
    world.until(Duration::from_secs(10), "all listen", |w| {
        listeners.iter().all(|c| w.clients[*c].connected.is_some())
    });
    println!("{count} have joined after {:?}", began.elapsed());
    let now = world.now;
    world.clients[speaker].start(now, Source::Microphone, 0);
    world.run(TALK);
    world.clients[speaker].stop(Source::Microphone);
    world.run(Duration::from_millis(500));
    println!("all is said after {:?}", began.elapsed());

    let sent = u64::from(world.clients[speaker].senders[0].frames);
    let [at_home, away] = [home, 1 - home].map(|shard| world.engine.metrics_of(shard));
    println!("home {at_home:?}\naway {away:?}");
    // Decrypted once, on the speaker's shard, and handed over once.
    assert_eq!((at_home.packets_in, away.packets_in), (sent, 0));
    assert!((sent - 5..=sent).contains(&at_home.packets_relayed), "{} of {sent}", at_home.packets_relayed);
    assert_eq!((at_home.relay_dropped, at_home.link_dropped, away.link_dropped), (0, 0, 0));
    // Both have their share.
    let all = at_home.packets_forwarded + away.packets_forwarded;
    for shard in [at_home, away] {
        let share = shard.packets_forwarded * 100 / all;
        assert!((35..=65).contains(&share), "{share} % of {all}");
    }
    // And everybody has heard all of it, but for the time in which the first packet told that there is a voice.
    let least = (sent - 5) * count as u64;
    assert!(all >= least && all <= sent * count as u64, "{all}, at least {least}");
    for client in listeners {
        let heard: usize = world.clients[client].slots.iter().map(|slot| slot.packets.len()).sum();
        assert!(heard as u64 >= sent - 5, "{client} has heard {heard} of {sent}");
    }
    world.check().assert_sound();
}

#[test]
fn three_hundred_listen_over_two_shards() {
    crowd(300, 3);
}

#[test]
fn three_thousand_listen_over_two_shards() {
    crowd(3_000, 1);
}
