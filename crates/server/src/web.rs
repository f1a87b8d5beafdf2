//! The web client's files, put here by `build.rs`.

use antiphon_api::web::{WebFile, WebFiles};

/// All of them.
pub(crate) static FILES: WebFiles = include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page() {
        let index: Option<&WebFile> = FILES.iter().find(|f| f.path == "index.html");
        assert!(index.is_some_and(
            |f| f.bytes.starts_with(b"<!doctype html>") || f.bytes.starts_with(b"<!DOCTYPE html>")
        ));
    }
}
