//! Being in a room without being seen: a hidden attachment for one contact, with its ears.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antiphon_base::{ErrorKind, ParticipantId, RoomName, TrackKey};
use antiphon_shard::{AttachCommand, AttachEvent, AttachRequest, Door, Grants, JoinError, Place};
use antiphon_wire::control::{ParticipantKind, ServerMessage};
use antiphon_wire::rtp::Packet;

use crate::ears::Ears;

/// A room says who is in it as soon as somebody enters; one that is silent for so long is not going to.
const ROSTER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits for the first picture: a key frame that has to be asked for twice.
const FIRST_PICTURE: Duration = Duration::from_secs(1);
/// Packets taken in one go before the clock is looked at again.
const BATCH: usize = 256;

/// A place in a room. Dropping it leaves.
pub(crate) struct Here {
    pub(crate) ears: Ears,
    place: Place,
}

/// What a room does.
pub(crate) enum Happening {
    Event(AttachEvent),
    Packet(Arc<Packet>),
    /// The room is over, or has let us go.
    End,
}

impl Here {
    /// Enters a room, and returns when it is known who is there.
    pub(crate) async fn enter(door: &dyn Door, room: &RoomName, ears: Ears) -> Result<Self, JoinError> {
        let request = recorder_request();
        let entering = async {
            let mut here = Self { ears, place: door.attach(room, request).await? };
            loop {
                let event = here.place.events.recv().await.map_err(|_| gone())?;
                let known = matches!(event, AttachEvent::Control(ServerMessage::Roster { .. }));
                here.event(event);
                if known {
                    return Ok(here);
                }
            }
        };
        tokio::time::timeout(ROSTER_TIMEOUT, entering).await.map_err(|_| gone())?
    }

    /// The place itself, to wait on.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The room says something.
    pub(crate) fn event(&mut self, event: AttachEvent) {
        let AttachEvent::Control(message) = event else { return };
        if let Some(taps) = self.ears.control(message)
            && !(self.place.say)(AttachCommand::Tap(taps))
        {
            tracing::warn!("the room's shard does not take commands: a stream may be silent");
        }
    }

    /// A packet came.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>) {
        let wanted = self.ears.packet(packet);
        self.ask(wanted);
    }

    /// Takes packets that wait.
    pub(crate) fn take(&mut self) {
        for _ in 0..BATCH {
            let Ok(packet) = self.place.media.try_recv() else { return };
            self.packet(&packet);
        }
    }

    /// Takes all packets that wait now.
    pub(crate) fn take_all(&mut self) {
        for _ in 0..self.place.media.len().div_ceil(BATCH) {
            self.take();
        }
    }

    /// Passes over the sound of packets that wait: it was before the start.
    pub(crate) fn begin(&mut self) {
        for _ in 0..BATCH {
            let Ok(packet) = self.place.media.try_recv() else { return };
            let wanted = self.ears.look(&packet);
            self.ask(wanted);
        }
    }

    /// Waits for the first picture of a camera that is on, so that the first header of a stream can tell what it is. What is heard
    /// meanwhile was before the start.
    pub(crate) async fn first_picture(&mut self) {
        let looking = async {
            while self.ears.expects_picture() {
                match next(Some(&self.place)).await {
                    Happening::Event(event) => self.event(event),
                    Happening::Packet(packet) => {
                        let wanted = self.ears.look(&packet);
                        self.ask(wanted);
                    }
                    Happening::End => return,
                }
            }
        };
        // If it does not come, the sound begins without it.
        let _ = tokio::time::timeout(FIRST_PICTURE, looking).await;
    }

    /// A key frame of a track's layer, if one is wanted. One that is not asked for is wanted again.
    fn ask(&self, wanted: Option<(TrackKey, u8)>) {
        if let Some((track, layer)) = wanted {
            (self.place.say)(AttachCommand::Keyframe { track, layer });
        }
    }
}

/// What comes next at a place; nothing ever without one.
pub(crate) async fn next(place: Option<&Place>) -> Happening {
    let Some(place) = place else { return std::future::pending().await };
    tokio::select! {
        biased;
        event = place.events.recv() => event.map_or(Happening::End, Happening::Event),
        packet = place.media.recv() => packet.map_or(Happening::End, Happening::Packet),
    }
}

fn gone() -> JoinError {
    JoinError::new(ErrorKind::Overloaded, "the room did not answer: try again")
}

/// As whom a recorder enters a room: it listens, and nobody sees it.
pub(crate) fn recorder_request() -> AttachRequest {
    AttachRequest {
        id: own_id(),
        name: "recorder".into(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        hidden: true,
    }
}

/// Ours in the room, which nobody sees: used once in this process.
fn own_id() -> ParticipantId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut random).expect("the system gives random numbers");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    ParticipantId::new(&format!("rec-{:016x}-{number}", u64::from_be_bytes(random)))
        .expect("hexadecimal and hyphens, short")
}
