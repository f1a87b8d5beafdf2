//! The home of a room: its engine, and where its members are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use antiphon_base::{ParticipantId, ParticipantKey, Source, TrackKey};
use antiphon_room::{Feed, Room};
use antiphon_wire::rtp::Packet;

use crate::attach::AttachEvent;
use crate::clock::Clock;
use crate::seam::{Fact, Who};
use crate::table::Observed;
use crate::watch::Watch;

/// The engine of a room and its members.
pub(crate) struct Home {
    pub(crate) room: Room,
    pub(crate) members: HashMap<ParticipantKey, Member>,
    pub(crate) scheduled: Option<Instant>,
    /// The engine may have outputs.
    pub(crate) dirty: bool,
    /// Other shards that have, or had, peers of it.
    pub(crate) branches: Vec<u16>,
    /// Connections so far.
    connections: u32,
    /// The m-lines of players, by their mids.
    pub(crate) players: HashMap<ParticipantKey, Vec<String>>,
    /// Their event streams.
    pub(crate) watches: Vec<Watch>,
    /// On which shards somebody gets a feed.
    interests: HashMap<Feed, Vec<u16>>,
}

/// By what a participant is here.
pub(crate) enum Member {
    /// A WebRTC peer on this shard, by its place.
    Peer(usize),
    /// A WebRTC peer on another shard.
    Away(Away),
    /// A program in this process.
    Attached(Attached),
    /// A WebRTC peer whose connection is gone; its place in the room is kept for a while.
    Lost { id: ParticipantId, stats: serde_json::Value },
}

/// A peer on another shard.
pub(crate) struct Away {
    pub(crate) shard: u16,
    pub(crate) connection: u32,
    pub(crate) id: ParticipantId,
    pub(crate) connected: bool,
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
        Self {
            room,
            members: HashMap::new(),
            scheduled: None,
            dirty: true,
            branches: Vec::new(),
            connections: 0,
            players: HashMap::new(),
            watches: Vec::new(),
            interests: HashMap::new(),
        }
    }

    /// The number of a new connection.
    pub(crate) fn next_connection(&mut self) -> u32 {
        self.connections += 1;
        self.connections
    }

    /// This connection of a participant, if it is the present one and on that shard.
    pub(crate) fn is_on(&self, shard: u16, who: Who) -> bool {
        let member = self.members.get(&who.key);
        matches!(member, Some(Member::Away(a)) if (a.shard, a.connection) == (shard, who.connection))
    }

    /// Somebody on a shard gets a feed, or nobody does any more. True: that is news.
    pub(crate) fn interest(&mut self, feed: Feed, shard: u16, on: bool) -> bool {
        if on && !self.members.contains_key(&feed.track.participant) {
            return false; // It has gone meanwhile.
        }
        let shards = self.interests.entry(feed).or_default();
        let before = shards.contains(&shard);
        match (before, on) {
            (false, true) => shards.push(shard),
            (true, false) => shards.retain(|s| *s != shard),
            _ => {}
        }
        if shards.is_empty() {
            self.interests.remove(&feed);
        }
        before != on
    }

    /// All feeds of a participant with the shards that get them.
    pub(crate) fn interests_in(&self, key: ParticipantKey) -> Vec<(Feed, u16)> {
        let of_it = self.interests.iter().filter(|(feed, _)| feed.track.participant == key);
        of_it.flat_map(|(feed, shards)| shards.iter().map(|shard| (*feed, *shard))).collect()
    }

    /// A participant has gone.
    pub(crate) fn forget(&mut self, key: ParticipantKey) {
        self.interests.retain(|feed, _| feed.track.participant != key);
        self.forget_player(key);
    }

    /// Something happened on a member's connection.
    pub(crate) fn learn(&mut self, now: Instant, clock: Clock, key: ParticipantKey, fact: Fact) {
        match fact {
            Fact::Connected { has_control } => {
                if let Some(Member::Away(away)) = self.members.get_mut(&key) {
                    away.connected = true;
                }
                if !has_control {
                    self.room.connected(now, key, 0);
                }
            }
            Fact::ControlOpen => self.room.connected(now, key, clock.us(now)),
            Fact::Request(message) => self.room.request(now, key, *message),
            Fact::Data(publication) => self.room.publish_data(now, key, publication),
            Fact::Bandwidth(bandwidth) => self.room.bandwidth(now, key, bandwidth),
            Fact::Switched { slot, feed, rtp_time } => self.room.switched(now, key, slot, feed, rtp_time),
            Fact::Observed { source, layer, observed } => {
                self.observed(now, feed_of(key, source, layer), &observed);
            }
            Fact::Stopped { source, layer } => self.room.layer_gone(now, feed_of(key, source, layer)),
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
        if let Some(spatial) = &observed.spatial {
            self.room.spatial_seen(now, feed.track, spatial.heights());
        }
        if let Some(rate) = observed.rate {
            self.room.layer_rate(now, feed, rate);
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

fn feed_of(participant: ParticipantKey, source: Source, layer: u8) -> Feed {
    Feed { track: TrackKey { participant, source }, layer }
}
