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

    /// Takes the bell back, if it rang; call before draining so that nothing sent meanwhile is overheard. Nearly every round
    /// is one without commands: those make no system call. Who rings sets the flag first, so the ring may still be under
    /// way: then the flag stays, and the ring, when it comes, is answered.
    pub(crate) fn answer(&self) {
        if self.bell.rung.load(Ordering::Acquire) && self.bell.event.clear() {
            // Not a plain store: whoever found the bell rung has left its thing before, and it must be seen.
            self.bell.rung.swap(false, Ordering::AcqRel);
        }
    }

    /// The next command.
    pub(crate) fn next(&self) -> Option<Command> {
        self.ring.try_recv().ok()
    }

    /// Commands that wait.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Commands refused because the ring was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.bell.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_under_way_is_answered_when_it_comes() {
        let (sender, inbox) = inbox().unwrap();
        // Between a sender's two steps: the flag is set, the bell has not rung yet.
        sender.bell.rung.store(true, Ordering::Release);
        inbox.answer();
        assert!(sender.bell.rung.load(Ordering::Acquire), "the ring would be overheard");
        sender.bell.event.ring();
        inbox.answer();
        assert!(!sender.bell.rung.load(Ordering::Acquire));
        assert!(!sender.bell.event.clear(), "it would wake the shard for ever");
    }
}
