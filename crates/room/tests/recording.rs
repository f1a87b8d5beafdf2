//! Recording as the room sees it: nothing is tapped before it was announced and acknowledged, whoever comes, goes, or says no.

mod call;

use antiphon_base::{ParticipantKey, Source};
use antiphon_room::{
    Config, Join, Output, RecordingCommand, RecordingEnd, RecordingView, SlotPlan, TapRequest,
};
use antiphon_wire::control::{LeaveReason, ParticipantKind, RecordingState, Request, ServerMessage};
use call::{Call, OPUS, browser, feed, track};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(10);

fn recorder() -> Join {
    Join {
        kind: ParticipantKind::Bot,
        hidden: true,
        slots: SlotPlan::default(),
        resume_token: String::new(),
        decodes: vec![],
        ..browser("rec-1")
    }
}

struct Room {
    call: Call,
    recorder: ParticipantKey,
}

impl Room {
    fn with(names: &[&str]) -> (Self, Vec<ParticipantKey>) {
        let mut call = Call::new(Config::default());
        let keys: Vec<_> = names.iter().map(|name| call.join(browser(name))).collect();
        for key in &keys {
            call.seen(*key, Source::Microphone, 0, OPUS);
        }
        let recorder = call.join(recorder());
        let mut room = Self { call, recorder };
        room.tap(&keys);
        (room, keys)
    }

    fn tap(&mut self, keys: &[ParticipantKey]) {
        let request = |key| TapRequest { track: track(key, Source::Microphone), max_height: None };
        self.call.room.set_taps(self.call.now, self.recorder, keys.iter().copied().map(request).collect());
        self.call.drain();
    }

    fn say(&mut self, command: RecordingCommand) {
        self.call.room.record(self.call.now, self.recorder, command);
        self.call.drain();
    }

    fn announce(&mut self, consent: bool) {
        self.say(RecordingCommand::Announce { id: "one".into(), consent, within: WITHIN });
    }

    fn acknowledge(&mut self, key: ParticipantKey, consent: Option<bool>) {
        self.call.request(key, Request::AcknowledgeRecording { recording: "one".into(), consent });
    }

    fn leave(&mut self, key: ParticipantKey) {
        self.call.room.leave(self.call.now, key, LeaveReason::Left);
        self.call.drain();
    }

    fn tapped(&self, key: ParticipantKey) -> bool {
        self.call.taps.contains(&(self.recorder, feed(key, Source::Microphone, 0)))
    }

    fn view(&self) -> RecordingView {
        let views = self.call.log.iter().rev();
        let mut views = views.filter_map(|o| match o {
            Output::Recording { view, .. } => Some(view.clone()),
            _ => None,
        });
        views.next().expect("the recorder was told")
    }

    fn waits_for(&self) -> Vec<String> {
        self.view()
            .waiting
            .iter()
            .map(|w| format!("{}{}", w.participant, ["", " refused"][usize::from(w.refused)]))
            .collect()
    }

    /// What somebody was told of the recording, in order.
    fn told(&self, key: ParticipantKey) -> Vec<RecordingState> {
        let messages = self.call.clients.get(&key).into_iter().flat_map(|c| &c.messages);
        messages
            .filter_map(|m| match m {
                ServerMessage::Recording { state, .. } => Some(*state),
                _ => None,
            })
            .collect()
    }
}

use RecordingState::{Announcing, Paused, Recording, Stopped};

#[test]
fn nothing_is_tapped_before_all_have_acknowledged() {
    let (mut room, keys) = Room::with(&["ada", "ben"]);
    let (ada, ben) = (keys[0], keys[1]);
    assert!(room.tapped(ada), "a tap of somebody who records nothing");
    room.announce(false);
    assert!(!room.tapped(ada) && !room.tapped(ben));
    assert_eq!(room.waits_for(), ["ada", "ben"]);
    room.acknowledge(ada, None);
    assert!(!room.tapped(ada), "ben was not told yet");
    room.acknowledge(ben, None);
    assert!(room.tapped(ada) && room.tapped(ben));
    assert_eq!((room.view().state, room.told(ben)), (Recording, vec![Announcing, Recording]));
    // The message that it records comes before the tap opens.
    let at = |found: &dyn Fn(&Output) -> bool| room.call.log.iter().rposition(found).unwrap();
    let said =
        at(&|o| matches!(o, Output::Send { message: ServerMessage::Recording { state: Recording, .. }, .. }));
    assert!(said < at(&|o| matches!(o, Output::Tap { on: true, .. })));
}

#[test]
fn pause_shuts_the_taps_and_resume_opens_them() {
    let (mut room, keys) = Room::with(&["ada"]);
    room.announce(false);
    room.say(RecordingCommand::Pause);
    assert_eq!(room.view().state, Announcing, "nothing to pause yet");
    room.acknowledge(keys[0], None);
    room.say(RecordingCommand::Pause);
    assert!(!room.tapped(keys[0]));
    room.say(RecordingCommand::Resume);
    assert!(room.tapped(keys[0]));
    room.say(RecordingCommand::Stop);
    assert!(!room.tapped(keys[0]));
    room.say(RecordingCommand::Resume);
    assert!(!room.tapped(keys[0]), "what has stopped does not go on");
    assert_eq!(room.told(keys[0]), [Announcing, Recording, Paused, Recording, Stopped]);
    assert_eq!(room.view().end, Some(RecordingEnd::Stopped));
}

#[test]
fn who_comes_later_is_told_and_kept_when_it_has_acknowledged() {
    let (mut room, keys) = Room::with(&["ada"]);
    room.announce(false);
    room.acknowledge(keys[0], None);
    let ben = room.call.join(browser("ben"));
    room.call.seen(ben, Source::Microphone, 0, OPUS);
    room.tap(&[keys[0], ben]);
    assert!(room.tapped(keys[0]) && !room.tapped(ben));
    assert_eq!((room.told(ben), room.waits_for()), (vec![Recording], vec!["ben".to_owned()]));
    room.acknowledge(ben, None);
    assert!(room.tapped(ben));
    // Somebody else under the same name has not been told.
    let other = room.call.join(browser("ben"));
    room.call.seen(other, Source::Microphone, 0, OPUS);
    room.tap(&[keys[0], other]);
    assert!(!room.tapped(other));
}

#[test]
fn consent_is_asked_of_each_and_can_be_taken_back() {
    let (mut room, keys) = Room::with(&["ada", "ben"]);
    let whip =
        Join { kind: ParticipantKind::Whip, control: false, slots: SlotPlan::default(), ..browser("cam") };
    let whip = room.call.join(whip);
    room.call.seen(whip, Source::Microphone, 0, OPUS);
    room.tap(&[keys[0], keys[1], whip]);
    room.announce(true);
    room.acknowledge(keys[0], Some(true));
    room.acknowledge(keys[1], None);
    assert_eq!(room.view().state, Announcing, "seen is not agreed");
    room.acknowledge(keys[1], Some(false));
    assert_eq!(room.waits_for(), ["ben refused", "cam"]);
    room.acknowledge(keys[1], Some(true));
    assert!(room.tapped(keys[0]) && room.tapped(keys[1]));
    assert!(!room.tapped(whip), "an encoder cannot agree");
    room.acknowledge(keys[0], Some(false));
    assert!(!room.tapped(keys[0]) && room.tapped(keys[1]));
    assert_eq!(room.view().state, Recording);
}

#[test]
fn without_consent_an_encoder_counts_as_told() {
    let (mut room, keys) = Room::with(&["ada"]);
    let whip =
        Join { kind: ParticipantKind::Whip, control: false, slots: SlotPlan::default(), ..browser("cam") };
    let whip = room.call.join(whip);
    room.call.seen(whip, Source::Microphone, 0, OPUS);
    room.tap(&[keys[0], whip]);
    room.announce(false);
    assert_eq!(room.waits_for(), ["ada"]);
    room.acknowledge(keys[0], None);
    assert!(room.tapped(whip));
}

#[test]
fn who_never_answers_ends_it_and_who_leaves_does_not_hold_it_up() {
    let (mut room, keys) = Room::with(&["ada", "ben"]);
    room.announce(false);
    room.acknowledge(keys[0], None);
    room.call.pass(9_000);
    assert_eq!(room.view().state, Announcing);
    room.call.pass(1_100);
    assert_eq!(
        (room.view().end, room.waits_for()),
        (Some(RecordingEnd::NotAcknowledged), vec!["ben".to_owned()])
    );
    assert!(!room.tapped(keys[0]));
    assert_eq!(room.told(keys[0]), [Announcing, Stopped]);

    let (mut room, keys) = Room::with(&["ada", "ben"]);
    room.announce(false);
    room.acknowledge(keys[0], None);
    room.leave(keys[1]);
    assert!(room.tapped(keys[0]), "nobody is left who was not told");
    room.call.pass(60_000);
    assert_eq!(room.view().state, Recording);
}

#[test]
fn a_lost_connection_holds_nobody_up_and_is_told_when_it_is_back() {
    let (mut room, keys) = Room::with(&["ada", "ben"]);
    room.call.room.disconnected(room.call.now, keys[1]);
    room.call.drain();
    room.announce(false);
    room.acknowledge(keys[0], None);
    assert!(room.tapped(keys[0]) && !room.tapped(keys[1]));
    assert_eq!(room.told(keys[1]), []);
    room.call.resume("token-ben", call::plan(3, 4, true)).unwrap();
    room.call.room.connected(room.call.now, keys[1], 0);
    room.call.drain();
    assert_eq!(room.told(keys[1]), [Recording]);
    room.call.seen(keys[1], Source::Microphone, 0, OPUS);
    room.acknowledge(keys[1], None);
    assert!(room.tapped(keys[1]));
}

#[test]
fn a_recorder_that_goes_ends_its_recording_and_a_second_is_refused() {
    let (mut room, keys) = Room::with(&["ada"]);
    room.announce(false);
    let second = room.call.join(Join { id: call::id("rec-2"), ..recorder() });
    let announce = RecordingCommand::Announce { id: "two".into(), consent: false, within: WITHIN };
    room.call.room.record(room.call.now, second, announce.clone());
    room.call.drain();
    assert_eq!(room.view().end, Some(RecordingEnd::AlreadyRunning));
    room.leave(room.recorder);
    assert_eq!(room.told(keys[0]), [Announcing, Stopped]);
    room.acknowledge(keys[0], None);
    // Nobody who is seen can record.
    room.call.room.record(room.call.now, keys[0], announce.clone());
    room.call.drain();
    assert_eq!(room.told(keys[0]), [Announcing, Stopped]);
    room.call.room.record(room.call.now, second, announce);
    room.call.drain();
    assert_eq!(room.view().state, Announcing);
}
