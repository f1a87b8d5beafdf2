//! Answers: what it hears it says a second later, and whom it sees it shows as in a mirror.

use std::collections::{BTreeMap, HashMap, HashSet};

use antiphon_client::{
    AudioFrame, Error, Event, Meta, ParticipantKind, PixelFormat, Room, VideoFrame, connect,
};

mod arguments;
use arguments::Arguments;

const DELAY_FRAMES: i64 = 50; // a second

/// Sums up what all say, and gives it back a second later, 20 ms at a time.
#[derive(Default)]
struct Delay {
    sums: BTreeMap<i64, Vec<i32>>,
    offsets: HashMap<u32, i64>,
}

impl Delay {
    fn put(&mut self, frame: &AudioFrame) -> Vec<Vec<i16>> {
        // Streams begin at different times; afterwards their sequence numbers count the same 20 ms.
        let sequence = i64::from(frame.meta.sequence);
        let started = || i64::try_from(frame.meta.clocks.media_us / 20_000).unwrap_or(0) - sequence;
        let now = sequence + *self.offsets.entry(frame.meta.stream).or_insert_with(started);
        let sum = self.sums.entry(now).or_insert_with(|| vec![0; frame.samples.len()]);
        sum.iter_mut().zip(&frame.samples).for_each(|(s, x)| *s += i32::from(*x));
        let later = self.sums.split_off(&(now - DELAY_FRAMES + 1));
        let due = std::mem::replace(&mut self.sums, later);
        let clip = |s: i32| i16::try_from(s.clamp(-32_768, 32_767)).expect("just clamped");
        due.into_values().map(|sum| sum.into_iter().map(clip).collect()).collect()
    }
}

/// An RGB picture with left and right exchanged.
fn mirrored(frame: &VideoFrame) -> Vec<u8> {
    let row = 3 * usize::from(frame.width.max(1));
    frame.data.chunks_exact(row).flat_map(|row| row.rchunks_exact(3).flatten().copied()).collect()
}

#[derive(Default)]
struct Echo {
    delay: Delay,
    known: HashSet<u32>,
    shows: Option<antiphon_client::ParticipantKey>,
    heard: u64,
    said: u64,
    seen: u64,
    shown: u64,
}

impl Echo {
    /// Bots are heard but not answered: two echoes would never stop.
    fn meet(&mut self, meta: &Meta, verb: &str) -> bool {
        let name = meta.participant.as_ref().map_or("a mix", |p| p.name.as_str());
        if self.known.insert(meta.stream) {
            println!("{verb} {name}");
        }
        meta.participant.as_ref().is_some_and(|p| p.kind != ParticipantKind::Bot)
    }

    async fn hear(&mut self, room: &Room, frame: &AudioFrame) -> Result<(), Error> {
        self.heard += 1;
        if self.meet(&frame.meta, "hears") {
            for samples in self.delay.put(frame) {
                room.microphone().push(&samples, frame.sample_rate).await?;
                self.said += 1;
            }
        }
        Ok(())
    }

    async fn see(&mut self, room: &Room, frame: &VideoFrame) -> Result<(), Error> {
        self.seen += 1;
        if !self.meet(&frame.meta, "sees") {
            return Ok(());
        }
        let Some(who) = &frame.meta.participant else { return Ok(()) };
        let present = |key| room.participants().iter().any(|p| p.key == key);
        if room.dominant().first() == Some(&who.id) || !self.shows.is_some_and(present) {
            self.shows = Some(who.key);
        }
        if self.shows == Some(who.key) {
            room.camera().push(PixelFormat::Rgb24, frame.width, frame.height, &mirrored(frame)).await?;
            self.shown += 1;
        }
        Ok(())
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let end = arguments.end_of();
    tokio::pin!(end);
    let mut options = arguments.options.hear_and_speak().see_and_show();
    options.session.camera.height = Some(360);
    let mut room = connect(options).await?;
    println!("in room {} as {}", room.name, room.id);
    let mut echo = Echo::default();
    loop {
        let event = tokio::select! {
            event = room.recv() => event?,
            () = &mut end => None,
        };
        match event {
            None => break,
            Some(Event::Audio(frame)) => echo.hear(&room, &frame).await?,
            Some(Event::Video(frame)) => echo.see(&room, &frame).await?,
            Some(_) => {}
        }
    }
    let Echo { heard, said, seen, shown, .. } = echo;
    println!("heard {heard} frames, said {said}; saw {seen} pictures, showed {shown}");
    room.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    arguments::report(run(Arguments::parse("Echo")).await)
}
