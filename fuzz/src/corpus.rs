//! Inputs to begin with: real packets of other implementations, and those kept in `fuzz/corpus` because they once failed
//! or lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Target;

/// Packets as recorded by `crates/wire/src/rtp/testdata/generate.py`.
const RECORDED: [&str; 6] = [
    include_str!("../../crates/wire/src/rtp/testdata/vp8.txt"),
    include_str!("../../crates/wire/src/rtp/testdata/h264.txt"),
    include_str!("../../crates/wire/src/rtp/testdata/h264_ffmpeg.txt"),
    include_str!("../../crates/wire/src/rtp/testdata/vp9.txt"),
    include_str!("../../crates/wire/src/rtp/testdata/av1.txt"),
    include_str!("../../crates/wire/src/rtp/testdata/opus.txt"),
];

/// Offers as browsers make them (`crates/shard/tests/data`).
const OFFERS: [&str; 6] = [
    include_str!("../../crates/shard/tests/data/chromium-148-whip.sdp"),
    include_str!("../../crates/shard/tests/data/chromium-148-whep.sdp"),
    include_str!("../../crates/shard/tests/data/firefox-140-whip.sdp"),
    include_str!("../../crates/shard/tests/data/firefox-140-whep.sdp"),
    include_str!("../../crates/shard/tests/data/safari-18-whip.sdp"),
    include_str!("../../crates/shard/tests/data/safari-18-whep.sdp"),
];

/// Lines of a recording with this word in front.
fn recorded(kind: &str) -> Vec<Vec<u8>> {
    let lines = RECORDED.iter().flat_map(|file| file.lines()).filter_map(|l| l.split_once(' '));
    lines.filter(|(k, _)| *k == kind).filter_map(|(_, hex)| bytes(hex)).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Numbers in front of a packet's payload, as [`crate::packets`] reads them: a few packets in a row.
fn streams() -> Vec<Vec<u8>> {
    let packets = recorded("rtp");
    let one = |(i, packet): (usize, &Vec<u8>)| {
        let payload = packet.get(12..).unwrap_or(&[]);
        let payload = &payload[..payload.len().min(60)];
        let number = u8::try_from(i % 256).unwrap_or(0);
        let length = u8::try_from(payload.len()).unwrap_or(0);
        let mut out = vec![number % 5, number, 3, 1, 0, 184, 11, 0, 232, 3, 0, number & 1, length, 1, 0, 0];
        out.extend(payload);
        out
    };
    let all: Vec<Vec<u8>> = packets.iter().enumerate().map(one).collect();
    all.chunks(6).map(<[Vec<u8>]>::concat).collect()
}

/// Where inputs of a target are kept.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// All inputs that a target begins with, in a fixed order.
///
/// # Panics
/// Where a kept file cannot be read.
pub fn load(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(target))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let mut all: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a readable file")).collect();
    match target.name {
        "rtp_payload" => all.extend(recorded("rtp")),
        "rtp_packetize" => all.extend(recorded("au")),
        "sdp_offer" => all.extend(OFFERS.map(|offer| offer.as_bytes().to_vec())),
        "red" | "rtp_rewrite" | "rtp_assemble" => all.extend(streams()),
        _ => {}
    }
    all.iter_mut().for_each(|input| input.truncate(target.max_bytes));
    all
}
