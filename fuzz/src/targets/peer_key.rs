//! Any bytes as a peer's certificate, or as its signature in the DTLS handshake: who has not the key signs nothing.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_shard::fuzzing::peer_key(bytes);
}
