//! Shows how loud each participant is, five times per second.

use std::collections::HashMap;

use antiphon_client::{AudioFrame, Error, Event, connect};

mod arguments;
use arguments::Arguments;

const FLOOR_DB: f64 = -60.0;
const WIDTH: u8 = 30;
const EVERY_FRAMES: u32 = 10; // of 20 ms

/// Level of a frame in dBFS.
fn decibels(frame: &AudioFrame) -> f64 {
    if frame.silence || frame.is_empty() {
        return FLOOR_DB;
    }
    let squares: f64 = frame.samples.iter().map(|s| (f64::from(*s) / 32_768.0).powi(2)).sum();
    let count = f64::from(u32::try_from(frame.samples.len()).unwrap_or(u32::MAX));
    (10.0 * (squares / count).log10()).max(FLOOR_DB)
}

fn bar(level: f64) -> String {
    let full = f64::from(WIDTH) * (1.0 - level / FLOOR_DB);
    (0..WIDTH).map(|i| if f64::from(i) + 0.5 < full { '#' } else { ' ' }).collect()
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let end = arguments.end_of();
    tokio::pin!(end);
    let mut room = connect(arguments.options.hear()).await?;
    println!("in room {} as {}", room.name, room.id);
    let mut loudest: HashMap<u32, f64> = HashMap::new();
    loop {
        let event = tokio::select! {
            event = room.recv() => event?,
            () = &mut end => None,
        };
        let frame = match event {
            None => break,
            Some(Event::Audio(frame)) => frame,
            Some(_) => continue,
        };
        let level = loudest.entry(frame.meta.stream).or_insert(FLOOR_DB);
        *level = level.max(decibels(&frame));
        if frame.meta.sequence.is_multiple_of(EVERY_FRAMES) {
            let level = std::mem::replace(level, FLOOR_DB);
            let who = frame.meta.participant.as_ref();
            let leads = if room.dominant().first() == who.map(|p| &p.id) { '*' } else { ' ' };
            let name = who.map_or("mix", |p| p.name.as_str());
            println!("{leads}{name:>20.20} |{}| {level:5.1} dB", bar(level));
        }
    }
    room.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    arguments::report(run(Arguments::parse("Level meter")).await)
}
