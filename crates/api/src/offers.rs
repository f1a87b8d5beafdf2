//! Offers of the server that wait for their answers (WHEP).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, RoomName};
use antiphon_shard::Offered;

/// How long an answer may take (draft-ietf-wish-whep-04: 30 s where nothing else is said).
const TTL: Duration = Duration::from_secs(30);
/// Most offers that wait. Each is a connection without peer, some 50 kB.
const MAX_WAITING: usize = 512;

/// Offers by the resource that they will be, the oldest first.
#[derive(Default)]
pub(crate) struct Offers(Mutex<VecDeque<(Instant, Offered)>>);

impl Offers {
    /// Keeps an offer. `false`: too many wait already.
    pub(crate) fn put(&self, now: Instant, offered: Offered) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > TTL) {
            waiting.pop_front();
        }
        let room = waiting.len() < MAX_WAITING;
        if room {
            waiting.push_back((now, offered));
        }
        room
    }

    /// Whether an offer waits for this one's answer.
    pub(crate) fn has(&self, room: &RoomName, id: &ParticipantId) -> bool {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().any(|(_, o)| o.room() == room && o.id() == id)
    }

    /// Takes an offer that is not too old.
    pub(crate) fn take(&self, now: Instant, room: &RoomName, id: &ParticipantId) -> Option<Offered> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|(_, o)| o.room() == room && o.id() == id)?;
        let (since, offered) = waiting.remove(at)?;
        (now.saturating_duration_since(since) <= TTL).then_some(offered)
    }
}
