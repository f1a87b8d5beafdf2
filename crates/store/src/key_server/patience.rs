//! Whether a key server is asked at all: one that did not answer is left alone for a while, then asked by one caller.

use std::time::Duration;

use tokio::time::Instant;

/// How long nobody asks a server that did not answer. Who needs a key meanwhile is refused at once.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Since the last answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// `Some`: it is away, and asked again from then on.
    away_until: Option<Instant>,
}

impl Patience {
    pub(super) fn is_away(self) -> bool {
        self.away_until.is_some()
    }

    /// Whether who asks now would be refused.
    pub(super) fn is_waiting(self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }

    /// Whether a caller may ask. Of a server that is away one may, and others only when that one, who takes `longest` at most, must be over.
    pub(super) fn may_ask(&mut self, now: Instant, longest: Duration) -> bool {
        if self.is_waiting(now) {
            return false;
        }
        if let Some(until) = &mut self.away_until {
            *until = now + longest;
        }
        true
    }

    /// What came of it; gives whether that is another state than before.
    pub(super) fn heard(&mut self, now: Instant, silent: bool) -> bool {
        let before = self.is_away();
        self.away_until = silent.then(|| now + PAUSE);
        before != silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_asked_by_one_at_a_time() {
        let (t0, longest) = (Instant::now(), Duration::from_secs(9));
        let mut patience = Patience::default();
        assert!(patience.may_ask(t0, longest) && patience.may_ask(t0, longest) && !patience.is_away());
        assert!(patience.heard(t0, true) && !patience.heard(t0, true));
        let later = t0 + PAUSE;
        assert!(!patience.may_ask(later - Duration::from_millis(1), longest) && patience.is_away());
        assert!(!patience.is_waiting(later) && patience.may_ask(later, longest));
        assert!(!patience.may_ask(later + Duration::from_secs(8), longest), "one is asking");
        // Who asked is gone and has said nothing.
        assert!(patience.may_ask(later + longest, longest));
        assert!(patience.heard(later + longest, false) && !patience.is_away());
        assert!(patience.may_ask(later + longest, longest) && patience.may_ask(later + longest, longest));
    }
}
