//! The `antiphon` binary: config, wiring, telemetry, commands, the embedded web client.
//!
//! The only place that reads environment, arguments and files.

mod cli;
mod config;
mod key;
mod run;
mod store;
mod telemetry;
mod tls;
mod token;
mod web;

use std::process::ExitCode;

/// The system's allocator takes a tenth more of a core on the packet path.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("antiphon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
