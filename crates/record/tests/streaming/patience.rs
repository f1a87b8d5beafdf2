//! What is kept does not depend on how a voice came: packets that overtake each other, wait, or come at once are at their place.

use std::sync::Arc;
use std::time::Duration;

use antiphon_record::wav::Wanted;
use antiphon_record::{Form, Options, Recorder};
use antiphon_store::{Start, StreamRef};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::hall::{Speaker, contact, entered, rig, seconds};
use crate::{blocks_of, sound};

/// How long packets are waited for.
const PATIENCE_MS: u64 = 300;
/// Twelve seconds, every other of which is spoken.
const FRAMES: u32 = 600;

fn is_spoken(n: u32) -> bool {
    n % 100 < 50
}

/// A way on which packets overtake each other: one in ten is fast, the others are on it for up to `most_ms`.
fn jitter(most_ms: u64) -> impl FnMut(u32) -> Option<Duration> {
    let mut rng = SmallRng::seed_from_u64(41);
    move |n| {
        let delay_ms = if n % 10 == 5 { 0 } else { rng.random_range(0..=most_ms) };
        is_spoken(n).then(|| Duration::from_millis(delay_ms))
    }
}

/// What is kept of that, as PCM.
async fn kept(way: impl FnMut(u32) -> Option<Duration>) -> Vec<i16> {
    let (hall, _, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    recorder.start(&contact("c"), Options::default()).await.unwrap();
    Speaker::new(&hall, 1, 440.0).speak_over("r", FRAMES, way).await;
    tokio::time::sleep(seconds(1)).await;
    recorder.stop(&contact("c")).await.unwrap();
    sound(&recorder, "c", Wanted::From).await.0.remove(0)
}

#[tokio::test(start_paused = true)]
async fn pcm_is_sample_by_sample_what_it_is_without_jitter() {
    let smooth = kept(|n| is_spoken(n).then_some(Duration::ZERO)).await;
    let loud = smooth.iter().filter(|s| s.abs() > 100).count();
    assert!(loud > 5 * 8_000, "{loud} samples have sound");
    for most_ms in [40, 150, PATIENCE_MS - 25] {
        let jittered = kept(jitter(most_ms)).await;
        let same = smooth.iter().zip(&jittered).take_while(|(a, b)| a == b).count();
        assert!(same >= 160 * (FRAMES as usize - 50), "{most_ms} ms: the same up to sample {same}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_packet_that_came_in_time_is_kept_at_its_place() {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let options = Options { codec: Form::Opus, ..Options::default() };
    let started = recorder.start(&contact("c"), options).await.unwrap();
    let mut ada = Speaker::new(&hall, 1, 440.0);
    let mut way = jitter(PATIENCE_MS - 25);
    // Two are too late: what is not there when its time has come is a hole.
    let late = [123, 310];
    let late_ms = Duration::from_millis(PATIENCE_MS + 60);
    ada.speak_over("r", FRAMES, |n| way(n).map(|delay| if late.contains(&n) { late_ms } else { delay }))
        .await;
    let run = recorder.stop(&contact("c")).await.unwrap().latest().clone();
    let name = StreamRef::Name(started.stream.name);
    let blocks = blocks_of(&store, &name, Start::After(run.first), &run).await;
    let spoken = (0..FRAMES).filter(|n| is_spoken(*n));
    let in_time: Vec<_> = spoken.zip(&ada.sent).filter(|(n, _)| !late.contains(n)).collect();
    let said: Vec<_> = blocks.iter().filter(|(_, packet)| packet.len() > 3).collect();
    assert_eq!(said.len(), in_time.len());
    for ((at_ms, kept), (n, sent)) in said.iter().zip(in_time) {
        assert_eq!(kept[..], sent[..], "frame {n}");
        assert!(at_ms.abs_diff(u64::from(n) * 20) <= 40, "frame {n} is at {at_ms} ms");
    }
    // DTX, and what was too late, is silence: no 20 ms are without a block.
    assert!(
        blocks.windows(2).all(|w| w[1].0 - w[0].0 <= 20),
        "{:?}",
        blocks.iter().map(|b| b.0).collect::<Vec<_>>()
    );
}

/// What is kept of somebody who goes from place to place (room, connection, how long it speaks there), and what it said.
struct Moved {
    recorder: Recorder,
    sent: Vec<Arc<[u8]>>,
    /// Of Opus, each block with its time.
    blocks: Vec<(u64, Bytes)>,
    length: Duration,
}

async fn moved(form: Form, places: &[(&str, u32, u64)]) -> Moved {
    let (hall, store, recorder) = rig().await;
    hall.join("r", "ada", 1);
    entered(&recorder, "r", "ada", Some(&contact("c")));
    let options = Options { codec: form, ..Options::default() };
    let started = recorder.start(&contact("c"), options).await.unwrap();
    let (mut ada, began) = (Speaker::new(&hall, 1, 440.0), Instant::now());
    let mut left = "r";
    for (room, key, said_ms) in places {
        if *key > 1 {
            hall.leave(left, "ada", antiphon_wire::control::LeaveReason::Replaced);
            hall.join(room, "ada", *key);
            entered(&recorder, room, "ada", Some(&contact("c")));
            let sent = std::mem::take(&mut ada.sent);
            ada = ada.reconnected(*key);
            ada.sent = sent;
            // The last packet was 20 ms ago, and the next is due when the track is tapped.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ada.speak(room, Duration::from_millis(*said_ms)).await;
        left = room;
    }
    let length = began.elapsed();
    let run = recorder.stop(&contact("c")).await.unwrap().latest().clone();
    let blocks = match form {
        Form::Opus => {
            let name = StreamRef::Name(started.stream.name);
            blocks_of(&store, &name, Start::After(run.first), &run).await
        }
        Form::Pcm => Vec::new(),
    };
    Moved { recorder, sent: ada.sent, blocks, length }
}

impl Moved {
    fn said(&self) -> Vec<&(u64, Bytes)> {
        self.blocks.iter().filter(|(_, packet)| packet.len() > 3).collect()
    }

    /// No 20 ms are without a block, and none goes back.
    fn check_axis(&self) {
        let times: Vec<u64> = self.blocks.iter().map(|(at_ms, _)| *at_ms).collect();
        assert!(times.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 20), "{times:?}");
    }
}

const MOVES: [&[(&str, u32, u64)]; 3] = [
    &[("r", 1, 1_000), ("r", 2, 1_000), ("s", 3, 1_000)],
    // Two and more within what is waited for: of rooms, and of connections.
    &[("r", 1, 1_000), ("s", 2, 100), ("t", 3, 100), ("u", 4, 100), ("s", 5, 1_000)],
    &[("r", 1, 1_000), ("r", 2, 100), ("r", 3, 100), ("r", 4, 100), ("r", 5, 1_000)],
];

#[tokio::test(start_paused = true)]
async fn the_last_words_before_another_connection_or_room_are_kept() {
    for places in MOVES {
        let opus = moved(Form::Opus, places).await;
        let said = opus.said();
        assert_eq!(said.len(), opus.sent.len(), "{places:?}");
        assert!(said.iter().zip(&opus.sent).all(|((_, kept), sent)| kept[..] == sent[..]), "{places:?}");
        opus.check_axis();
        let last_ms = u64::try_from(opus.length.as_millis()).unwrap();
        assert!(said.last().unwrap().0.abs_diff(last_ms) <= 60, "{} of {last_ms}", said.last().unwrap().0);
        let pcm = moved(Form::Pcm, places).await;
        let samples = &sound(&pcm.recorder, "c", Wanted::From).await.0[0];
        let said_ms = usize::try_from(pcm.length.as_millis()).unwrap();
        // Nowhere are 30 ms without sound.
        let quiet = samples[..said_ms * 8 - 400].split(|s| s.abs() > 300).map(<[i16]>::len).max();
        assert!(quiet < Some(240), "{quiet:?} samples without sound: {places:?}");
        assert_eq!((opus.recorder.metrics().tails_cut, pcm.recorder.metrics().tails_cut), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn of_more_places_than_are_waited_for_the_oldest_is_cut_and_counted() {
    let rooms: Vec<String> = (0..12).map(|i| format!("r{i}")).collect();
    for in_one_room in [false, true] {
        let room = |i: usize| if in_one_room || i == 0 { "r" } else { &rooms[i] };
        let mut places: Vec<_> = (0..12).map(|i| (room(i), u32::try_from(i).unwrap() + 1, 20)).collect();
        (places[0].2, places[11].2) = (1_000, 1_000);
        let Moved { recorder, .. } = moved(Form::Pcm, &places).await;
        assert_eq!(recorder.metrics().tails_cut > 0, !in_one_room, "a room has place for more voices");
        let opus = moved(Form::Opus, &places).await;
        let cut = opus.recorder.metrics().tails_cut;
        assert!((1..=7).contains(&cut), "{cut}");
        let said = opus.said();
        let mut sent = opus.sent.iter();
        assert!(said.iter().all(|(_, kept)| sent.any(|sent| sent[..] == kept[..])), "in order, none twice");
        // Of the first and the last all but the end of the first, and of those between what is not cut.
        let whole = said
            .iter()
            .rev()
            .zip(opus.sent.iter().rev())
            .take_while(|((_, kept), sent)| kept[..] == sent[..]);
        assert!(whole.count() >= 50 + 4, "what is not cut");
        assert!((90..110).contains(&said.len()), "{} of {}", said.len(), opus.sent.len());
        opus.check_axis();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_just_before_a_place_is_left_is_counted() {
    let mut counts = Vec::new();
    for then in ["r", "s"] {
        let (hall, _, recorder) = rig().await;
        hall.join("r", "ada", 1);
        entered(&recorder, "r", "ada", Some(&contact("c")));
        recorder.start(&contact("c"), Options { codec: Form::Opus, ..Options::default() }).await.unwrap();
        Speaker::new(&hall, 1, 440.0).speak("r", Duration::from_millis(500)).await;
        // Ten other connections, and on: all in no time.
        for key in 2..12 {
            hall.leave("r", "ada", antiphon_wire::control::LeaveReason::Replaced);
            hall.join("r", "ada", key);
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        hall.leave("r", "ada", antiphon_wire::control::LeaveReason::Replaced);
        hall.join(then, "ada", 12);
        entered(&recorder, then, "ada", Some(&contact("c")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        recorder.stop(&contact("c")).await.unwrap();
        counts.push(recorder.metrics().tails_cut);
    }
    // The eleventh goes into the next room's account.
    assert!(counts[1] >= 6 && counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
}
