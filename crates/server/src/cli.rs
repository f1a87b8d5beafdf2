//! Commands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{config, run, store, token, webhooks};

/// A real-time media server whose calls are open to programs.
#[derive(Parser)]
#[command(name = "antiphon", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Serve),
    /// Print a token for a room.
    Token(token::Token),
    /// About the stored streams.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print the secret of a webhook whose secret is made of the server's key.
    WebhookSecret(webhooks::PrintSecret),
    /// About the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What the server starts to decode video in: not for people.
    #[command(name = CODEC_WORKER, hide = true)]
    CodecWorker,
}

/// The argument that makes this program a codec worker.
pub(crate) const CODEC_WORKER: &str = "codec-worker";

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting with its default, as a commented TOML file.
    PrintDefault,
}

/// Each flag is also a key of the file and an environment variable: `--http`, `http`, `ANTIPHON_HTTP`.
/// Flags win over the environment, it over the file, the file over the defaults.
#[derive(Args)]
pub(crate) struct Serve {
    /// Address and port of HTTP [default: 0.0.0.0:7700]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// First UDP address and port for media, one port per shard from there [default: 0.0.0.0:7701]
    #[arg(long, value_name = "ADDR:PORT")]
    media: Option<String>,
    /// Packet threads [default: one less than there are cores]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Folder for the signing key and all that is kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address told to browsers instead of the interfaces' own; may be given more than once
    #[arg(long, value_name = "IP")]
    announce: Vec<String>,
    /// TOML file with any of the settings of `antiphon config print-default`
    #[arg(long, value_name = "FILE", env = "ANTIPHON_CONFIG")]
    config: Option<PathBuf>,
}

impl Serve {
    /// Key and value of each flag that was given.
    fn given(&self) -> Vec<(&'static str, String)> {
        let announce = (!self.announce.is_empty()).then(|| self.announce.join(","));
        let all = [
            ("http", self.http.clone()),
            ("media", self.media.clone()),
            ("shards", self.shards.clone()),
            ("data", self.data.clone()),
            ("announce", announce),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Does what the command line says.
pub(crate) fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(flags) => run::run(&config::load(flags.config.as_deref(), &flags.given())?),
        Command::Token(token) => token.print(),
        Command::Store(command) => command.run(),
        Command::WebhookSecret(secret) => secret.print(),
        Command::Config(ConfigCommand::PrintDefault) => {
            print!("{}", config::DEFAULT_TOML);
            Ok(())
        }
        Command::CodecWorker => Ok(antiphon_media::video::process::serve()?),
    }
}
