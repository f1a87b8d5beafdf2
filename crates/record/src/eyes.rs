//! What is seen of one contact: its own camera, as it was sent. Packets in, pictures out. No clock, no I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use antiphon_base::{Codec, TrackKey};
use antiphon_wire::rtp::Packet;

use crate::matroska::Form;
use crate::take::{Frame, Take, Taken};

/// A key frame is asked for so often, and a fragment lasts from one to the next: what players of Kinesis Video streams are told to
/// expect. More often costs everybody who watches picture quality, more seldom whoever comes later the wait.
const KEY_EVERY_US: u64 = 2_000_000;

/// A picture of the contact.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Its time is that of its capture.
    pub(crate) frame: Frame,
    /// What stands before it in a container: with each key frame.
    pub(crate) form: Option<Arc<Form>>,
}

/// One contact's camera in one room.
#[derive(Default)]
pub(crate) struct Eyes {
    camera: Option<TrackKey>,
    take: Option<Take>,
    taken: VecDeque<Taken>,
    form: Option<Arc<Form>>,
    pictures: VecDeque<Picture>,
}

impl Eyes {
    /// That track is the contact's camera now. Whether it was another one before.
    pub(crate) fn look_at(&mut self, camera: Option<TrackKey>) -> bool {
        let changed = self.camera != camera;
        if changed {
            *self = Self { camera, ..Self::default() };
        }
        changed
    }

    /// A packet came. What is not of the camera is not looked at. Gives the layer of which a key frame is to be asked for now.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>) -> Option<u8> {
        if self.camera != Some(packet.track) || !matches!(packet.codec, Codec::Video(_)) {
            return None;
        }
        if self.take.as_ref().is_none_or(|take| take.codec() != packet.codec) {
            self.take = Take::new(packet.codec, KEY_EVERY_US);
        }
        let take = self.take.as_mut()?;
        take.packet(packet, &mut self.taken);
        for taken in self.taken.drain(..) {
            match taken {
                Taken::Form(form) => self.form = Some(Arc::new(form)),
                Taken::Frame(frame) => {
                    let form = self.form.clone().filter(|_| frame.key);
                    self.pictures.push_back(Picture { frame, form });
                }
            }
        }
        take.keyframe(packet.arrival_us)
    }

    /// What a decoder has to be told of the newest key frame; `None`: there was none yet.
    pub(crate) fn form(&self) -> Option<&Arc<Form>> {
        self.form.as_ref()
    }

    /// The pictures since this was asked last, in the order of decoding.
    pub(crate) fn pictures(&mut self) -> impl Iterator<Item = Picture> {
        self.pictures.drain(..)
    }
}
