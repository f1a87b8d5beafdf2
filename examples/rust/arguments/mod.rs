//! What all examples are told on the command line, and how they end: by `--seconds`, by Ctrl-C, or with the room.

use std::path::PathBuf;
use std::time::Duration;

use antiphon_client::{Error, Options, ParticipantInfo};

const USAGE: &str = "[URL] [ROOM] [--name NAME] [--token TOKEN] [--seconds N] [--out FOLDER]";

/// The command line.
pub(crate) struct Arguments {
    /// Where and as whom to join.
    pub(crate) options: Options,
    /// Folder for files.
    #[allow(dead_code, reason = "not each example writes files")]
    pub(crate) out: PathBuf,
    seconds: Option<f64>,
}

impl Arguments {
    /// Reads the command line; ends the program with a sentence if it makes no sense.
    pub(crate) fn parse(name: &str) -> Self {
        let usage = |what: &str| -> ! {
            eprintln!("{what}\nusage: {USAGE}");
            std::process::exit(2)
        };
        let (mut places, mut out, mut seconds) = (Vec::new(), PathBuf::from("."), None);
        let (mut shown, mut token) = (name.to_owned(), None);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| usage(&format!("{word} wants a value")));
            match word.as_str() {
                "--name" => shown = value(),
                "--token" => token = Some(value()),
                "--out" => out = value().into(),
                "--seconds" => match value().parse() {
                    Ok(s) if (0.0..1e9).contains(&s) => seconds = Some(s),
                    _ => usage("--seconds is a number"),
                },
                "--help" => usage("An example of Antiphon for Rust."),
                _ if word.starts_with('-') || places.len() == 2 => {
                    usage(&format!("{word} is not known here"))
                }
                _ => places.push(word),
            }
        }
        let mut places = places.into_iter();
        let url = places.next().unwrap_or_else(|| "http://localhost:7700".to_owned());
        let room = places.next().unwrap_or_else(|| "demo".to_owned());
        Self { options: Options::new(url, room).name(shown).token(token), out, seconds }
    }

    /// Runs an example until it ends by itself, its time is over, or Ctrl-C is pressed.
    pub(crate) fn end_of(&self) -> impl Future<Output = ()> + use<> {
        let seconds = self.seconds.map(Duration::from_secs_f64);
        async move {
            let time = async {
                match seconds {
                    Some(s) => tokio::time::sleep(s).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {}
                // Without a handler for Ctrl-C the system's own applies.
                Ok(()) = tokio::signal::ctrl_c() => println!("interrupted"),
            }
        }
    }
}

/// A name of a file for somebody: letters and digits of their name, and their number, which is theirs alone.
#[allow(dead_code, reason = "not each example writes files")]
pub(crate) fn file_name(participant: &ParticipantInfo) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let letters: String = participant.name.chars().take(40).map(plain).collect();
    format!("{}-{}", if letters.is_empty() { "someone" } else { &letters }, participant.key)
}

/// Prints what went wrong, as the program's last word.
pub(crate) fn report(result: Result<(), Error>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    }
}
