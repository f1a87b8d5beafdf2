//! Messages on topics: who may send them, who gets them.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantKey};
use antiphon_wire::control::{ErrorBody, Presence, ServerMessage, check_topics};
use antiphon_wire::topic::{Message, Publication, TopicError};

use super::Room;
use super::request::{Answer, GONE};
use crate::output::Output;

impl Room {
    /// A participant sends a message on a topic, as [`antiphon_wire::topic::parse`] has read it. It goes to those who
    /// listen to the topic (of those it names, where it names some), and not back to its sender. A refused one is
    /// answered by `DataRefused`.
    pub fn publish_data(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        publication: Result<Publication, TopicError>,
    ) {
        self.at(now);
        let Some(p) = self.participants.get(&from).filter(|p| p.control) else { return };
        let grants = p.grants;
        match publication {
            Err(error) => {
                let kind = match error {
                    TopicError::TooLarge { .. } => ErrorKind::TooLarge,
                    _ => ErrorKind::BadRequest,
                };
                self.refuse_data(from, None, kind, &error.to_string());
            }
            Ok(p) if !grants.publish => {
                let message = "your token does not grant publishing";
                self.refuse_data(from, Some(&p.topic), ErrorKind::Forbidden, message);
            }
            Ok(p) => self.give_data(from, p),
        }
    }

    fn give_data(&mut self, from: ParticipantKey, publication: Publication) {
        let Publication { lossy, to, topic, payload } = publication;
        let addressed = !to.is_empty();
        let mut receivers = self.topics.listeners(&topic);
        receivers.retain(|key| {
            let there = |p: &crate::participant::Participant| p.open && p.presence == Presence::Connected;
            *key != from
                && (!addressed || to.contains(key))
                && self.participants.get(key).is_some_and(|p| there(p))
        });
        let message = Message { from, lossy, addressed, topic, payload };
        let (now, rates) = (self.now, self.config.data);
        let Some(p) = self.participants.get_mut(&from) else { return };
        if !p.data.take(now, rates, message.len(), receivers.len()) {
            let text = "more on topics than a participant may send: wait";
            return self.refuse_data(from, Some(&message.topic), ErrorKind::RateLimited, text);
        }
        self.stats.data_messages += 1;
        if receivers.is_empty() {
            return;
        }
        // At most as many as the allowances of all participants let through between two drains.
        self.outputs
            .push_back(Output::Data { to: receivers.into_iter().collect(), message: Arc::new(message) });
    }

    fn refuse_data(&mut self, from: ParticipantKey, topic: Option<&str>, code: ErrorKind, message: &str) {
        self.stats.data_refused += 1;
        let now = self.now;
        let Some(count) = self.participants.get_mut(&from).and_then(|p| p.data.refuse(now)) else { return };
        let error = ErrorBody { code, message: message.to_owned() };
        self.send(from, ServerMessage::DataRefused { topic: topic.map(str::to_owned), count, error });
    }

    pub(super) fn listen(&mut self, key: ParticipantKey, topics: &[String]) -> Answer {
        check_topics(topics)
            .map_err(|_| (ErrorKind::BadRequest, "topics are at most 64, of 1 to 64 bytes"))?;
        let p = self.participants.get(&key).ok_or(GONE)?;
        if !p.grants.subscribe && !topics.is_empty() {
            return Err((ErrorKind::Forbidden, "your token does not grant subscribing"));
        }
        self.topics.set(key, topics);
        Ok(())
    }
}
