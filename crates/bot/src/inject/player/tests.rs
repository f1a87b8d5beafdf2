use super::*;
use crate::fuzzing::Hold;

fn player() -> Player {
    Player::new(Duration::from_secs(2), 4, Box::new(Hold))
}

/// Plays what is due before `until`.
fn play(p: &mut Player, until: Instant) -> Vec<Spoken> {
    let mut out = Vec::new();
    while let Some(due) = p.due().filter(|d| *d < until) {
        out.extend(p.poll(due));
    }
    out
}

fn notices(p: &mut Player) -> Vec<Notice> {
    std::iter::from_fn(|| p.notice()).collect()
}

#[test]
fn any_chunk_size_and_rate_comes_out_in_order_at_50_frames_per_second() {
    let start = Instant::now();
    let mut p = player();
    let mut expected = Vec::new();
    let mut value = 0i16;
    for (n, rate) in [(1, 8_000), (7, 16_000), (441, 24_000), (5_000, 48_000), (333, 16_000), (2_000, 8_000)]
    {
        let chunk: Vec<i16> = (0..n).map(|i| value.wrapping_add(i)).collect();
        value += 100;
        Hold.upsample(rate, &chunk, &mut expected);
        assert_eq!(p.push(start, rate, chunk), 0);
    }
    let frames = play(&mut p, start + Duration::from_secs(5));
    for (n, f) in frames.iter().enumerate() {
        assert_eq!(f.due, start + TICK * u32::try_from(n).unwrap(), "no drift");
        assert_eq!(f.first, n == 0);
    }
    let all: Vec<i16> = frames.iter().flat_map(|f| f.samples.iter().copied()).collect();
    // A last frame that is not full waits one tick for its rest.
    let whole = expected.len() / FRAME * FRAME;
    assert_eq!(all[..whole], expected[..whole]);
    assert_eq!(all[whole + FRAME..][..expected.len() - whole], expected[whole..]);
    assert_eq!(p.played(), expected.len() as u64);
    assert_eq!(frames.len(), expected.len().div_ceil(FRAME) + 1 + TAIL as usize);
    assert_eq!(p.due(), None, "it comes to rest");
}

#[test]
fn a_flush_counts_every_sample_and_stops_within_one_frame() {
    let start = Instant::now();
    let mut p = player();
    p.push(start, 16_000, vec![5; 16_000]);
    assert!(p.mark("end".into()));
    let played = play(&mut p, start + Duration::from_millis(101)).len() as u64;
    assert_eq!(played, 6);
    assert_eq!(p.flush(), (6 * 960, 48_000 - 6 * 960));
    let next = p.poll(p.due().unwrap()).unwrap();
    assert!(next.samples.iter().all(|s| *s == 0));
    assert!(notices(&mut p).contains(&Notice::Mark { name: "end".into(), sample: 6 * 960, flushed: true }));
    p.push(start, 16_000, vec![6; 320]);
    p.mark("more".into());
    play(&mut p, start + Duration::from_secs(3));
    assert!(notices(&mut p).contains(&Notice::Mark { name: "more".into(), sample: 7 * 960, flushed: false }));
}

#[test]
fn marks_tell_the_exact_sample_in_order() {
    let start = Instant::now();
    let mut p = player();
    p.mark("now".into());
    p.push(start, 8_000, vec![1; 100]);
    p.mark("a".into());
    p.push(start, 48_000, vec![1; 1_000]);
    p.mark("b".into());
    assert!(notices(&mut p).contains(&Notice::Mark { name: "now".into(), sample: 0, flushed: false }));
    play(&mut p, start + Duration::from_secs(1));
    let sample = |n| if let Notice::Mark { sample, .. } = n { Some(sample) } else { None };
    let marks: Vec<_> = notices(&mut p).into_iter().filter_map(sample).collect();
    assert_eq!(marks, [600, 1_600]);
    for n in 0..4 {
        p.push(start, 8_000, vec![1]);
        assert!(p.mark(n.to_string()));
    }
    assert!(!p.mark("too many".into()));
}

#[test]
fn water_marks_and_overflow_are_told_once() {
    let start = Instant::now();
    let mut p = player();
    let state = |n: &Notice| if let Notice::Queue { state, .. } = n { Some(*state) } else { None };
    assert_eq!(p.push(start, 48_000, vec![1; 90_000]), 0);
    assert_eq!(p.push(start, 48_000, vec![1; 10_000]), 4_000, "the newest are dropped");
    assert_eq!(p.push(start, 48_000, vec![1; 10_000]), 10_000);
    let told: Vec<_> = notices(&mut p).iter().filter_map(state).collect();
    assert_eq!(told, [QueueState::High, QueueState::Overflow]);
    play(&mut p, start + Duration::from_secs(3));
    let told: Vec<_> = notices(&mut p).iter().filter_map(state).collect();
    assert_eq!(told, [QueueState::Low, QueueState::Empty]);
    assert_eq!(p.played(), 96_000);
}

#[test]
fn a_pause_holds_the_queue() {
    let start = Instant::now();
    let mut p = player();
    p.push(start, 48_000, vec![1; 4_800]);
    assert_eq!(play(&mut p, start + Duration::from_millis(21)).len(), 2);
    p.pause(start, true);
    let silent = play(&mut p, start + Duration::from_secs(9));
    assert_eq!(silent.len(), TAIL as usize);
    assert!(silent.iter().all(|f| f.samples.iter().all(|s| *s == 0)));
    assert_eq!((p.due(), p.played()), (None, 1_920));
    let later = start + Duration::from_secs(9);
    p.pause(later, false);
    assert_eq!(play(&mut p, later + Duration::from_secs(2)).len(), 3 + TAIL as usize);
    assert_eq!(p.played(), 4_800);
}

#[test]
fn a_stalled_process_does_not_burst() {
    let start = Instant::now();
    let mut p = player();
    p.push(start, 48_000, vec![1; 48_000]);
    p.poll(start);
    let late = start + Duration::from_secs(1);
    assert_eq!(p.poll(late).unwrap().due, late);
    assert_eq!(p.due(), Some(late + TICK));
}
