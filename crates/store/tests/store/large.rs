//! How long a store with very many fragments takes to open: `cargo test --release -p antiphon-store --test store a_million -- --ignored
//! --nocapture`, a step of `make bench`. `ANTIPHON_FRAGMENTS` is how many; the folder is below TMPDIR.

use std::time::{Duration, Instant};

use antiphon_store::{Backend, Config, FragmentNumber, Store};

use crate::rig::{T0, keys, name, new_stream, produce};

/// Streams that the fragments are spread over.
const STREAMS: u64 = 20;
/// The day before T0, at 0:00 UTC.
const DAY: u64 = 1_699_833_600_000;
/// Bytes that an object has beside its media, and one of media.
const OBJECT: usize = 241 + 1;

/// Aim of issue 4, for a million.
const MOST: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "writes a million files"]
async fn a_million_fragments_are_found_again() {
    let count: u64 = std::env::var("ANTIPHON_FRAGMENTS").map_or(1_000_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let backend = || Backend::local(folder.path()).unwrap();
    let (store, _) = Store::open(backend(), keys(), Config::default(), T0).await.unwrap();
    for i in 0..STREAMS {
        let stream = format!("s{i}");
        store.create_stream(new_stream(&stream, 87_600), T0).await.unwrap();
        // The newest of each is real: it is read when the store is opened.
        produce(&store, &name(&stream), &[T0]).await;
    }
    drop(store);
    for stream in std::fs::read_dir(folder.path().join("v1/000000000000")).unwrap().map(|e| e.unwrap().path())
    {
        let Ok(mut headers) = std::fs::read_dir(stream.join("hdr")) else { continue };
        let header = headers.next().unwrap().unwrap().file_name().into_string().unwrap();
        for i in 0..count / STREAMS {
            // One a second, before the real one.
            let (server_ms, hour) = (DAY + i * 1000, i / 3600);
            let number = FragmentNumber::new(0, server_ms, 0);
            let hour = stream.join(format!("f/20231113{hour:02}"));
            if i % 3600 == 0 {
                std::fs::create_dir_all(&hour).unwrap();
            }
            // Calls of five minutes.
            let contact = i / 300 + 1;
            let file = hour.join(format!("{number}.{server_ms:013}.1000.{header}.0.{contact:016x}"));
            std::fs::write(file, [0; OBJECT]).unwrap();
        }
    }
    let begin = Instant::now();
    let (store, problems) = Store::open(backend(), keys(), Config::default(), T0).await.unwrap();
    let took = begin.elapsed();
    println!("{} fragments opened in {:.2} s", store.stats().fragments, took.as_secs_f64());
    assert_eq!(problems, []);
    assert_eq!(store.stats().fragments, count + STREAMS);
    assert!(took <= MOST, "{took:?}");
}
