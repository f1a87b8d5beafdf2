//! Any bytes as a producer's session.

/// Runs one input: two bytes of a size, then the document.
pub(crate) fn run(bytes: &[u8]) {
    let Some((piece, document)) = bytes.split_first_chunk() else { return };
    let (opened, sealed) = antiphon_store::fuzzing::ingest(document, u16::from_le_bytes(*piece).into());
    assert!(sealed <= opened);
}
