//! The way into rooms for programs of this process: [`Shards`], or a room made of channels in tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use antiphon_base::{ParticipantId, ParticipantKey, RoomName};
use antiphon_wire::rtp::Packet;

use crate::attach::{AttachCommand, AttachEvent, AttachRequest};
use crate::handle::Shards;
use crate::join::JoinError;

/// Hands a command to the room; `false`: it was lost.
pub type Say = Arc<dyn Fn(AttachCommand) -> bool + Send + Sync>;

/// A standing in a room, as far as this crate uses it. Dropping `hold` leaves the room.
pub struct Place {
    /// Its id.
    pub id: ParticipantId,
    /// Its number.
    pub key: ParticipantKey,
    /// What happens.
    pub events: async_channel::Receiver<AttachEvent>,
    /// Packets of tapped tracks.
    pub media: async_channel::Receiver<Arc<Packet>>,
    /// The way back.
    pub say: Say,
    /// Kept as long as the place is.
    pub hold: Box<dyn Send + Sync>,
}

/// The future of [`Door::attach`].
pub type Attaching<'a> = Pin<Box<dyn Future<Output = Result<Place, JoinError>> + Send + 'a>>;

/// Whoever lets programs into rooms.
pub trait Door: Send + Sync {
    /// Enters.
    fn attach<'a>(&'a self, room: &'a RoomName, request: AttachRequest) -> Attaching<'a>;
}

impl Door for Shards {
    fn attach<'a>(&'a self, room: &'a RoomName, request: AttachRequest) -> Attaching<'a> {
        Box::pin(async move {
            let attachment = Self::attach(self, room, request).await?;
            let sender = attachment.sender();
            Ok(Place {
                id: attachment.id.clone(),
                key: attachment.key,
                events: attachment.events.clone(),
                media: attachment.media.clone(),
                say: Arc::new(move |command| sender.send(command)),
                hold: Box::new(attachment),
            })
        })
    }
}
