//! Which contacts there are, where they are, and which are streamed. Bounded: the longest known are forgotten first.

use std::collections::{BTreeMap, HashMap};

use antiphon_base::RoomName;

use crate::contact::ContactId;
use crate::streaming::{Command, Where};

/// Rooms of a contact that are remembered, for who may ask about it.
const MAX_ROOMS: usize = 16;

/// What a contact's streaming is doing.
#[derive(Default)]
pub(crate) enum Status {
    /// Nothing.
    #[default]
    Idle,
    /// It is being started.
    Starting,
    /// It runs. The receiver ends when everything is stored.
    Running { commands: async_channel::Sender<Command>, done: tokio::sync::watch::Receiver<bool> },
}

/// The way to a task, and the news of its end.
pub(crate) type Running = (async_channel::Sender<Command>, tokio::sync::watch::Receiver<bool>);

/// A contact.
#[derive(Default)]
pub(crate) struct Contact {
    /// Position in the order of age.
    age: u64,
    pub(crate) place: Option<Where>,
    /// Its id was given to it by a token, so it may turn up in another room.
    pub(crate) given: bool,
    pub(crate) rooms: Vec<RoomName>,
    pub(crate) status: Status,
    /// Name of the stream that it was streamed into last.
    pub(crate) stream: Option<String>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Contacts {
    by_id: HashMap<ContactId, Contact>,
    by_place: HashMap<Where, ContactId>,
    by_age: BTreeMap<u64, ContactId>,
    next_age: u64,
    /// Forgotten because there were too many.
    pub(crate) forgotten: u64,
}

impl Contacts {
    pub(crate) fn get(&self, id: &ContactId) -> Option<&Contact> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &ContactId) -> Option<&mut Contact> {
        self.by_id.get_mut(id)
    }

    /// Whose contact a participant carries.
    pub(crate) fn at(&self, place: &Where) -> Option<&ContactId> {
        self.by_place.get(place)
    }

    /// How many are streamed, or about to be.
    pub(crate) fn streamed(&self) -> usize {
        // Few are: the limit of streams bounds this, not the number of contacts. It is asked for at starts and by metrics.
        self.by_id.values().filter(|c| !matches!(c.status, Status::Idle)).count()
    }

    /// A contact is at a place now. At most `most` are remembered.
    pub(crate) fn enter(&mut self, id: &ContactId, place: Where, given: bool, most: usize) -> &mut Contact {
        if !self.by_id.contains_key(id) {
            self.make_room(most);
            self.by_age.insert(self.next_age, id.clone());
            let contact = Contact { age: self.next_age, ..Contact::default() };
            self.by_id.insert(id.clone(), contact);
            self.next_age += 1;
        }
        // Who carried another contact carries this one from now on, and this one was carried by nobody else.
        if let Some(other) = self.by_place.insert(place.clone(), id.clone()).filter(|other| other != id)
            && let Some(contact) = self.by_id.get_mut(&other)
        {
            contact.place = None;
        }
        let contact = self.by_id.get_mut(id).expect("it was inserted above");
        contact.given |= given;
        if contact.place.as_ref() != Some(&place) {
            if let Some(before) = contact.place.replace(place.clone()) {
                self.by_place.remove(&before);
            }
            if contact.rooms.last() != Some(&place.0) {
                contact.rooms.retain(|room| *room != place.0);
                contact.rooms.push(place.0);
                let over = contact.rooms.len().saturating_sub(MAX_ROOMS);
                contact.rooms.drain(..over);
            }
        }
        contact
    }

    fn make_room(&mut self, most: usize) {
        if self.by_id.len() < most {
            return;
        }
        let idle = |id: &ContactId| self.by_id.get(id).is_some_and(|c| matches!(c.status, Status::Idle));
        if let Some(oldest) = self.by_age.values().find(|id| idle(id)).cloned() {
            self.forget(&oldest);
            self.forgotten += 1;
        }
    }

    /// Forgets a contact.
    pub(crate) fn forget(&mut self, id: &ContactId) {
        let Some(contact) = self.by_id.remove(id) else { return };
        self.by_age.remove(&contact.age);
        if let Some(place) = contact.place
            && self.by_place.get(&place) == Some(id)
        {
            self.by_place.remove(&place);
        }
    }

    /// Those that are streamed.
    pub(crate) fn running(&self) -> Vec<Running> {
        let running = |c: &Contact| match &c.status {
            Status::Running { commands, done } => Some((commands.clone(), done.clone())),
            Status::Idle | Status::Starting => None,
        };
        self.by_id.values().filter_map(running).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_base::ParticipantId;

    fn place(room: &str, participant: &str) -> Where {
        (RoomName::new(room).unwrap(), ParticipantId::new(participant).unwrap())
    }

    fn id(text: &str) -> ContactId {
        ContactId::new(text).unwrap()
    }

    #[test]
    fn a_contact_moves_and_a_place_has_one_contact() {
        let mut contacts = Contacts::default();
        contacts.enter(&id("a"), place("r", "p"), true, 10);
        contacts.enter(&id("a"), place("s", "p"), true, 10);
        assert_eq!(contacts.at(&place("r", "p")), None);
        assert_eq!(contacts.at(&place("s", "p")), Some(&id("a")));
        let rooms: Vec<_> = contacts.get(&id("a")).unwrap().rooms.iter().map(|r| r.as_str()).collect();
        assert_eq!(rooms, ["r", "s"]);
        contacts.enter(&id("b"), place("s", "p"), true, 10);
        assert_eq!(contacts.at(&place("s", "p")), Some(&id("b")));
        assert!(contacts.get(&id("a")).unwrap().place.is_none());
        contacts.forget(&id("a"));
        assert_eq!(contacts.at(&place("s", "p")), Some(&id("b")));
    }

    #[test]
    fn the_longest_known_that_are_not_streamed_are_forgotten() {
        let mut contacts = Contacts::default();
        for i in 0..5 {
            contacts.enter(&id(&format!("c{i}")), place("r", &format!("p{i}")), true, 3);
            if i == 0 {
                contacts.get_mut(&id("c0")).unwrap().status = Status::Starting;
            }
        }
        assert_eq!(contacts.forgotten, 2);
        let known: Vec<bool> = (0..5).map(|i| contacts.get(&id(&format!("c{i}"))).is_some()).collect();
        assert_eq!(known, [true, false, false, true, true]);
        assert!(contacts.by_place.len() == 3 && contacts.by_age.len() == 3);
    }
}
