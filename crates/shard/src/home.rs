//! The home of a room: its engine, and where its members are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use antiphon_base::{ParticipantId, ParticipantKey};
use antiphon_room::{Feed, Room};
use antiphon_wire::rtp::Packet;

use crate::attach::AttachEvent;
use crate::clock::Clock;
use crate::seam::Fact;
use crate::table::Observed;

/// The engine of a room and its members.
pub(crate) struct Home {
    pub(crate) room: Room,
    pub(crate) members: HashMap<ParticipantKey, Member>,
    pub(crate) scheduled: Option<Instant>,
    /// The engine may have outputs.
    pub(crate) dirty: bool,
}

/// By what a participant is here.
pub(crate) enum Member {
    /// A WebRTC peer on this shard, by its place.
    Peer(usize),
    /// A program in this process.
    Attached(Attached),
    /// A WebRTC peer whose connection is gone; its place in the room is kept for a while.
    Lost { id: ParticipantId, stats: serde_json::Value },
}

/// The shard's side of an attachment.
pub(crate) struct Attached {
    pub(crate) events: async_channel::Sender<AttachEvent>,
    pub(crate) media: async_channel::Sender<Arc<Packet>>,
    pub(crate) dropped: Arc<AtomicU64>,
    pub(crate) may_publish: bool,
}

impl Home {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, members: HashMap::new(), scheduled: None, dirty: true }
    }

    /// Something happened on a member's connection.
    pub(crate) fn learn(&mut self, now: Instant, clock: Clock, key: ParticipantKey, fact: Fact) {
        match fact {
            Fact::Connected { has_control } => {
                if !has_control {
                    self.room.connected(now, key, 0);
                }
            }
            Fact::ControlOpen => self.room.connected(now, key, clock.us(now)),
            Fact::Request(message) => self.room.request(now, key, message),
            Fact::Data(publication) => self.room.publish_data(now, key, publication),
            Fact::Bandwidth(bps) => self.room.bandwidth(now, key, bps),
            Fact::Switched { slot, feed, rtp_time } => self.room.switched(now, key, slot, feed, rtp_time),
            Fact::Lost { id, stats } => {
                self.members.insert(key, Member::Lost { id, stats });
                self.room.disconnected(now, key);
            }
        }
    }

    /// A packet of a publisher was observed.
    pub(crate) fn observed(&mut self, now: Instant, feed: Feed, observed: &Observed) {
        if observed.new {
            self.room.layer_seen(now, feed, observed.codec);
        } else if observed.active {
            self.room.activity(now, feed.track);
        }
        if let Some((width, height)) = observed.resolution {
            self.room.layer_resolution(now, feed, width, height);
        }
        if let Some(level) = observed.level {
            self.room.audio_level(now, feed.track, level.level, level.voice);
        }
        if observed.keyframe {
            self.room.keyframe_seen(now, feed);
        }
        self.dirty |= observed.is_news();
    }

    /// Gives a packet to an attachment. `false`: it is slow and has lost it.
    pub(crate) fn hand(&self, to: ParticipantKey, packet: &Arc<Packet>) -> bool {
        let Some(Member::Attached(attached)) = self.members.get(&to) else { return true };
        let taken = attached.media.try_send(packet.clone()).is_ok();
        if !taken {
            attached.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}
