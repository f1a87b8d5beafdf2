//! What a program written with the official Rust SDK does with stored streams, against the server that the environment names:
//! `ENDPOINT`, `ACCESS_KEY_ID`, `SECRET_ACCESS_KEY`. Each command says JSON objects, one per line, with an `event`; what it
//! reads it puts into files of the folder it is given, for the test to look at. A call that is not answered as it must be
//! ends the program.
//!
//! `control`: makes, describes, tags, changes and deletes streams, and is refused by name.
//! `read STREAM FOLDER`: sound that is stored. `pictures STREAM FOLDER`: a clip and images. `follow STREAM NUMBER`: what comes after
//! a fragment, while it comes.

mod clients;
mod control;
mod reading;

use std::path::Path;

use serde_json::Value;

/// Says one line to the test.
fn say(event: &Value) {
    println!("{event}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["control"] => control::run().await,
        ["read", stream, folder] => reading::sound(stream, Path::new(folder)).await,
        ["pictures", stream, folder] => reading::pictures(stream, Path::new(folder)).await,
        ["follow", stream, number] => reading::follow(stream, number).await,
        _ => panic!("unknown command: {args:?}"),
    }
}
