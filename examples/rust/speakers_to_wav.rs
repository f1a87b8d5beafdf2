//! Writes what each participant says into a WAV file of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use antiphon_client::{AudioFrame, Error, Event, ParticipantKey, connect};

mod arguments;
use arguments::Arguments;

/// A RIFF WAVE file of 16 bit PCM; its sizes are filled in at the end.
struct Wav {
    file: BufWriter<File>,
    bytes: u32,
}

impl Wav {
    fn create(path: &Path, rate: u32, channels: u8) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        let block = 2 * u32::from(channels);
        file.write_all(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0")?;
        file.write_all(&[channels, 0])?;
        file.write_all(&rate.to_le_bytes())?;
        file.write_all(&(rate * block).to_le_bytes())?;
        file.write_all(&[2 * channels, 0, 16, 0])?;
        file.write_all(b"data\0\0\0\0")?;
        Ok(Self { file, bytes: 0 })
    }

    fn write(&mut self, samples: &[i16]) -> io::Result<()> {
        for sample in samples {
            self.file.write_all(&sample.to_le_bytes())?;
        }
        // A file of four gigabytes, a day and a half of talk, is the format's own limit.
        self.bytes = self.bytes.saturating_add(u32::try_from(2 * samples.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(4))?;
        self.file.write_all(&self.bytes.saturating_add(36).to_le_bytes())?;
        self.file.seek(SeekFrom::Start(40))?;
        self.file.write_all(&self.bytes.to_le_bytes())?;
        self.file.flush()
    }
}

fn write(files: &mut HashMap<ParticipantKey, Wav>, out: &Path, frame: &AudioFrame) -> io::Result<()> {
    let Some(who) = &frame.meta.participant else { return Ok(()) };
    let wav = match files.entry(who.key) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let path = out.join(format!("{}.wav", arguments::file_name(who)));
            println!("writes {}", path.display());
            new.insert(Wav::create(&path, frame.sample_rate, frame.channels)?)
        }
    };
    // What this program was too slow for is filled with silence, so that the files stay in step.
    for _ in 0..frame.meta.dropped_before {
        wav.write(&vec![0; frame.samples.len()])?;
    }
    wav.write(&frame.samples)
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let end = arguments.end_of();
    tokio::pin!(end);
    let mut room = connect(arguments.options.hear()).await?;
    println!("in room {} as {}", room.name, room.id);
    let mut files = HashMap::new();
    let failed = |e: io::Error| {
        eprintln!("cannot write: {e}");
        Error::Misuse("the folder of --out must be there, and one that can be written to")
    };
    loop {
        let event = tokio::select! {
            event = room.recv() => event?,
            () = &mut end => None,
        };
        match event {
            None => break,
            Some(Event::Audio(frame)) if !frame.mixed => {
                write(&mut files, &arguments.out, &frame).map_err(failed)?;
            }
            Some(_) => {}
        }
    }
    for wav in files.into_values() {
        wav.finish().map_err(failed)?;
    }
    room.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    arguments::report(run(Arguments::parse("Recorder")).await)
}
