//! Giving an object store what waits in the spool.
//!
//! A store that is away takes nothing; one that is there may refuse single objects for good (a policy, a size, a name). Only
//! what becomes of others tells one from the other: what is refused while others are taken is passed over, tried again
//! later and later, and at last set aside, so that nothing waits behind it. Once refused like that, it tells nothing of the
//! store the next time, when it may be all that is left.

use futures_util::future::join_all;
use object_store::path::Path;

use super::spool::{self, Spool};
use super::{Created, Drained, Objects};
use crate::error::{Error, StorageFault};

/// Objects of the spool that a store gets at once. One after another, each with a round trip, they would come faster than they go.
const GIVEN_AT_ONCE: usize = 16;
/// And bytes of them in memory at once; a single one may be larger.
const GIVEN_BYTES_AT_ONCE: u64 = 64 * 1024 * 1024;
/// Objects that find out whether a store that was away answers again: more than one, because it may refuse that one.
const PROBES: usize = 3;
/// A store that has taken something and then nothing of so many is away again.
const FAILED_IN_A_ROW: usize = 3 * GIVEN_AT_ONCE;

/// What became of an object that waited in the spool.
enum Given {
    /// The store has it.
    Moved,
    /// The store has answered, and it stays here.
    Kept,
    /// It could not be read, so the store was not asked.
    Unread,
    /// The store does not take it.
    Failed(StorageFault),
}

/// What became of those that were given at once.
#[derive(Default)]
struct Round {
    moved: u64,
    /// The store is there.
    answered: bool,
    /// Refused, and so before, while others were taken.
    refused: Vec<Path>,
    /// Refused, or the store is away.
    failed: Vec<Path>,
    fault: Option<StorageFault>,
}

impl Round {
    fn refuse(&self, spool: &Spool) {
        self.refused.iter().chain(&self.failed).for_each(|path| spool.refuse(path));
    }
}

impl Objects {
    /// Gives the store what waits in the spool, until that is done or the store takes nothing.
    pub(crate) async fn drain(&self) -> Drained {
        let Some(spool) = &self.backend.spool else { return Drained::default() };
        spool.begin_drain();
        let mut moved = 0;
        // What came since the last time went to it directly.
        let took = spool.take_taken();
        let fault = match self.probe(spool, &mut moved).await {
            Ok(answered) => self.give_all(spool, answered || took, &mut moved).await,
            Err(fault) => Some(fault),
        };
        match fault {
            Some(fault) => spool.set_away(Some(fault)),
            None => self.answers(spool),
        }
        spool.save_set_aside().await;
        Drained { moved, left: spool.fill().0 }
    }

    /// Whether a store that was away has shown that it answers again; `Err`: it does not.
    async fn probe(&self, spool: &Spool, moved: &mut u64) -> Result<bool, StorageFault> {
        if spool.away().is_none() {
            return Ok(false);
        }
        let round = self.give_round(spool, &spool.probes(PROBES, GIVEN_BYTES_AT_ONCE)).await;
        *moved += round.moved;
        match round.fault {
            Some(fault) if !round.answered => Err(fault),
            _ => {
                round.refuse(spool);
                Ok(round.answered)
            }
        }
    }

    /// Gives everything, some at a time. `answers`: the store is known to. What stopped it, if something did.
    async fn give_all(&self, spool: &Spool, mut answers: bool, moved: &mut u64) -> Option<StorageFault> {
        let (mut after, mut failed_in_a_row) = (None, 0);
        let mut doubtful = None;
        loop {
            let batch = spool.batch(after.as_ref(), GIVEN_AT_ONCE, GIVEN_BYTES_AT_ONCE);
            let Some(last) = batch.last() else { return doubtful };
            let round = self.give_round(spool, &batch).await;
            *moved += round.moved;
            answers |= round.answered;
            failed_in_a_row = if round.answered { 0 } else { failed_in_a_row + round.failed.len() };
            if answers {
                doubtful = None;
                round.refuse(spool);
            } else {
                round.refused.iter().for_each(|path| spool.refuse(path));
                doubtful = round.fault.or(doubtful);
            }
            let most = if answers { FAILED_IN_A_ROW } else { PROBES };
            if failed_in_a_row >= most {
                return round.fault;
            }
            // What comes now need not wait for all that waits. But no fragment may be there before its header is.
            if round.answered && !spool::is_header(last) {
                self.answers(spool);
            }
            after = Some(last.clone());
        }
    }

    async fn give_round(&self, spool: &Spool, batch: &[Path]) -> Round {
        let mut round = Round::default();
        let given = join_all(batch.iter().map(|path| self.give(spool, path))).await;
        for (path, given) in batch.iter().zip(given) {
            match given {
                Given::Moved => (round.moved, round.answered) = (round.moved + 1, true),
                Given::Kept => round.answered = true,
                Given::Unread => {}
                Given::Failed(_) if spool.is_refused(path) => round.refused.push(path.clone()),
                Given::Failed(fault) => {
                    round.fault = Some(fault);
                    round.failed.push(path.clone());
                }
            }
        }
        round
    }

    fn answers(&self, spool: &Spool) {
        if spool.away().is_some() {
            spool.set_away(None);
            tracing::info!(waiting = spool.fill().0, "the object store answers again");
        }
    }

    /// Gives the store one object of the spool.
    async fn give(&self, spool: &Spool, path: &Path) -> Given {
        let bytes = match spool.get(path).await {
            Ok(bytes) => bytes,
            // Deleted meanwhile.
            Err(_) if !spool.holds(path) => return Given::Unread,
            Err(error) => {
                tracing::error!(%error, %path, "a spooled object cannot be read: it stays until the next start");
                spool.conflict(path);
                return Given::Unread;
            }
        };
        match self.create(path, bytes).await {
            // The name of a header is made from its bytes and the stream's key: what is there was sealed from the same.
            Ok(created) if created == Created::Yes || spool::is_header(path) => {
                let removed = spool.remove(path).await;
                removed
                    .inspect_err(|error| tracing::warn!(%error, %path, "a spooled object cannot be removed"))
                    .map_or(Given::Kept, |()| Given::Moved)
            }
            Ok(_) => {
                tracing::error!(%path, "the store has other bytes at the place of a spooled object: kept here");
                spool.conflict(path);
                Given::Kept
            }
            Err(error) => {
                tracing::warn!(%error, "the store does not take a spooled object");
                let Error::Storage { fault, .. } = error else { return Given::Kept };
                Given::Failed(fault)
            }
        }
    }
}
