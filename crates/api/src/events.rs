//! Event streams of players: what waits for each, and who reads it.
//!
//! A stream's events wait in a bounded ring of the room's shard, where the oldest give way; nothing here waits for a reader.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use antiphon_base::{ParticipantId, RoomName};
use antiphon_wire::whep::{Event, EventType, Events};
use async_channel::Receiver;
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::oneshot;

use crate::id;

/// Streams of one player: one is what it needs, and some that it has lost sight of.
const MAX_OF_PLAYER: usize = 4;
/// All streams. Each is a connection while it is read, and some kilobytes.
const MAX_STREAMS: usize = 4_096;
/// A comment is sent when nothing happened for so long (WHATWG HTML, 9.2.7 says 15 s): proxies close what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Why a stream was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutError {
    /// The player has too many.
    OfPlayer,
    /// The server has.
    OfServer,
}

/// All streams by their names.
#[derive(Default)]
pub(crate) struct EventStreams(Mutex<HashMap<String, Kept>>);

struct Kept {
    room: RoomName,
    player: ParticipantId,
    events: Events,
    receiver: Receiver<Event>,
    latest: Latest,
    /// Dropped, it ends who reads now.
    reader: Option<oneshot::Sender<()>>,
}

/// The latest event of each kind that was read: who reads anew (an `EventSource` does by itself) begins with these.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<[Option<Event>; 4]>>);

impl Latest {
    fn note(&self, event: &Event) {
        let place = match event.kind() {
            EventType::Active | EventType::Inactive => 0,
            EventType::Layers => 1,
            EventType::ViewerCount => 2,
            EventType::Recording => 3,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(event.clone());
    }

    fn all(&self) -> VecDeque<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }
}

/// A stream that is read.
pub(crate) struct Reading {
    events: Events,
    receiver: Receiver<Event>,
    latest: Latest,
    again: VecDeque<Event>,
    ended: oneshot::Receiver<()>,
    begun: bool,
}

impl EventStreams {
    /// Keeps a stream and gives its name.
    pub(crate) fn put(
        &self,
        room: &RoomName,
        player: &ParticipantId,
        events: Events,
        receiver: Receiver<Event>,
    ) -> Result<String, PutError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose player has gone.
        all.retain(|_, kept| !kept.receiver.is_closed());
        if all.values().filter(|kept| kept.room == *room && kept.player == *player).count() >= MAX_OF_PLAYER {
            return Err(PutError::OfPlayer);
        }
        if all.len() >= MAX_STREAMS {
            return Err(PutError::OfServer);
        }
        let name = id::secret();
        let (room, player) = (room.clone(), player.clone());
        let kept = Kept { room, player, events, receiver, latest: Latest::default(), reader: None };
        all.insert(name.clone(), kept);
        Ok(name)
    }

    /// Who reads it from now on.
    pub(crate) fn read(&self, room: &str, player: &str, name: &str) -> Option<Reading> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(name).is_some_and(|kept| kept.receiver.is_closed()) {
            all.remove(name);
        }
        let kept = all.get_mut(name).filter(|kept| kept.is_of(room, player))?;
        let (reader, ended) = oneshot::channel();
        kept.reader = Some(reader);
        let (receiver, latest) = (kept.receiver.clone(), kept.latest.clone());
        let again = latest.all();
        Some(Reading { events: kept.events, receiver, latest, again, ended, begun: false })
    }

    /// Forgets a stream. `false`: there is none.
    pub(crate) fn remove(&self, room: &str, player: &str, name: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = all.get(name).is_some_and(|kept| kept.is_of(room, player));
        there && all.remove(name).is_some_and(|kept| !kept.receiver.is_closed())
    }
}

impl Kept {
    fn is_of(&self, room: &str, player: &str) -> bool {
        self.room.as_str() == room && self.player.as_str() == player
    }
}

/// The body of an answer. It ends with the stream, or when somebody else reads it.
pub(crate) fn to_body(reading: Reading) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold(reading, |mut reading| async move {
        let text = reading.next().await?;
        Some((Ok(Bytes::from(text)), reading))
    })
}

impl Reading {
    async fn next(&mut self) -> Option<String> {
        // At once, so that whoever stands between sees an answer.
        if !std::mem::replace(&mut self.begun, true) {
            return Some(":\n\n".to_owned());
        }
        if let Some(event) = self.again.pop_front() {
            return Some(event.to_text());
        }
        loop {
            let event = tokio::select! {
                biased;
                _ = &mut self.ended => return None,
                event = self.receiver.recv() => event.ok()?,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(":\n\n".to_owned()),
            };
            if self.events.has(event.kind()) {
                self.latest.note(&event);
                return Some(event.to_text());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn kept(
        streams: &EventStreams,
        player: &str,
    ) -> (async_channel::Sender<Event>, Result<String, PutError>) {
        let (sender, receiver) = async_channel::bounded(2);
        let (room, player) = (RoomName::new("r").unwrap(), ParticipantId::new(player).unwrap());
        (
            sender,
            streams.put(&room, &player, Events::parse(br#"["layers","viewercount"]"#).unwrap(), receiver),
        )
    }

    #[test]
    fn streams_are_bounded_and_gone_ones_do_not_count() {
        let streams = EventStreams::default();
        let mut held: Vec<_> = (0..MAX_OF_PLAYER).map(|_| kept(&streams, "a")).collect();
        assert!(held.iter().all(|(_, name)| name.is_ok()));
        assert_eq!(kept(&streams, "a").1, Err(PutError::OfPlayer));
        held.extend((MAX_OF_PLAYER..MAX_STREAMS).map(|i| kept(&streams, &format!("p{i}"))));
        assert_eq!(kept(&streams, "b").1, Err(PutError::OfServer));
        // A player's end closes its rings.
        held.truncate(1);
        let (_sender, name) = kept(&streams, "b");
        assert!(!streams.remove("r", "a", &name.clone().unwrap()), "somebody else's");
        assert!(streams.remove("r", "b", &name.clone().unwrap()));
        assert!(streams.read("r", "b", &name.unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_new_reader_begins_with_what_holds_and_ends_the_old_one() {
        let streams = EventStreams::default();
        let (sender, name) = kept(&streams, "a");
        let name = name.unwrap();
        let open = || Box::pin(to_body(streams.read("r", "a", &name).unwrap()).map(|text| text.unwrap()));
        let mut first = open();
        assert_eq!(first.next().await.unwrap(), ":\n\n");
        sender.send(Event::Active).await.unwrap();
        sender.send(Event::ViewerCount(1)).await.unwrap();
        assert_eq!(first.next().await.unwrap(), Event::ViewerCount(1).to_text(), "it is not of `active`");
        let mut second = open();
        assert_eq!(first.next().await, None);
        assert_eq!(second.next().await.unwrap(), ":\n\n");
        assert_eq!(second.next().await.unwrap(), Event::ViewerCount(1).to_text());
        sender.send(Event::ViewerCount(2)).await.unwrap();
        assert_eq!(second.next().await.unwrap(), Event::ViewerCount(2).to_text());
        drop(sender);
        assert_eq!(second.next().await, None);
        assert!(streams.read("r", "a", &name).is_none());
    }
}
