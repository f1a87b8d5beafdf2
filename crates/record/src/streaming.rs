//! A contact being streamed: 20 ms of it each 20 ms, on an absolute schedule, wherever it is, until it is stopped or has ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antiphon_base::{ParticipantId, RoomName};
use antiphon_shard::Door;
use antiphon_store::Finished;
use antiphon_wire::control::LeaveReason;
use bytes::Bytes;
use tokio::time::Instant;

use crate::blocks::{Block, Blocks};
use crate::clock::Clock;
use crate::ears::{Ears, Heard, PATIENCE_US, Wanted};
use crate::events::Why;
use crate::interleave::Interleave;
use crate::listen::{Happening, Here, next};
use crate::writer::Writer;

/// One frame.
const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 20;
/// Sound is written so long after it came: what comes out of order has the time to.
const PATIENCE: Duration = Duration::from_micros(PATIENCE_US);
/// How much is written behind the end: what was said before it may still be on its way then.
const TAIL: Duration = Duration::from_millis(160);
/// How long to wait before a room that was lost is entered again.
const RETRY: Duration = Duration::from_secs(1);
/// Frames made up for in one go after a stall; the rest follows in the next rounds, packets between them.
const MAX_TICKS_AT_ONCE: u32 = 50;
/// Places the contact has left, and of which something is still to be heard: one who is moved every 100 ms leaves as many behind.
const MAX_THERE: usize = 4;
/// Commands waiting for a contact's task, which answers within a tick.
pub(crate) const COMMANDS: usize = 16;

/// Where a participant is.
pub(crate) type Where = (RoomName, ParticipantId);

/// What the recorder tells a contact's task.
pub(crate) enum Command {
    /// The contact is here now.
    Moved(Where),
    /// End.
    Stop,
}

/// What a task needs.
pub(crate) struct Streaming {
    pub(crate) door: Arc<dyn Door>,
    pub(crate) clock: Clock,
    /// How long the contact may be in no room.
    pub(crate) absence: Duration,
    /// Its id was given to it: it may turn up in another room.
    pub(crate) may_move: bool,
    pub(crate) wanted: Wanted,
    pub(crate) place: Where,
    pub(crate) here: Option<Here>,
    /// Of the places before, the oldest first: what came there is heard to its end.
    pub(crate) there: VecDeque<Ears>,
    /// Counts those that were not.
    pub(crate) tails_cut: Arc<AtomicU64>,
    pub(crate) writer: Writer,
    pub(crate) commands: async_channel::Receiver<Command>,
    pub(crate) start: Instant,
    pub(crate) start_ms: u64,
}

/// When and how it ended.
pub(crate) struct Ended {
    pub(crate) stop_ms: u64,
    pub(crate) finished: Finished,
    pub(crate) why: Why,
}

/// What changes while it runs.
struct State {
    blocks: Blocks,
    pictures: Interleave,
    /// How many were written.
    ticks: u64,
    due: Instant,
    /// Listen until then.
    stop_at: Option<Instant>,
    stop_ms: u64,
    why: Why,
    gone_since: Option<Instant>,
    retry_at: Instant,
}

impl Streaming {
    /// Runs to the end.
    pub(crate) async fn run(mut self) -> Ended {
        let tracks = 1 + usize::from(self.wanted.others);
        let mut state = State {
            blocks: Blocks::new(self.wanted.rate, tracks, self.start_ms),
            pictures: Interleave::new(self.start_ms, self.writer.frames_dropped()),
            ticks: 0,
            due: self.start + TICK + PATIENCE,
            stop_at: None,
            stop_ms: 0,
            why: Why::Asked,
            gone_since: None,
            retry_at: self.start,
        };
        if let Some(here) = &mut self.here {
            here.begin();
        }
        while state.stop_at.is_none_or(|at| state.due <= at) {
            let happening = next(self.here.as_ref().map(Here::place));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(state.due) => self.ticks(&mut state),
                command = self.commands.recv(), if state.stop_at.is_none() => match command {
                    Ok(Command::Moved(place)) => self.moved(place, &mut state).await,
                    Ok(Command::Stop) | Err(_) => self.end(&mut state, Instant::now()),
                },
                happening = happening => self.happened(happening, &mut state),
            }
            self.see(&mut state);
            self.look(&mut state).await;
        }
        let rest = state.blocks.finish();
        self.write(&mut state, rest);
        // Out of the room before the store is waited for.
        self.here = None;
        Ended { stop_ms: state.stop_ms, finished: self.writer.finish().await, why: state.why }
    }

    fn end(&self, state: &mut State, now: Instant) {
        state.stop_at.get_or_insert(now + TAIL + PATIENCE);
        state.stop_ms = self.clock.us(now) / 1_000;
    }

    /// Takes pictures that have come.
    fn see(&mut self, state: &mut State) {
        let Some(here) = &mut self.here else { return };
        let (delay_us, now_us) = (here.ears.delay_us(), self.clock.us(Instant::now()));
        for picture in here.ears.pictures() {
            state.pictures.push(picture, delay_us, now_us);
        }
    }

    /// Sound, and the pictures that stand before it.
    fn write(&mut self, state: &mut State, blocks: Vec<Block>) {
        for block in blocks {
            for picture in state.pictures.until(block.at_ms) {
                self.writer.picture(picture);
            }
            self.writer.block(block);
        }
    }

    /// All frames that are due.
    fn ticks(&mut self, state: &mut State) {
        let now = Instant::now();
        for _ in 0..MAX_TICKS_AT_ONCE {
            if state.due > now || state.stop_at.is_some_and(|at| state.due > at) {
                return;
            }
            let due_us = self.clock.us(state.due);
            let blocks = match self.hear(due_us) {
                Heard::Pcm { from, to } => state.blocks.push(&[&from, &to]),
                Heard::Opus(packets) => {
                    let tick_ms = self.start_ms + state.ticks * TICK_MS;
                    let block = |(at_ms, packet): (u64, Arc<[u8]>)| Block {
                        at_ms: tick_ms + at_ms,
                        track: 1,
                        data: Bytes::from_owner(packet),
                    };
                    packets.into_iter().map(block).collect()
                }
            };
            self.see(state);
            self.write(state, blocks);
            state.due += TICK;
            state.ticks += 1;
        }
    }

    /// The 20 ms that are due, of wherever something is to be heard; what came first stands first.
    fn hear(&mut self, due_us: u64) -> Heard {
        let here = match &mut self.here {
            Some(here) => {
                here.take();
                self.tails_cut.fetch_add(here.ears.tails_cut(), Ordering::Relaxed);
                here.ears.tick(due_us)
            }
            None => self.wanted.nothing(),
        };
        self.there.retain(|ears| !ears.is_drained());
        let there = self.there.iter_mut().map(|ears| ears.tick(due_us)).reduce(Heard::and);
        match there {
            Some(there) => there.and(here),
            None => here,
        }
    }

    fn happened(&mut self, happening: Happening, state: &mut State) {
        let Some(here) = &mut self.here else { return };
        match happening {
            Happening::Event(event) => {
                // What came before it is of the room as it was before it.
                here.take();
                here.event(event);
            }
            Happening::Packet(packet) => {
                here.packet(&packet);
                here.take();
            }
            Happening::End => self.part(state),
        }
    }

    /// Is not there any more. What came there is heard all the same.
    fn part(&mut self, state: &mut State) {
        if let Some(here) = &mut self.here {
            here.take_all();
            self.tails_cut.fetch_add(here.ears.tails_cut(), Ordering::Relaxed);
            self.see(state);
        }
        self.there.extend(self.here.take().map(|here| here.ears));
        if self.there.len() > MAX_THERE {
            self.there.pop_front();
            self.tails_cut.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the contact is there; ends it where it has ended, enters its room again where that was lost.
    async fn look(&mut self, state: &mut State) {
        let now = Instant::now();
        if self.here.as_ref().is_some_and(|here| here.ears.present()) {
            state.gone_since = None;
            return;
        }
        let since = *state.gone_since.get_or_insert(now);
        let left = self.here.as_ref().and_then(|here| here.ears.left());
        let for_good = matches!(left, Some(LeaveReason::Left | LeaveReason::Removed)) && !self.may_move;
        if for_good || now.saturating_duration_since(since) >= self.absence {
            if state.stop_at.is_none() {
                self.end(state, since);
                state.stop_at = Some(now + TAIL + PATIENCE);
                state.why = Why::ContactEnded;
            }
        } else if self.here.is_none() && state.stop_at.is_none() && now >= state.retry_at {
            self.enter(state).await;
        }
    }

    /// The contact is somewhere else, or there again.
    async fn moved(&mut self, place: Where, state: &mut State) {
        let same = self.place == place && self.here.is_some();
        self.place = place;
        if !same {
            self.part(state);
            self.enter(state).await;
        }
    }

    async fn enter(&mut self, state: &mut State) {
        state.retry_at = Instant::now() + RETRY;
        let (room, participant) = &self.place;
        let ears = Ears::new(participant.clone(), self.wanted);
        match Here::enter(&*self.door, room, ears).await {
            Ok(here) => self.here = Some(here),
            Err(error) => tracing::warn!(%error, "a streamed contact's room cannot be entered now"),
        }
    }
}
