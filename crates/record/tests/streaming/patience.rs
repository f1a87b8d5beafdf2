//! What is kept does not depend on how a voice came: packets that overtake each other, wait, or come at once are at their place.

use std::time::Duration;

use antiphon_record::wav::Wanted;
use antiphon_record::{Form, Options};
use antiphon_store::{Start, StreamRef};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

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

#[tokio::test(start_paused = true)]
async fn the_last_words_before_another_connection_or_room_are_kept() {
    for form in [Form::Pcm, Form::Opus] {
        let (hall, store, recorder) = rig().await;
        hall.join("r", "ada", 1);
        entered(&recorder, "r", "ada", Some(&contact("c")));
        let options = Options { codec: form, ..Options::default() };
        let started = recorder.start(&contact("c"), options).await.unwrap();
        let mut ada = Speaker::new(&hall, 1, 440.0);
        for (room, key) in [("r", 1), ("r", 2), ("s", 3)] {
            if key > 1 {
                let reason = antiphon_wire::control::LeaveReason::Replaced;
                hall.leave("r", "ada", reason);
                hall.join(room, "ada", key);
                entered(&recorder, room, "ada", Some(&contact("c")));
                let sent = std::mem::take(&mut ada.sent);
                ada = ada.reconnected(key);
                ada.sent = sent;
                // The last packet was 20 ms ago, and the next is due when the track is tapped.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ada.speak(room, seconds(1)).await;
        }
        let run = recorder.stop(&contact("c")).await.unwrap().latest().clone();
        if form == Form::Opus {
            let name = StreamRef::Name(started.stream.name);
            let blocks = blocks_of(&store, &name, Start::After(run.first), &run).await;
            let said: Vec<_> = blocks.iter().filter(|(_, packet)| packet.len() > 3).collect();
            assert_eq!(said.len(), ada.sent.len());
            assert!(said.iter().zip(&ada.sent).all(|((_, kept), sent)| kept[..] == sent[..]));
        } else {
            let samples = &sound(&recorder, "c", Wanted::From).await.0[0];
            // Nowhere in the three seconds are 30 ms without sound.
            let quiet = samples[..3 * 8_000 - 400].split(|s| s.abs() > 300).map(<[i16]>::len).max();
            assert!(quiet < Some(240), "{quiet:?} samples without sound");
        }
    }
}
