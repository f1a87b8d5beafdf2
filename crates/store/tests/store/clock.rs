//! A clock of the server that jumps ahead within a session, and back: producers' times are theirs, numbers and server times go up,
//! selectors find what was stored then, and nothing is lost but by a sweep that believes the clock.

use antiphon_store::{Clock, FragmentInfo, Start, Store, StreamRef, Timecodes};

use crate::rig::{
    Document, HOUR, T0, assert_whole, cluster, documents, drain, header, name, new_stream, persisted,
    read_all, with_stream,
};

const JUMPS: [u64; 2] = [HOUR, 24 * HOUR];
/// A fragment of 1,024 ms.
const LONG: u64 = 1024;

/// What the server's clock says when each of six fragments comes: it goes, jumps within the second, stays there, and goes back before the sixth.
fn clock(jump: u64) -> [u64; 6] {
    [0, 0, jump, jump, jump, 0]
        .into_iter()
        .zip(0..)
        .map(|(ahead, i)| T0 + i * LONG + ahead)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// Six fragments by that clock, followed live; the second arrives in two halves, on both sides of the jump. Gives what was read live.
async fn session(store: &Store, stream: &StreamRef, jump: u64) -> Vec<Document> {
    let (mut session, acks) = store.open_session(stream, Timecodes::Absolute, T0).await.unwrap();
    let mut reader = store.get_media(stream, Start::Now, T0).unwrap();
    session.push(&header(), T0).await.unwrap();
    let mut live = Vec::new();
    for (i, now) in (0..).zip(clock(jump)) {
        let bytes = cluster(T0 + i * LONG, 16);
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        session.push(half, now).await.unwrap();
        let later = if i == 1 { now + jump } else { now };
        session.push(rest, later).await.unwrap();
        let (bytes, ended) = drain(&mut reader, later).await;
        assert!(!ended, "{i}: its producer is there");
        live.extend(bytes);
    }
    let end = T0 + 6 * LONG;
    session.finish(true, end).await;
    live.extend(drain(&mut reader, end).await.0);
    drop(acks);
    documents(&live)
}

fn all(store: &Store, stream: &StreamRef, now: u64) -> Vec<FragmentInfo> {
    store.list_fragments(stream, None, 100, None, now).unwrap().fragments
}

#[tokio::test]
async fn times_stay_right_when_the_clock_jumps_ahead_within_a_session() {
    for jump in JUMPS {
        let (store, s) = with_stream(48).await;
        let live = session(&store, &s, jump).await;
        let now = T0 + jump + 10 * LONG;
        let found = all(&store, &s, now);
        let at = |i: u64| T0 + i * LONG;
        let producer: Vec<_> = found.iter().map(|f| (f.producer_ms, f.duration_ms)).collect();
        assert_eq!(
            producer,
            (0..6).map(|i| (at(i), LONG)).collect::<Vec<_>>(),
            "the producer's times are its own"
        );
        // The time of the first byte; that of the last does not go back.
        let server: Vec<_> = found.iter().map(|f| f.server_ms).collect();
        assert_eq!(server, [at(0), at(1), at(2) + jump, at(3) + jump, at(4) + jump, at(4) + jump]);
        assert!(found.is_sorted_by(|a, b| a.number < b.number));
        // Who follows gets all, each once, and whole.
        assert_eq!(
            live.iter().map(Document::number).collect::<Vec<_>>(),
            found.iter().map(|f| f.number).collect::<Vec<_>>()
        );
        live.iter().for_each(|document| assert_whole(document, 16));
        for (start, first) in [
            (Start::At(Clock::Producer, at(2)), 2),
            (Start::At(Clock::Producer, at(5) + 1), 5),
            (Start::At(Clock::Server, at(1) + 1), 1),
            (Start::At(Clock::Server, at(2)), 2),
            (Start::At(Clock::Server, at(2) + jump - 1), 2),
            (Start::At(Clock::Server, at(3) + jump), 3),
            (Start::After(found[1].number), 2),
            (Start::Earliest, 0),
        ] {
            let read: Vec<_> =
                read_all(&store, &s, start, now).await.iter().map(Document::timecode).collect();
            assert_eq!(read, (first..6).map(at).collect::<Vec<_>>(), "{start:?}, {jump}");
        }
        // Another session goes on behind it, though the clock is back.
        let (mut session, acks) = store.open_session(&s, Timecodes::Absolute, at(7)).await.unwrap();
        session.push(&[header(), cluster(at(7), 16)].concat(), at(7)).await.unwrap();
        session.finish(true, at(8)).await;
        let later = persisted(acks).await;
        assert!(later[0] > found[5].number && later[0].server_ms() == at(4) + jump);
    }
}

#[tokio::test]
async fn a_jump_ahead_hides_what_is_old_by_it_and_only_a_sweep_takes_it() {
    for jump in JUMPS {
        let store = with_stream(48).await.0;
        let hours = u32::try_from(jump / HOUR).unwrap();
        store.create_stream(new_stream("short", hours), T0).await.unwrap();
        let s = name("short");
        session(&store, &s, jump).await;
        let numbers = |now| all(&store, &s, now).iter().map(|f| f.number).collect::<Vec<_>>();
        let (before, ahead) = (T0 + 7 * LONG, T0 + 7 * LONG + jump);
        assert_eq!(numbers(before).len(), 6);
        // What came before the jump is past its retention while the clock is there; what came behind it is not.
        assert_eq!(numbers(ahead), numbers(before)[2..]);
        assert_eq!(numbers(before).len(), 6, "a clock that is taken back takes nothing with it");
        assert_eq!(store.sweep(before).await.fragments, 0);
        assert_eq!(store.sweep(ahead).await.fragments, 2);
        assert_eq!(numbers(before).len(), 4);
    }
}
