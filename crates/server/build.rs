//! Puts the files of `web/dist` (built by `make web`) into the binary; without them, a page that says how to build it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A web client is a few dozen files; more means that something else got into the folder.
const MAX_FILES: usize = 1_000;

fn main() {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let web = manifest.join("../../web");
    let dist = web.join("dist");
    // Where the folder is not there yet, cargo looks at the parent so that a later `make web` is seen.
    if dist.is_dir() {
        watch(&dist);
    } else {
        println!("cargo:rerun-if-changed={}", web.display());
    }
    println!("cargo:rerun-if-changed=src/no_web_client.html");
    let mut files = Vec::new();
    collect(&dist, &dist, &mut files);
    files.sort();
    if !files.iter().any(|(path, _)| path == "index.html") {
        println!(
            "cargo:warning=web/dist has no index.html: the binary gets a page that says so (`make web` builds it)"
        );
        files = vec![("index.html".into(), manifest.join("src/no_web_client.html"))];
    }
    let mut code = String::from("&[\n");
    for (path, file) in &files {
        let file = file.canonicalize().expect("it was just listed");
        writeln!(code, "    WebFile {{ path: {path:?}, bytes: include_bytes!({file:?}) }},")
            .expect("to a String");
    }
    code.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("web_files.rs");
    fs::write(out, code).expect("OUT_DIR can be written");
}

/// Cargo looks at a folder's own time only: name each folder in it too.
fn watch(folder: &Path) {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            watch(&entry.path());
        }
    }
}

/// Paths below `root` with `/` between their parts, and the files.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if files.len() < MAX_FILES {
            let relative = path.strip_prefix(root).expect("it was found below the root");
            let parts: Vec<_> = relative.iter().map(|p| p.to_string_lossy()).collect();
            files.push((parts.join("/"), path));
        }
    }
}
