//! Any bytes as an access unit: no payload is too long, and H.264 units come back.

use antiphon_wire::rtp::h264::Unit;
use antiphon_wire::rtp::packetize::{H264, Vp8, nal_units};

/// Runs one input.
pub(crate) fn run(bytes: &[u8]) {
    let Some((size, unit)) = bytes.split_first() else { return };
    let max = usize::from(*size) + 40;
    if let Ok(payloads) = Vp8::new(0x7fff).packetize(unit, max) {
        assert!(payloads.iter().all(|p| p.data.len() <= max));
    }
    let Ok(payloads) = H264.packetize(unit, max) else { return };
    let mut units: Vec<Vec<u8>> = Vec::new();
    for payload in &payloads {
        assert!(payload.data.len() <= max);
        match Unit::parse(&payload.data) {
            Ok(Unit::Aggregate(all)) => units.extend(all.flatten().map(<[u8]>::to_vec)),
            Ok(Unit::Fragment(f)) if f.start => units.push([&[f.header][..], f.data].concat()),
            Ok(Unit::Fragment(f)) => units.last_mut().expect("a start came before").extend(f.data),
            _ => units.push(payload.data.clone()),
        }
    }
    let specified = nal_units(unit).filter(|u| (1..24).contains(&(u[0] & 0x1f)));
    assert!(specified.eq(units.iter().map(Vec::as_slice)));
}
