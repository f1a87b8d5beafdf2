//! The way into a shard: a bounded ring of commands and an eventfd that ends its wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use antiphon_base::{ParticipantKey, RoomName};

use crate::attach::{AttachCommand, COMMAND_RING};
use crate::command::Command;
use crate::net::EventFd;

/// The sending side; cheap to clone, never blocks.
#[derive(Clone)]
pub(crate) struct Sender {
    ring: async_channel::Sender<Command>,
    bell: Arc<Bell>,
}

/// The shard's side.
pub(crate) struct Inbox {
    ring: async_channel::Receiver<Command>,
    bell: Arc<Bell>,
}

struct Bell {
    /// Set while a ring of the bell is under way, so that a burst of commands costs one system call.
    rung: AtomicBool,
    event: EventFd,
    dropped: AtomicU64,
}

/// Makes both sides.
pub(crate) fn inbox() -> std::io::Result<(Sender, Inbox)> {
    let (tx, rx) = async_channel::bounded(COMMAND_RING);
    let bell =
        Arc::new(Bell { rung: AtomicBool::new(false), event: EventFd::new()?, dropped: AtomicU64::new(0) });
    Ok((Sender { ring: tx, bell: bell.clone() }, Inbox { ring: rx, bell }))
}

impl Sender {
    /// Hands over a command. `false`: full (counted) or the shard is gone.
    pub(crate) fn send(&self, command: Command) -> bool {
        if self.ring.try_send(command).is_err() {
            self.bell.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.wake();
        true
    }

    /// Ends the wait of the shard: something was left for it.
    pub(crate) fn wake(&self) {
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            self.bell.event.ring();
        }
    }

    /// Hands over a command of an attachment.
    pub(crate) fn attach(&self, room: &RoomName, key: ParticipantKey, command: AttachCommand) -> bool {
        self.send(Command::Attached { room: room.clone(), key, command })
    }
}

impl Inbox {
    /// What to wait on.
    pub(crate) fn event(&self) -> &EventFd {
        &self.bell.event
    }

    /// Takes the bell back; call before draining so that nothing sent meanwhile is overheard.
    pub(crate) fn answer(&self) {
        self.bell.event.clear();
        // Not a plain store: whoever found the bell rung has left its thing before, and it must be seen.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    /// The next command.
    pub(crate) fn next(&self) -> Option<Command> {
        self.ring.try_recv().ok()
    }

    /// Commands refused because the ring was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.bell.dropped.load(Ordering::Relaxed)
    }
}
