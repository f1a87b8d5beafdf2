//! Payloads of one whole frame, in order, to one access unit.

use std::sync::Arc;

use antiphon_base::VideoCodec;

use super::superframe::Superframes;
use crate::rtp::h264::{Unit, nal};
use crate::rtp::{Packet, av1, vp8, vp9};

/// Longest SPS or PPS kept; real ones have tens of bytes.
const MAX_PARAMETER_SET: usize = 1024;

/// Most bytes of an access unit: a 4K picture, raw, is 12 MB.
const MAX_ACCESS_UNIT: usize = 16 * 1024 * 1024;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What is known of a stream from its access units before.
#[derive(Debug, Default)]
pub(super) struct Known {
    sets: ParameterSets,
    superframes: Superframes,
}

/// The last SPS and PPS of an H.264 stream, for senders that send them once only.
#[derive(Debug, Default)]
struct ParameterSets {
    sps: Vec<u8>,
    pps: Vec<u8>,
}

/// Joins the payloads. `None` if they are malformed, or an H.264 key picture has no parameter sets.
pub(super) fn join(
    codec: VideoCodec,
    packets: &[Arc<Packet>],
    key: bool,
    known: &mut Known,
) -> Option<Vec<u8>> {
    let total: usize = packets.iter().map(|p| p.payload.len()).sum();
    if total > MAX_ACCESS_UNIT {
        return None;
    }
    let payloads = packets.iter().map(|p| &*p.payload).filter(|p| !p.is_empty());
    // Room for what codecs put before and between payloads.
    let room = || Vec::with_capacity(total + 64);
    let unit = match codec {
        VideoCodec::Vp8 => {
            let mut out = room();
            for payload in payloads {
                out.extend_from_slice(vp8::Descriptor::parse(payload).ok()?.1);
            }
            out
        }
        VideoCodec::Vp9 => known.superframes.join(vp9_frames(payloads, total)?),
        VideoCodec::H264 => {
            let (units, mut out) = (h264_units(payloads)?, room());
            annex_b(&units, key, &mut known.sets, &mut out)?;
            out
        }
        VideoCodec::Av1 => {
            let mut out = room();
            av1_unit(payloads, &mut out)?;
            out
        }
    };
    (!unit.is_empty()).then_some(unit)
}

/// The frames of the spatial layers, `total` bytes at most: mostly there is one.
fn vp9_frames<'a>(payloads: impl Iterator<Item = &'a [u8]>, total: usize) -> Option<Vec<Vec<u8>>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for payload in payloads {
        let (descriptor, data) = vp9::Descriptor::parse(payload).ok()?;
        if descriptor.starts_layer_frame || frames.is_empty() {
            frames.push(Vec::with_capacity(if frames.is_empty() { total } else { 0 }));
        }
        frames.last_mut()?.extend_from_slice(data);
    }
    Some(frames)
}

/// The NAL units of the payloads.
fn h264_units<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Vec<u8>>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for payload in payloads {
        match Unit::parse(payload).ok()? {
            Unit::Fragment(f) => {
                if f.start == open {
                    return None;
                }
                if f.start {
                    units.push(vec![f.header]);
                }
                units.last_mut()?.extend_from_slice(f.data);
                open = !f.end;
            }
            _ if open => return None,
            Unit::Single(unit) => units.push(unit.to_vec()),
            Unit::Aggregate(aggregate) => {
                for unit in aggregate {
                    units.push(unit.ok()?.to_vec());
                }
            }
        }
    }
    (!open).then_some(units)
}

/// Writes the units with start codes; before a key picture the parameter sets, if it has none of its own.
fn annex_b(units: &[Vec<u8>], key: bool, sets: &mut ParameterSets, out: &mut Vec<u8>) -> Option<()> {
    let kind = |unit: &[u8]| unit.first().map_or(0, |h| h & 0x1f);
    for unit in units.iter().filter(|u| u.len() <= MAX_PARAMETER_SET) {
        match kind(unit) {
            nal::SPS => sets.sps.clone_from(unit),
            nal::PPS => sets.pps.clone_from(unit),
            _ => {}
        }
    }
    let has = |what: u8| units.iter().any(|u| kind(u) == what);
    let mut put = |unit: &[u8]| {
        out.extend_from_slice(&START_CODE);
        out.extend_from_slice(unit);
    };
    let mut units = units.iter().peekable();
    if key {
        if let Some(delimiter) = units.next_if(|u| kind(u) == nal::AUD) {
            put(delimiter);
        }
        for (what, set) in [(nal::SPS, &sets.sps), (nal::PPS, &sets.pps)] {
            if !has(what) {
                if set.is_empty() {
                    return None;
                }
                put(set);
            }
        }
    }
    units.for_each(|unit| put(unit));
    Some(())
}

/// Writes a temporal delimiter and the OBUs, each with a size field.
fn av1_unit<'a>(payloads: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> Option<()> {
    out.extend([av1::obu::TEMPORAL_DELIMITER << 3 | 0x02, 0]);
    let mut obu: Vec<u8> = Vec::new();
    let mut open = false;
    for payload in payloads {
        let descriptor = av1::Descriptor::parse(payload).ok()?;
        for element in descriptor.elements(payload) {
            let element = element.ok()?;
            if element.continues != open {
                return None;
            }
            obu.extend_from_slice(element.data);
            open = element.continued;
            if !open {
                put_obu(out, &obu)?;
                obu.clear();
            }
        }
    }
    (!open).then_some(())
}

fn put_obu(out: &mut Vec<u8>, obu: &[u8]) -> Option<()> {
    if obu.is_empty() {
        return Some(());
    }
    match av1::ObuHeader::parse(obu)?.obu_type() {
        av1::obu::TEMPORAL_DELIMITER | av1::obu::TILE_LIST => Some(()),
        _ => av1::append_sized(out, obu),
    }
}
