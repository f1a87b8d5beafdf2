//! A stream into which a producer puts one contact after another: each one's record, its sound, its deletion.

use antiphon_base::ErrorKind;
use antiphon_record::wav::{Wanted, Wav};
use antiphon_store::matroska::write::{PcmLabel, PcmTrack, cluster_start, pcm_header, simple_block};
use antiphon_store::{FragmentNumber, NewStream, Store, StreamRef, Timecodes};

use crate::hall::{contact, rig};

const T0: u64 = 1_700_000_000_000;

/// A fragment of 640 ms of the contact's voice, all of one sample.
async fn call(store: &Store, stream: &StreamRef, id: &str, at_ms: u64, sample: u8) -> FragmentNumber {
    let name = "AUDIO_FROM_CUSTOMER".to_owned();
    let track = PcmTrack { number: 1, name, rate_hz: 8000, label: PcmLabel::Pcm };
    let blocks = (0..10).flat_map(|i| simple_block(1, i * 64, &[sample, 0].repeat(512)));
    let (mut session, _acks) = store.open_session(stream, Timecodes::Absolute, at_ms).await.unwrap();
    session.push(&pcm_header("t", &[track], &[("ContactId", id)]), at_ms).await.unwrap();
    session.push(&cluster_start(at_ms).into_iter().chain(blocks).collect::<Vec<_>>(), at_ms).await.unwrap();
    session.finish(true, at_ms + 640).await.last.unwrap()
}

async fn samples(mut wav: Wav) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = wav.next().await {
        bytes.extend_from_slice(&piece);
    }
    bytes[44..].iter().copied().step_by(2).collect()
}

#[tokio::test(start_paused = true)]
async fn a_contact_of_a_shared_stream_has_a_record_and_sound_and_is_removed_alone() {
    let (_, store, recorder) = rig().await;
    let new = NewStream { name: "line-1".into(), retention_h: 87_600, ..NewStream::default() };
    store.create_stream(new, T0).await.unwrap();
    let line = StreamRef::Name("line-1".into());
    let mut numbers = Vec::new();
    for (i, (id, sample)) in [("x", 1), ("x", 2), ("y", 3), ("x", 4)].into_iter().enumerate() {
        numbers.push(call(&store, &line, id, T0 + 640 * i as u64, sample).await);
    }
    let record = recorder.record(&contact("x")).unwrap();
    let shown = record["Recordings"].as_array().unwrap();
    let text = |i: usize, field: &str| shown[i][field].as_str().unwrap().to_owned();
    assert_eq!(shown.len(), 2, "{record}");
    assert_eq!(text(0, "FragmentStartNumber"), numbers[0].to_string());
    assert_eq!(text(0, "FragmentStopNumber"), numbers[1].to_string());
    assert_eq!(
        (text(0, "StartTimestamp"), text(0, "StopTimestamp")),
        (T0.to_string(), (T0 + 1280).to_string())
    );
    assert!(text(1, "Location").contains("/line-1/"), "{record}");
    let audio = &record["ContactData"]["MediaStreams"]["Customer"]["Audio"];
    assert_eq!(audio["StartFragmentNumber"], numbers[3].to_string());

    let heard = |id, start| {
        let recorder = recorder.clone();
        async move { samples(recorder.wav(&contact(id), start, Wanted::From, false).await.unwrap()).await }
    };
    assert_eq!(heard("x", None).await, [4].repeat(5_120));
    assert_eq!(heard("x", Some(numbers[0])).await, [[1].repeat(5_120), [2].repeat(5_120)].concat());
    assert_eq!(heard("y", None).await, [3].repeat(5_120));
    let other = recorder.wav(&contact("x"), Some(numbers[2]), Wanted::From, false).await;
    assert_eq!(other.err().unwrap().kind(), ErrorKind::NotFound, "it is another's");

    recorder.delete(&contact("x")).await.unwrap();
    assert_eq!(recorder.record(&contact("x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(recorder.delete(&contact("x")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(heard("y", None).await, [3].repeat(5_120), "the other contact's is there");
    assert_eq!(store.describe(&line).unwrap().fragments, 1);
}
