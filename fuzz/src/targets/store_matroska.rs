//! Any bytes as a producer's document, cut anywhere.

use antiphon_store::matroska::{Bounds, Item, Parser};

/// Runs one input: a byte of a size, then the document.
pub(crate) fn run(bytes: &[u8]) {
    let Some((piece, document)) = bytes.split_first() else { return };
    let mut parser = Parser::new(Bounds { header_bytes: 16 << 10, fragment_bytes: 64 << 10 });
    let mut out = Vec::new();
    for piece in document.chunks(usize::from(*piece).max(1)) {
        parser.push(piece);
        loop {
            match parser.next_item() {
                Ok(Some(
                    Item::Header { bytes, .. }
                    | Item::ClusterStart { bytes, .. }
                    | Item::Timecode { bytes, .. }
                    | Item::Block { bytes, .. }
                    | Item::Other { bytes }
                    | Item::Trailing { bytes, .. },
                )) => out.extend_from_slice(&bytes),
                Ok(Some(Item::ClusterEnd)) => {}
                Ok(None) => break,
                Err(e) => {
                    assert!(e.offset <= document.len() as u64);
                    return;
                }
            }
        }
    }
    assert_eq!(out, document[..out.len()]);
    assert_eq!(out.len() + parser.buffered(), document.len());
}
