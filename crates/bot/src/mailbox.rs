//! An [`Outbox`] shared between the threads that fill it and the task that empties it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::transport::Outbound;

/// One bot's queue, with a bell. Locked for the time of one push or pop; payloads are not copied under the lock.
pub(crate) struct Mailbox {
    outbox: Mutex<Outbox>,
    bell: Notify,
}

impl Mailbox {
    /// An empty one.
    pub(crate) fn new(limits: Limits, epoch_us: u64) -> Self {
        Self { outbox: Mutex::new(Outbox::new(limits, epoch_us)), bell: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // A panic in a holder leaves counts at worst one off; the bot's own session is all that is touched.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the queue and wakes its reader.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Outbox) -> T) -> T {
        let result = work(&mut self.lock());
        self.bell.notify_one();
        result
    }

    /// The next message, when there is one.
    pub(crate) async fn next(&self) -> Outbound {
        loop {
            if let Some(message) = self.lock().pop() {
                return message;
            }
            self.bell.notified().await;
        }
    }
}
