//! Players (WHEP) choose layers, and are told what happens to what they play: the server's side of the extensions whose
//! bodies are [`antiphon_wire::whep`].
//!
//! Each event stream is a bounded ring between the home of the room and whoever writes it to the player. Looked at twice a
//! second, so what came and went between is not told.

use std::collections::BTreeMap;
use std::time::Instant;

use antiphon_base::{ParticipantId, ParticipantKey, RoomName};
use antiphon_room::SelectError;
use antiphon_wire::control::RecordingState;
use antiphon_wire::whep::{Event, MediaLayers, Selection};

use crate::core::Core;
use crate::home::Home;

/// Events of one stream that wait for a reader: some seconds of a busy room. The oldest give way to the newest.
const EVENT_RING: usize = 32;
/// Streams of one room; each is looked at twice a second.
const MAX_WATCHES: usize = 1_024;

/// Why nobody is told anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// It is not in the room, or plays nothing.
    #[error("there is no such player here (any more)")]
    Unknown,
    /// As many streams as there may be, or the shard does not answer.
    #[error("too many event streams; try again later")]
    Busy,
}

/// What one stream has told.
pub(crate) struct Watch {
    player: ParticipantKey,
    events: async_channel::Sender<Event>,
    active: bool,
    viewers: Option<u32>,
    layers: Option<BTreeMap<String, MediaLayers>>,
    recording: Option<RecordingState>,
}

impl Watch {
    fn new(player: ParticipantKey, events: async_channel::Sender<Event>) -> Self {
        Self { player, events, active: false, viewers: None, layers: None, recording: None }
    }

    /// Tells what has changed. How many events somebody has lost who does not read.
    fn tell(
        &mut self,
        active: bool,
        layers: BTreeMap<String, MediaLayers>,
        viewers: u32,
        recording: Option<RecordingState>,
    ) -> u64 {
        let mut lost = 0;
        let mut say = |event| lost += u64::from(matches!(self.events.force_send(event), Ok(Some(_))));
        // What was over before it could be told is nothing to be told.
        if self.recording != recording
            && (self.recording.is_some() || recording != Some(RecordingState::Stopped))
        {
            self.recording = recording;
            recording.into_iter().for_each(|state| say(Event::Recording(state)));
        }
        if active != self.active {
            self.active = active;
            say(if active { Event::Active } else { Event::Inactive });
        }
        let near = |told: &BTreeMap<String, MediaLayers>| {
            told.len() == layers.len()
                && told.iter().zip(&layers).all(|((a, told), (b, now))| a == b && told.is_near(now))
        };
        if !self.layers.as_ref().is_some_and(near) {
            self.layers = Some(layers.clone());
            say(Event::Layers(layers));
        }
        if self.viewers != Some(viewers) {
            self.viewers = Some(viewers);
            say(Event::ViewerCount(viewers));
        }
        lost
    }
}

/// The mid of an m-line by its index; else what is a mid itself.
fn mid_of<'a>(lines: &'a [String], media_id: &str) -> Option<&'a str> {
    let by_index = media_id.parse::<usize>().ok().and_then(|index| lines.get(index));
    by_index.or_else(|| lines.iter().find(|mid| *mid == media_id)).map(String::as_str)
}

impl Home {
    fn select(
        &mut self,
        now: Instant,
        key: ParticipantKey,
        selection: &Selection,
    ) -> Result<(), SelectError> {
        let lines = self.players.get(&key).ok_or(SelectError::Gone)?;
        let mid = match selection.media_id.as_deref() {
            Some(id) => Some(mid_of(lines, id).ok_or(SelectError::UnknownMedia)?),
            None => None,
        };
        self.room.select(now, key, mid, selection)
    }

    fn watch(&mut self, key: ParticipantKey) -> Result<async_channel::Receiver<Event>, WatchError> {
        if !self.players.contains_key(&key) {
            return Err(WatchError::Unknown);
        }
        self.watches.retain(|watch| !watch.events.is_closed());
        if self.watches.len() >= MAX_WATCHES {
            return Err(WatchError::Busy);
        }
        let (events, receiver) = async_channel::bounded(EVENT_RING);
        self.watches.push(Watch::new(key, events));
        self.tell_watches();
        Ok(receiver)
    }

    /// Tells all streams what has changed; forgets those that nobody holds any more. How many events were lost.
    fn tell_watches(&mut self) -> u64 {
        self.watches.retain(|watch| !watch.events.is_closed());
        if self.watches.is_empty() {
            return 0;
        }
        let (viewers, recording) = (self.room.viewers(), self.room.recording());
        let mut lost = 0;
        for watch in &mut self.watches {
            let (Some(playing), Some(lines)) =
                (self.room.playing(watch.player), self.players.get(&watch.player))
            else {
                continue;
            };
            let index = |mid: &str| lines.iter().position(|line| line == mid);
            let media = playing.media.into_iter();
            let layers = media.filter_map(|(mid, layers)| Some((index(&mid)?.to_string(), layers)));
            let count = viewers.get(&self.room.plays(watch.player)).copied().unwrap_or_default();
            lost += watch.tell(playing.active, layers.collect(), count, recording);
        }
        lost
    }

    /// A participant has gone: its streams end.
    pub(crate) fn forget_player(&mut self, key: ParticipantKey) {
        if self.players.remove(&key).is_some() {
            self.watches.retain(|watch| watch.player != key);
        }
    }
}

impl Core {
    /// A player chooses a layer.
    pub(crate) fn select(
        &mut self,
        now: Instant,
        name: &RoomName,
        id: &ParticipantId,
        selection: &Selection,
    ) -> Result<(), SelectError> {
        let (room, key) = self.find(name, id).ok_or(SelectError::Gone)?;
        // What was seen in this round counts.
        self.pump(now, room);
        let mut result = Err(SelectError::Gone);
        self.with_home(now, room, |home| result = home.select(now, key, selection));
        result
    }

    /// Tells the players of a room what has changed.
    pub(crate) fn tell_watches(&mut self, now: Instant, room: usize) {
        if self.home(room).is_none_or(|home| home.watches.is_empty()) {
            return;
        }
        let mut lost = 0;
        self.with_home(now, room, |home| lost = home.tell_watches());
        self.metrics.player_events_dropped += lost;
    }

    /// A player wants to be told.
    pub(crate) fn watch(
        &mut self,
        now: Instant,
        name: &RoomName,
        id: &ParticipantId,
    ) -> Result<async_channel::Receiver<Event>, WatchError> {
        let (room, key) = self.find(name, id).ok_or(WatchError::Unknown)?;
        self.pump(now, room);
        let mut result = Err(WatchError::Unknown);
        self.with_home(now, room, |home| result = home.watch(key));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_index_or_mid() {
        let lines: Vec<String> = ["a", "0", "video1"].map(str::to_owned).into();
        let of = |id| mid_of(&lines, id);
        assert_eq!([of("0"), of("1"), of("2")], [Some("a"), Some("0"), Some("video1")]);
        assert_eq!([of("video1"), of("3"), of("-1"), of("")], [Some("video1"), None, None, None]);
    }

    #[test]
    fn who_does_not_read_loses_the_oldest() {
        let (events, receiver) = async_channel::bounded(EVENT_RING);
        let mut watch = Watch::new(ParticipantKey(1), events);
        let lost: u64 =
            (0..100).map(|viewers| watch.tell(viewers % 2 == 1, BTreeMap::new(), viewers, None)).sum();
        assert_eq!(receiver.len(), EVENT_RING);
        let told: Vec<Event> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(told.last(), Some(&Event::ViewerCount(99)));
        // A hundred counts, 99 changes between active and not, and the layers once.
        assert_eq!(lost, 200 - EVENT_RING as u64);
        assert_eq!(watch.tell(true, BTreeMap::new(), 99, None), 0, "nothing new");
        assert!(receiver.is_empty());
    }

    #[test]
    fn players_are_told_of_a_recording_that_they_can_still_see() {
        use RecordingState::{Announcing, Recording, Stopped};
        let (events, receiver) = async_channel::bounded(EVENT_RING);
        let mut watch = Watch::new(ParticipantKey(1), events);
        for recording in
            [None, Some(Stopped), Some(Announcing), Some(Recording), Some(Recording), Some(Stopped)]
        {
            watch.tell(false, BTreeMap::new(), 1, recording);
        }
        let told: Vec<Event> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        let told: Vec<_> = told.into_iter().filter(|event| matches!(event, Event::Recording(_))).collect();
        assert_eq!(told, [Announcing, Recording, Stopped].map(Event::Recording));
    }
}
