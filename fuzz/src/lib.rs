//! (dev) Fuzz targets, one per parser and rewriter, and a driver that feeds them seeded changes of kept inputs.
//!
//! A target is a function of bytes that panics where something is wrong. The driver knows nothing of coverage: it makes up
//! for that by number, and by inputs that begin as real ones ([`corpus`]). libFuzzer, where a nightly compiler is at hand,
//! runs the same functions (`fuzz/libfuzzer`).

pub mod corpus;
pub mod drive;
mod packets;
mod targets;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs one input; panics where something is wrong.
    pub run: fn(&[u8]),
    /// Longest input that the driver makes.
    pub max_bytes: usize,
}

/// All there are.
pub const TARGETS: &[Target] = &[
    target("bot", targets::bot::run, 2_048),
    target("bot_session", targets::bot_session::run, 2_048),
    target("control", targets::control::run, 2_048),
    target("egress", targets::egress::run, 2_048),
    target("frame", targets::frame::run, 2_048),
    target("framing", targets::framing::run, 4_096),
    target("http_headers", targets::http_headers::run, 2_048),
    target("kvs_repack", targets::kvs_repack::run, 2_048),
    target("kvs_request", targets::kvs_request::run, 2_048),
    target("peer_key", targets::peer_key::run, 1_024),
    target("record_file", targets::record_file::run, 4_096),
    target("record_sound", targets::record_sound::run, 4_096),
    target("red", targets::red::run, 2_048),
    target("room_slot", targets::room_slot::run, 2_048),
    target("rtcp", targets::rtcp::run, 1_500),
    target("rtp_assemble", targets::rtp_assemble::run, 2_048),
    target("rtp_dependency", targets::rtp_dependency::run, 1_500),
    target("rtp_packetize", targets::rtp_packetize::run, 2_048),
    target("rtp_payload", targets::rtp_payload::run, 1_500),
    target("rtp_rewrite", targets::rtp_rewrite::run, 2_048),
    target("sdp_answer", targets::sdp_answer::run, 8_192),
    target("sdp_offer", targets::sdp_offer::run, 8_192),
    target("sdpfrag", targets::sdpfrag::run, 4_096),
    target("srtcp", targets::srtcp::run, 512),
    target("store_ingest", targets::store_ingest::run, 4_096),
    target("store_journal", targets::store_journal::run, 512),
    target("store_matroska", targets::store_matroska::run, 4_096),
    target("store_objects", targets::store_objects::run, 2_048),
    target("store_selectors", targets::store_selectors::run, 256),
    target("stun", targets::stun::run, 512),
    target("topic", targets::topic::run, 2_048),
    target("whep", targets::whep::run, 1_100),
    target("wire_container", targets::wire_container::run, 2_048),
];

const fn target(name: &'static str, run: fn(&[u8]), max_bytes: usize) -> Target {
    Target { name, run, max_bytes }
}

/// Runs one input through the target of that name: what libFuzzer calls.
///
/// # Panics
/// Where something is wrong, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("the name is that of a target");
    (target.run)(bytes);
}
