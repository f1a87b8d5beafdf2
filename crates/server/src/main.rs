//! The `antiphon` binary: config, wiring, telemetry, commands, the embedded web client.
//!
//! The only place that reads environment, arguments and files.

mod certificate;
mod cli;
mod config;
mod images;
mod key;
mod keyring;
mod listen;
mod memory;
mod run;
mod store;
mod telemetry;
mod tls;
mod token;
mod wall;
mod web;
mod webhooks;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::no_huge_pages();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("antiphon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
