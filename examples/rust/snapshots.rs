//! Writes a picture of each participant every second, as PPM (which any picture viewer opens).

use std::collections::HashMap;
use std::io;
use std::path::Path;

use antiphon_client::{Direction, Error, Event, VideoForm, VideoFrame, VideoSession, connect};

mod arguments;
use arguments::Arguments;

/// Binary PPM: a line of text, then the pixels as they are.
async fn write_ppm(path: &Path, frame: &VideoFrame) -> io::Result<()> {
    let mut data = format!("P6 {} {} 255\n", frame.width, frame.height).into_bytes();
    data.extend_from_slice(&frame.data);
    tokio::fs::write(path, data).await
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let end = arguments.end_of();
    tokio::pin!(end);
    // The server sends one picture per second; nothing is decoded here only to be thrown away.
    let look = VideoSession {
        direction: Direction::Recvonly,
        form: VideoForm::Rgb24,
        max_frame_rate: 1,
        ..VideoSession::default()
    };
    let mut options = arguments.options.camera(look.clone());
    options.session.screen = look;
    let mut room = connect(options).await?;
    println!("in room {} as {}", room.name, room.id);
    let mut counts: HashMap<u32, u32> = HashMap::new();
    loop {
        let event = tokio::select! {
            event = room.recv() => event?,
            () = &mut end => None,
        };
        let frame = match event {
            None => break,
            Some(Event::Video(frame)) => frame,
            Some(_) => continue,
        };
        let Some(who) = &frame.meta.participant else { continue };
        let count = counts.entry(frame.meta.stream).or_default();
        *count += 1;
        let source = frame.meta.source.as_str();
        let path = arguments.out.join(format!("{}-{source}-{count:04}.ppm", arguments::file_name(who)));
        write_ppm(&path, &frame).await.map_err(|e| {
            eprintln!("cannot write {}: {e}", path.display());
            Error::Misuse("the folder of --out must be there, and one that can be written to")
        })?;
        println!("{}: {} x {}", path.display(), frame.width, frame.height);
    }
    room.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    arguments::report(run(Arguments::parse("Photographer")).await)
}
