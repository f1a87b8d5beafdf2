//! Keeps what a reader relies on: links in the documentation lead somewhere, each source file says what it is.

use std::fs;
use std::path::{Path, PathBuf};

/// Past this many lines a source file wants to be two (style: about 200).
const MAX_LINES: usize = 800;
/// Folders that hold nothing of ours.
const SKIPPED: [&str; 7] = ["target", "node_modules", "dist", "out", "data", "__pycache__", "corpus"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root exists")
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("entries have names").to_string_lossy().into_owned();
        let skipped = name.starts_with('.') || SKIPPED.contains(&name.as_str());
        if path.is_dir() && !path.is_symlink() && !skipped {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// Name and text of each of our files with this extension.
fn all(extension: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    files(&root, extension, &mut found);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        fs::read_to_string(&path).ok().map(|text| (name, text))
    };
    found.into_iter().filter_map(read).collect()
}

/// Targets of `[text](target)` outside code blocks.
fn links(markdown: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            found.extend(line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
        }
    }
    found
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut dead = Vec::new();
    for (name, text) in all("md") {
        let folder = root().join(&name).parent().unwrap().to_path_buf();
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !outside && !folder.join(path).exists() {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn each_source_file_says_what_it_is_and_is_not_too_long() {
    let mut wrong = Vec::new();
    for (name, text) in all("rs").into_iter().filter(|(name, _)| !name.ends_with("tests.rs")) {
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: begins with no `//!`"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{name}: {lines} lines"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
