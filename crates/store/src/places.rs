//! Who produces into a stream: one, and the one before it whose end has not been noticed yet.
//!
//! A producer whose network broke connects again, and the connection before looks alive until it has been silent for long. So a
//! newer session of the same producer tells the older ones, which have less patience from then on; where there is no
//! place left, the oldest of them goes at once. Others' sessions never are touched.

use tokio::sync::watch;

use crate::error::Limit;

/// Sessions for each place at the most: who reconnects in a loop while the storage hangs gets no more.
const MOST: usize = 4;

/// What a session has of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the producer's newest.
    Held,
    /// The same producer has come again: what goes on coming is taken, silence is the end.
    Followed,
    /// The same producer has come again, and needed the place.
    Lost,
}

/// Whose sessions there are.
#[derive(Debug, Default)]
pub(crate) struct Places {
    all: Vec<Taken>,
    next: u64,
}

#[derive(Debug)]
struct Taken {
    id: u64,
    /// `None`: a producer of our own, which never comes twice.
    owner: Option<String>,
    place: watch::Sender<Place>,
}

impl Places {
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// A place for one more, which is known by the number; what becomes of it is seen by the other. At most `max`, and [`MOST`] times as
    /// many with those that have lost theirs and are about to end.
    pub(crate) fn take(
        &mut self,
        owner: Option<&str>,
        max: usize,
    ) -> Result<(u64, watch::Receiver<Place>), Limit> {
        // Who has lost its place and cannot end (its storage hangs) holds memory all the same.
        if self.all.len() >= MOST * max {
            return Err(Limit::Sessions);
        }
        let held = |taken: &&Taken| *taken.place.borrow() != Place::Lost;
        let same = |taken: &&Taken| owner.is_some() && taken.owner.as_deref() == owner;
        if self.all.iter().filter(held).count() >= max {
            // In the order in which they came.
            let oldest = self.all.iter().filter(held).find(same);
            oldest.ok_or(Limit::Sessions)?.place.send_replace(Place::Lost);
        }
        for older in self.all.iter().filter(same) {
            older.place.send_if_modified(|place| {
                let first = *place == Place::Held;
                *place = if first { Place::Followed } else { *place };
                first
            });
        }
        self.next += 1;
        let (place, seen) = watch::channel(Place::Held);
        self.all.push(Taken { id: self.next, owner: owner.map(str::to_owned), place });
        Ok((self.next, seen))
    }

    pub(crate) fn leave(&mut self, id: u64) {
        self.all.retain(|taken| taken.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_follows_itself_and_nobody_else() {
        let mut places = Places::default();
        let (_, first) = places.take(Some("a"), 2).unwrap();
        let (_, other) = places.take(Some("b"), 2).unwrap();
        assert_eq!(places.take(Some("c"), 2).unwrap_err(), Limit::Sessions);
        assert_eq!(places.take(None, 2).unwrap_err(), Limit::Sessions, "our own push nobody out");
        assert_eq!((*first.borrow(), *other.borrow()), (Place::Held, Place::Held));
        let (id, second) = places.take(Some("a"), 2).unwrap();
        assert_eq!(
            (*first.borrow(), *second.borrow(), *other.borrow()),
            (Place::Lost, Place::Held, Place::Held)
        );
        places.leave(id);
        let (_, third) = places.take(Some("a"), 3).unwrap();
        let (_, fourth) = places.take(Some("a"), 3).unwrap();
        assert_eq!((*third.borrow(), *fourth.borrow()), (Place::Followed, Place::Held), "there was room");
        assert_eq!(*first.borrow(), Place::Lost, "it does not come back");
        while places.take(Some("a"), 3).is_ok() {}
        assert_eq!(places.count(), 3 * MOST, "none of them ends");
    }
}
