//! What happens to contacts' streaming, told to whoever wants to tell others. Telling never delays a call.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::history::History;

/// Events that wait to be told: ten times as many contacts as may be streamed by default, started and stopped at once.
const MAX_WAITING: usize = 2_048;

/// What happened, and what is known then.
#[derive(Debug, Clone)]
pub enum Happened {
    /// A contact is streamed from now on.
    Started(History),
    /// It is not any more; its last fragment is stored, or has failed.
    Stopped(History, Why),
}

/// Why streaming has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Somebody, or the end of the server, stopped it.
    Asked,
    /// The contact has left for good, or was in no room for too long.
    ContactEnded,
}

impl Happened {
    /// What is known of the contact's streaming.
    pub fn history(&self) -> &History {
        match self {
            Self::Started(history) | Self::Stopped(history, _) => history,
        }
    }
}

/// Where they come out. What is not taken in time is dropped, and counted by
/// [`Metrics::events_dropped`](crate::Metrics::events_dropped).
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Happened>);

impl Events {
    /// The next one; `None` when the recorder is gone.
    pub async fn recv(&mut self) -> Option<Happened> {
        self.0.recv().await
    }

    /// The next one, if it is there.
    pub fn try_recv(&mut self) -> Option<Happened> {
        self.0.try_recv().ok()
    }
}

/// The other end.
#[derive(Default)]
pub(crate) struct Teller {
    sender: OnceLock<mpsc::Sender<Happened>>,
    dropped: AtomicU64,
}

impl Teller {
    /// Once only.
    pub(crate) fn events(&self) -> Option<Events> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        self.sender.set(sender).ok().map(|()| Events(receiver))
    }

    pub(crate) fn tell(&self, happened: Happened) {
        if self.sender.get().is_some_and(|sender| sender.try_send(happened).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
