//! One track with its simulcast layers: the access units of the one that is sent, from a key frame of the next one on of that.

use std::sync::Arc;

use antiphon_base::VideoCodec;

use super::{Assembled, Assembler, Limits};
use crate::rtp::Packet;

/// Packets of a layer that was left are not looked at for so long: while layers change both are tapped, and a keyframe of
/// the old one that was under way would lead back to a layer that is about to end.
const LEFT_US: u64 = 500_000;
/// A current layer silent for so long is over: the next one is asked for a keyframe. Two pictures of a slow camera.
const SILENT_US: u64 = 150_000;

/// One simulcast layer being assembled.
#[derive(Debug)]
struct Layer {
    index: u8,
    assembler: Assembler,
}

impl Layer {
    fn new(index: u8, codec: VideoCodec) -> Self {
        Self { index, assembler: Assembler::new(codec, Limits::default()) }
    }
}

/// Follows a track over its layers.
#[derive(Debug)]
pub struct Follower {
    codec: VideoCodec,
    layer: Option<Layer>,
    /// A layer that has begun to come and has not given a frame yet.
    next_layer: Option<Layer>,
    /// The layer before the current one, and when it was left.
    left: Option<(u8, u64)>,
    /// Arrival of the newest packet of the current layer.
    heard_us: u64,
}

impl Follower {
    /// A track of this codec, nothing seen yet.
    pub fn new(codec: VideoCodec) -> Self {
        Self { codec, layer: None, next_layer: None, left: None, heard_us: 0 }
    }

    /// Takes a packet of any layer.
    pub fn push(&mut self, packet: &Arc<Packet>) {
        let current = self.layer.get_or_insert_with(|| Layer::new(packet.layer, self.codec));
        if packet.layer == current.index {
            self.heard_us = packet.arrival_us;
            current.assembler.push(packet);
        } else if !self.has_just_left(packet) {
            if self.next_layer.as_ref().is_none_or(|l| l.index != packet.layer) {
                self.next_layer = Some(Layer::new(packet.layer, self.codec));
            }
            if let Some(next) = &mut self.next_layer {
                next.assembler.push(packet);
            }
        }
    }

    fn has_just_left(&self, packet: &Packet) -> bool {
        let silent = packet.arrival_us > self.heard_us + SILENT_US;
        !silent
            && self.left.is_some_and(|(index, at)| index == packet.layer && packet.arrival_us < at + LEFT_US)
    }

    /// Of which layer a keyframe is needed, if of any: the current one (always, where `anyway`), or the next where the current
    /// one is over.
    pub fn wants_keyframe(&self, now_us: u64, anyway: bool) -> Option<u8> {
        let next = self.next_layer.as_ref().filter(|_| now_us > self.heard_us + SILENT_US);
        if let Some(next) = next.filter(|l| l.assembler.needs_keyframe()) {
            return Some(next.index);
        }
        let layer = self.layer.as_ref()?;
        (anyway || layer.assembler.needs_keyframe()).then_some(layer.index)
    }

    /// The next access unit; a frame of the next layer ends the current one.
    pub fn poll(&mut self, now_us: u64) -> Option<Assembled> {
        if let Some(unit) = self.next_layer.as_mut().and_then(|l| l.assembler.poll()) {
            self.left = self.layer.as_ref().map(|l| (l.index, now_us));
            self.heard_us = now_us;
            self.layer = self.next_layer.take();
            return Some(unit);
        }
        self.layer.as_mut()?.assembler.poll()
    }
}
