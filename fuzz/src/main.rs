//! `antiphon-fuzz [--inputs N] [--seed S] [TARGET...]`: feeds each target N inputs; stops at the first that fails, and
//! keeps it in the corpus.

use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use antiphon_fuzz::drive::{Failure, drive};
use antiphon_fuzz::{TARGETS, Target, corpus};

/// What the issue asks of a long run.
const INPUTS: u64 = 1_000_000;

struct Options {
    inputs: u64,
    seed: u64,
    targets: Vec<&'static Target>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { inputs: INPUTS, seed: 1, targets: Vec::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).ok_or(format!("{word} wants a number"));
        match word.as_str() {
            "--inputs" => options.inputs = number()?,
            "--seed" => options.seed = number()?,
            name => {
                let found = TARGETS.iter().find(|t| t.name == name);
                options.targets.push(found.ok_or(format!("there is no target {name}"))?);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets.extend(TARGETS);
    }
    Ok(options)
}

/// Keeps the input on which a target failed.
fn keep(target: &Target, failure: &Failure) {
    let folder = corpus::folder(target);
    let path = folder.join(format!("failed-{}", failure.number));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &failure.input));
    eprintln!("{} failed on input {}: {}", target.name, failure.number, failure.message);
    match kept {
        Ok(()) => eprintln!("kept as {}", path.display()),
        Err(error) => eprintln!("could not be kept ({error}): {:02x?}", failure.input),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for target in options.targets {
        let (inputs, begin) = (corpus::load(target), Instant::now());
        if let Err(failure) = drive(target, &inputs, options.seed, options.inputs) {
            keep(target, &failure);
            return ExitCode::FAILURE;
        }
        println!("{}: {} inputs in {:?}, all well", target.name, options.inputs, begin.elapsed());
    }
    ExitCode::SUCCESS
}
