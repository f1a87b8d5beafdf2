//! Attach handles: how a program in this process (a bot, later a recorder or gateway) stands in a room.
//!
//! Two bounded rings lead from the shard to the holder: events, which must not be lost (overflow ends the attachment),
//! and media, which may (overflow drops and counts: a slow holder loses its own packets). One bounded ring leads back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antiphon_base::{Codec, ParticipantId, ParticipantKey, RoomName, Source, TrackKey};
use antiphon_wire::control::{ParticipantKind, Request, ServerMessage};
use antiphon_wire::rtp::Packet;
use antiphon_wire::topic;

use crate::join::Grants;

/// Events waiting for a holder. A room of 1,000 joining within one wakeup fits.
pub const EVENT_RING: usize = 4_096;
/// Packets waiting for a holder: a second of ten 2 Mbit/s cameras.
pub const MEDIA_RING: usize = 4_096;
/// Commands waiting for a shard from all holders together.
pub const COMMAND_RING: usize = 16_384;

/// Who attaches.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Its id.
    pub id: ParticipantId,
    /// Name to show.
    pub name: String,
    /// `Bot`, as a rule.
    pub kind: ParticipantKind,
    /// What it may do.
    pub grants: Grants,
    /// Not in the roster, and not counted as somebody for whom a room stays open: a tap.
    pub hidden: bool,
}

/// A standing in a room. Dropping it leaves the room.
pub struct Attachment {
    /// Its id.
    pub id: ParticipantId,
    /// Its number.
    pub key: ParticipantKey,
    /// Where.
    pub room: RoomName,
    /// What happens. Closed when the attachment has ended.
    pub events: async_channel::Receiver<AttachEvent>,
    /// Packets of the tapped tracks, in order of arrival.
    pub media: async_channel::Receiver<Arc<Packet>>,
    /// Packets lost because `media` was full.
    pub media_dropped: Arc<AtomicU64>,
    pub(crate) sender: AttachSender,
}

impl Attachment {
    /// The way back to the shard; cheap to clone.
    pub fn sender(&self) -> AttachSender {
        self.sender.clone()
    }

    /// Packets lost because the holder was slow.
    pub fn dropped(&self) -> u64 {
        self.media_dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.sender.send(AttachCommand::Leave);
    }
}

/// What the shard tells a holder.
#[derive(Debug, Clone)]
pub enum AttachEvent {
    /// A control message, as a browser would get it: roster, dominant speakers, screen share, replies, end.
    Control(ServerMessage),
    /// A message on a topic that this attachment listens to. While its events wait it may lose some; shards count them.
    Data(Arc<topic::Message>),
    /// How the recording stands that this attachment makes.
    Recording(RecordingView),
    /// The room needs a keyframe of a track that this attachment publishes.
    Keyframe(Source),
}

pub use antiphon_room::{RecordingCommand, RecordingEnd, RecordingView, TapRequest, Waiting};

/// What a holder tells the shard.
#[derive(Debug)]
pub enum AttachCommand {
    /// The whole set of tracks wanted in `media`.
    Tap(Vec<TapRequest>),
    /// Announce a recording, pause it, end it. While it is announced, and of whom has not acknowledged it, taps give nothing.
    Record(RecordingCommand),
    /// A request as on the control channel; the answer comes as `ServerMessage::Reply`.
    Request {
        /// Comes back in the reply.
        id: u32,
        /// What.
        request: Request,
    },
    /// A message on a topic.
    Publish(topic::Publication),
    /// A packet of a track of this attachment. The first one of a source publishes the track.
    Send(OutPacket),
    /// Ask the publisher of a tapped track for a keyframe.
    Keyframe {
        /// Which.
        track: TrackKey,
        /// Which simulcast layer.
        layer: u8,
    },
    /// Leave the room.
    Leave,
}

/// One RTP packet of an attachment's own track; becomes a [`Packet`] on the shard.
#[derive(Debug, Clone)]
pub struct OutPacket {
    /// Which track.
    pub source: Source,
    /// What it is coded in.
    pub codec: Codec,
    /// Extended sequence number, +1 per packet.
    pub seq: u64,
    /// Unwrapped RTP time in the codec's clock.
    pub rtp_time: u64,
    /// Last packet of a picture.
    pub marker: bool,
    /// RTP payload, at most 1,200 bytes.
    pub payload: Arc<[u8]>,
    /// Capture time, us since the Unix epoch.
    pub capture_us: u64,
    /// -dBov as in RFC 6464 (audio).
    pub audio_level: Option<u8>,
}

/// The way from a holder to its shard.
#[derive(Clone)]
pub struct AttachSender {
    pub(crate) key: ParticipantKey,
    pub(crate) room: RoomName,
    pub(crate) inbox: crate::inbox::Sender,
}

impl AttachSender {
    /// Hands a command to the shard without blocking. `false`: the ring was full or the shard is gone; it is counted.
    pub fn send(&self, command: AttachCommand) -> bool {
        self.inbox.attach(&self.room, self.key, command)
    }
}
