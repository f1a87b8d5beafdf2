//! Hold: a participant that is kept apart. It gets nothing of the others and they get nothing of it; what is tapped unseen (media
//! streaming, recordings) goes on. A player (WHEP) is unseen too, but has slots: it is one of the others.

use std::time::Instant;

use antiphon_base::ParticipantKey;

use super::Room;

impl Room {
    /// Puts somebody on hold, or takes it back; a place that is kept for a lost connection stays on hold. Everybody is told by the
    /// roster.
    pub fn set_held(&mut self, now: Instant, key: ParticipantKey, held: bool) {
        self.at(now);
        let Some(p) = self.participants.get_mut(&key).filter(|p| p.held != held) else { return };
        p.held = held;
        if held {
            self.stats.holds += 1;
            // It leads no conversation meanwhile.
            self.silence(key, false);
        }
        self.roster_dirty.insert(key);
        self.touch_scene();
    }
}
