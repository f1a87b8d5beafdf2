//! Any lines as a request to the Kinesis Video Streams API: query, body, headers.

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    antiphon_kvs::fuzzing::request(bytes);
}
