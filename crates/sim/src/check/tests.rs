//! Each checker finds the fault that it is for: what came is changed afterwards, as a broken server would have sent it.

use antiphon_base::{MediaKind, Source, VideoCodec};
use antiphon_wire::control::{ServerMessage, SlotAssignment};

use super::*;
use crate::client::Profile;
use crate::net::Place;
use crate::seeded;
use crate::stamp::Stamp;
use crate::stamp::nested::Mode;
use crate::world::Stall;

/// Ben sees and hears Anna and Cleo for some seconds, on perfect links.
fn meeting() -> (World, usize) {
    let mut world = World::new(1);
    let all = ["anna", "ben", "cleo"].map(|name| world.enter(Profile::new(name)));
    let now = world.now;
    for client in [all[0], all[2]] {
        world.clients[client].start(now, Source::Microphone, 0);
        world.clients[client].start(now, Source::Camera, 20);
    }
    world.run(Duration::from_secs(10));
    (world, all[1])
}

/// The packets of the first video slot that got something.
fn video(world: &mut World, client: usize) -> &mut Vec<Received> {
    let slots = world.clients[client].slots.iter_mut();
    let mut seen = slots.filter(|s| s.kind == MediaKind::Video && !s.packets.is_empty());
    &mut seen.next().expect("a camera is seen").packets
}

/// The place of a picture of three packets, or of its like, in the middle of what came.
fn middle(packets: &[Received]) -> usize {
    let starts = |p: &Received| p.parsed.is_some_and(|p| p.stamp.index == 0 && p.stamp.count > 1);
    let half = packets.len() / 2;
    half + packets[half..].iter().position(starts).expect("pictures have two packets now and then")
}

/// Changes what came and says what the checkers find.
fn faults(change: impl FnOnce(&mut World, usize) + Send) -> Vec<String> {
    seeded(1, || {
        let (mut world, ben) = meeting();
        world.check().assert_sound();
        change(&mut world, ben);
        world.check().faults
    })
}

#[track_caller]
fn finds(what: &str, change: impl FnOnce(&mut World, usize) + Send) {
    let faults = faults(change);
    assert!(faults.iter().any(|f| f.contains(what)), "not found: {what}; but {faults:?}");
}

fn stamp(packet: &mut Received) -> &mut Stamp {
    &mut packet.parsed.as_mut().expect("all of it is ours").stamp
}

#[test]
fn media_of_others_and_of_nobody() {
    finds("its own media", |w, ben| {
        let (number, key) = (w.clients[ben].number, w.clients[ben].key().0);
        let packets = video(w, ben);
        let at = middle(packets);
        stamp(&mut packets[at]).publisher = number;
        packets[at].csrc = Some(key);
    });
    finds("of nobody", |w, ben| stamp(&mut video(w, ben)[9]).publisher = 77);
    finds("CSRC", |w, ben| video(w, ben)[9].csrc = None);
    finds("of the other kind", |w, ben| stamp(&mut video(w, ben)[9]).source = Source::Microphone);
    finds("not a packet of ours", |w, ben| video(w, ben)[9].parsed = None);
    finds("not granted", |w, ben| w.clients[ben].profile.grants.subscribe = false);
    finds("not of the only one wanted", |w, ben| {
        w.clients[ben].profile.only = Some(antiphon_base::ParticipantId::new("dan").unwrap());
    });
}

#[test]
fn a_track_that_was_not_allotted() {
    finds("was not announced", |w, ben| {
        w.clients[ben].messages.retain(|(_, m)| !matches!(m, ServerMessage::Slots { .. }));
    });
    // On a clean link it comes beside its media, not a second later.
    finds("was not announced", |w, ben| {
        for (at, _) in
            w.clients[ben].messages.iter_mut().filter(|(_, m)| matches!(m, ServerMessage::Slots { .. }))
        {
            *at += Duration::from_secs(1);
        }
    });
    // Nobody can be named who has gone: then the slot is told to be empty. Nobody has gone here.
    finds("was not announced", |w, ben| {
        tell_otherwise(w, ben, |s| (s.participant, s.source, s.csrc, s.rtp_time) = (None, None, None, None));
    });
    finds("its first RTP time was not told", |w, ben| tell_otherwise(w, ben, |s| s.rtp_time = None));
}

/// What was said of slots was something else.
fn tell_otherwise(w: &mut World, client: usize, change: impl Fn(&mut SlotAssignment)) {
    for (_, message) in &mut w.clients[client].messages {
        if let ServerMessage::Slots { slots } = message {
            slots.iter_mut().for_each(&change);
        }
    }
}

#[test]
fn numbers_that_do_not_go_on() {
    finds("two packets of one number", |w, ben| {
        let packets = video(w, ben);
        packets[10].seq = packets[9].seq;
    });
    finds("picture id", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        for packet in &mut packets[at..] {
            let id = &mut packet.parsed.as_mut().unwrap().picture_id;
            *id = id.map(|id| (id + 1) & 0x7fff);
        }
    });
    finds("RTP time went back", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        packets[at..].iter_mut().for_each(|p| p.rtp_time = p.rtp_time.wrapping_sub(900_000));
    });
    finds("holes in the roster", |w, ben| w.clients[ben].roster_holes = 1);
}

#[test]
fn torn_pictures() {
    // The second packet is not there, and the numbers hide it.
    finds("looks whole", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets) + 1;
        packets.remove(at);
        packets[at..].iter_mut().for_each(|p| p.seq -= 1);
    });
    finds("a picture begins in its middle", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        packets.remove(at);
        packets[at..].iter_mut().for_each(|p| p.seq -= 1);
    });
    finds("a picture made of two", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        stamp(&mut packets[at + 1]).frame += 1;
    });
    finds("wrong places", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        stamp(&mut packets[at + 1]).index = 0;
    });
    finds("two picture ids", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        packets[at + 1].parsed.as_mut().unwrap().picture_id = Some(1);
    });
    finds("marker", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        packets[at].marker = true;
    });
    finds("without key frame", |w, ben| {
        video(w, ben).iter_mut().for_each(|p| stamp(p).key = false);
    });
}

/// Likewise with spatial layers in one stream.
fn layered_faults(codec: VideoCodec, change: impl FnOnce(&mut Vec<Received>) + Send) -> Vec<String> {
    seeded(1, || {
        let mut world = World::new(1);
        let profile = |name| Profile { codec, ..Profile::new(name) };
        let mode = Some(Mode { layers: 3, key_only: false });
        let anna = world.enter(Profile { mode, ..profile("anna") });
        let ben = world.enter(profile("ben"));
        let now = world.now;
        world.clients[anna].start(now, Source::Camera, 20);
        world.run(Duration::from_secs(10));
        let report = world.check();
        report.assert_sound();
        assert!(report.of(ben).frames > 150, "{:?}", report.of(ben));
        change(video(&mut world, ben));
        world.check().faults
    })
}

#[track_caller]
fn finds_layered(what: &str, codec: VideoCodec, change: impl FnOnce(&mut Vec<Received>) + Send) {
    let faults = layered_faults(codec, change);
    assert!(faults.iter().any(|f| f.contains(what)), "not found: {what}; but {faults:?}");
}

/// Takes packets out so that the numbers hide it.
fn hide(packets: &mut Vec<Received>, mut which: impl FnMut(&Stamp) -> bool) {
    let mut hidden = 0;
    packets.retain_mut(|packet| {
        packet.seq -= hidden;
        let goes = which(stamp(packet));
        hidden += u64::from(goes);
        !goes
    });
}

/// A picture of the lowest temporal layer in the middle, and the layer of all that came.
fn base(packets: &[Received]) -> u32 {
    let stamps = packets[packets.len() / 2..].iter().map(|p| p.parsed.expect("all of it is ours").stamp);
    stamps.filter(|s| s.place == Some(0) && !s.key).map(|s| s.frame).nth(30).expect("one of four")
}

#[test]
fn layers_that_are_needed_and_were_left_out() {
    use VideoCodec::{Av1, Vp9};
    for codec in [Vp9, Av1] {
        // The middle layer of one picture; the highest layer, which comes again without key frame; a picture.
        finds_layered("builds on", codec, |packets| {
            let frame = base(packets);
            hide(packets, |s| s.frame == frame && s.layer == 1);
        });
        finds_layered("builds on", codec, |packets| {
            let frame = base(packets);
            packets.iter_mut().filter(|p| p.parsed.unwrap().stamp.frame == frame).for_each(|p| {
                let s = stamp(p);
                p.marker = s.layer == 1 && s.index + 1 == s.count;
            });
            hide(packets, |s| s.frame == frame && s.layer == 2);
        });
        finds_layered("builds on", codec, |packets| {
            let frame = base(packets);
            hide(packets, |s| s.frame == frame);
        });
        // The highest layer, and nothing tells that the picture has ended.
        finds_layered("looks whole", codec, |packets| {
            let frame = base(packets);
            hide(packets, |s| s.frame == frame && s.layer == 2);
        });
        finds_layered("marker", codec, |packets| {
            let frame = base(packets);
            let ends = |s: &Stamp| s.frame == frame && s.layer == 1 && s.index + 1 == s.count;
            packets.iter_mut().filter_map(|p| ends(stamp(p)).then_some(p)).for_each(|p| p.marker = true);
        });
        finds_layered("wrong places", codec, |packets| {
            let frame = base(packets);
            let at = packets.iter().position(|p| p.parsed.unwrap().stamp.frame == frame).unwrap();
            stamp(&mut packets[at]).layer = 2;
        });
    }
}

#[test]
fn numbers_of_layers_that_do_not_go_on() {
    use VideoCodec::{Av1, Vp9};
    finds_layered("TL0PICIDX", Vp9, |packets| {
        let frame = base(packets);
        for packet in packets.iter_mut().filter(|p| p.parsed.unwrap().stamp.frame >= frame) {
            let lowest = &mut packet.parsed.as_mut().unwrap().lowest;
            *lowest = lowest.map(|l| l.wrapping_add(1));
        }
    });
    fn described(packet: &mut Received) -> &mut crate::stamp::Described {
        packet.parsed.as_mut().unwrap().described.as_mut().expect("AV1 has them")
    }
    finds_layered("its descriptor is moved", Av1, |packets| {
        let frame = base(packets);
        let later = packets.iter_mut().filter(|p| p.parsed.unwrap().stamp.frame >= frame);
        later.for_each(|p| described(p).number += 1);
    });
    finds_layered("its descriptor is moved", Av1, |packets| {
        let frame = base(packets);
        let later = packets.iter_mut().filter(|p| p.parsed.unwrap().stamp.frame >= frame);
        later.for_each(|p| described(p).template += 1);
    });
    finds_layered("frame number", Av1, |packets| {
        let half = packets.len() / 2;
        described(&mut packets[half]).number -= 100;
    });
    finds_layered("without structure", Av1, |packets| described(&mut packets[0]).extended = false);
}

#[test]
fn repetitions_of_something_else() {
    let repeats = |w: &mut World, ben: usize, change: &dyn Fn(&mut Stamp)| {
        let slots = w.clients[ben].slots.iter_mut();
        let mut heard = slots.filter(|s| s.kind == MediaKind::Audio && s.packets.len() > 1);
        let packets = &mut heard.next().expect("a microphone is heard").packets;
        let mut before = packets[0].parsed.expect("all of it is ours");
        change(&mut before.stamp);
        packets[1].repeated.push(before);
    };
    assert!(faults(|w, ben| repeats(w, ben, &|_| ())).is_empty(), "the packet before it");
    finds("repeats", |w, ben| repeats(w, ben, &|s| s.publisher += 1));
    finds("repeats", |w, ben| repeats(w, ben, &|s| s.source = Source::ScreenAudio));
    finds("repeats", |w, ben| repeats(w, ben, &|s| s.frame += 1));
}

fn lose_one(w: &mut World, ben: usize) -> Received {
    let packets = video(w, ben);
    let at = middle(packets);
    packets.remove(at)
}

/// The place of a packet in the stream of the slot that it came in.
fn place(w: &mut World, ben: usize, packet: &Received) -> Place {
    let slots = w.clients[ben].slots.iter();
    let mut seen = slots.filter(|s| s.kind == MediaKind::Video && !s.packets.is_empty());
    let ssrc = seen.next().and_then(|s| s.ssrc).expect("a camera is seen");
    Place { ssrc, seq: u16::try_from(packet.seq & 0xffff).unwrap() }
}

/// The client's link to the server, or from it.
fn link(w: &mut World, client: usize, up: bool) -> &mut Link {
    let address = w.clients[client].address;
    let path = w.network.paths.get_mut(&address).unwrap();
    if up { &mut path.up } else { &mut path.down }
}

#[test]
fn gaps_without_a_reason() {
    finds("a gap without a reason", |w, ben| drop(lose_one(w, ben)));
    // A whole frame of the source, hidden in the numbers.
    finds("a gap without a reason", |w, ben| {
        let packets = video(w, ben);
        let at = middle(packets);
        packets[at..].iter_mut().for_each(|p| stamp(p).frame += 1);
    });
    // It was lost on the link: no fault.
    let explained = faults(|w, ben| {
        let lost = lose_one(w, ben);
        let place = place(w, ben, &lost);
        link(w, ben, false).harmed.push((lost.at, place));
    });
    assert!(explained.is_empty(), "{explained:?}");
    // So was the shard of the one or the other; but not one on which neither is, and not long before.
    let stall = |w: &mut World, ben: usize, shard: usize, ago: Duration| {
        let packets = video(w, ben);
        let when = packets[middle(packets)].at - ago;
        lose_one(w, ben);
        w.stalls.push(Stall { shard, from: when, to: Some(when + Duration::from_millis(10)) });
    };
    let explained = faults(|w, ben| stall(w, ben, 0, Duration::ZERO));
    assert!(explained.is_empty(), "{explained:?}");
    finds("a gap without a reason", |w, ben| stall(w, ben, 1, Duration::ZERO));
    finds("a gap without a reason", |w, ben| stall(w, ben, 0, Duration::from_secs(4)));
    // A queue stood on it: that explains a gap before a key frame, and no other.
    let full = |w: &mut World, ben: usize, key: bool| {
        let packets = video(w, ben);
        let at = middle(packets);
        let when = packets[at].at;
        let frame = stamp(&mut packets[at]).frame;
        packets.retain_mut(|p| stamp(p).frame != frame);
        packets.iter_mut().filter(|p| key && p.parsed.is_some_and(|p| p.stamp.frame == frame + 1)).for_each(
            |p| {
                stamp(p).key = true;
            },
        );
        let address = w.clients[ben].address;
        w.network.paths.get_mut(&address).unwrap().down.stood.push(when);
    };
    let explained = faults(|w, ben| full(w, ben, true));
    assert!(explained.is_empty(), "{explained:?}");
    finds("a gap without a reason", |w, ben| full(w, ben, false));
}

/// On a lossy link only what is missing explains a gap: not another number, stream or publisher, and not another time.
#[test]
fn gaps_whose_reason_is_elsewhere() {
    let lossy = |w: &mut World, ben: usize, change: &dyn Fn(&mut Place), ago: Duration| {
        let lost = lose_one(w, ben);
        let mut place = place(w, ben, &lost);
        change(&mut place);
        let down = link(w, ben, false);
        down.harm.push(lost.at);
        down.harmed.push((lost.at - ago, place));
    };
    assert!(
        faults(|w, ben| lossy(w, ben, &|_| (), Duration::from_secs(1))).is_empty(),
        "what is beside it came late"
    );
    finds("a gap without a reason", |w, ben| lossy(w, ben, &|p| p.seq += 1, Duration::ZERO));
    finds("a gap without a reason", |w, ben| lossy(w, ben, &|p| p.seq -= 1, Duration::ZERO));
    finds("a gap without a reason", |w, ben| lossy(w, ben, &|p| p.ssrc ^= 1, Duration::ZERO));
    finds("a gap without a reason", |w, ben| lossy(w, ben, &|_| (), Duration::from_secs(60)));
    // One of two that are missing.
    finds("a gap without a reason", |w, ben| {
        let (first, second) = (lose_one(w, ben), lose_one(w, ben));
        assert_ne!(first.seq, second.seq);
        let place = place(w, ben, &first);
        link(w, ben, false).harmed.push((first.at, place));
    });
    // Likewise on the way to the server.
    let harm = |w: &mut World, ben: usize, of: usize, frames: u32| {
        let lost = lose_one(w, ben);
        let stamp = lost.parsed.unwrap().stamp;
        let publisher = usize::from(stamp.publisher);
        let sender = w.clients[publisher].senders.iter().find(|s| s.source == stamp.source).unwrap();
        let (at, place) = sender.sent(stamp.frame + frames).expect("it was sent");
        link(w, (publisher + of) % 4, true).harmed.push((at, place));
    };
    let explained = faults(|w, ben| harm(w, ben, 0, 0));
    assert!(explained.is_empty(), "{explained:?}");
    finds("a gap without a reason", |w, ben| harm(w, ben, 2, 0));
    finds("a gap without a reason", |w, ben| harm(w, ben, 0, 3));
    // Who has no control channel is not told of changes, and so has nothing to explain a gap by.
    finds("a gap without a reason", |w, ben| {
        w.clients[ben].control_open = None;
        drop(lose_one(w, ben));
    });
}

/// After ten seconds in which nothing is wrong, nothing comes any more; `also`: what else happened.
fn silence(also: impl FnOnce(&mut World, usize) + Send) -> Vec<String> {
    seeded(1, || {
        let (mut world, ben) = meeting();
        world.run(Duration::from_secs(15));
        world.check().assert_sound();
        let end = world.base + Duration::from_secs(10);
        video(&mut world, ben).retain(|p| p.at < end);
        also(&mut world, ben);
        world.check().faults
    })
}

#[test]
fn slots_that_fall_silent() {
    let found = |faults: &[String]| faults.iter().any(|f| f.contains("nothing of"));
    assert!(found(&silence(|_, _| {})));
    // Not where it has a reason that can be seen: a bad link, or that the slot was told to be empty.
    let late = |w: &World| w.base + Duration::from_secs(12);
    assert!(!found(&silence(|w, ben| {
        let at = late(w);
        link(w, ben, false).harm.push(at);
    })));
    assert!(!found(&silence(|w, ben| {
        let (at, client) = (late(w), &mut w.clients[ben]);
        let slots = client.slots.iter().map(|s| SlotAssignment {
            mid: s.mid.clone(),
            participant: None,
            source: None,
            csrc: None,
            rtp_time: None,
        });
        client.messages.push((at, ServerMessage::Slots { slots: slots.collect() }));
    })));
}

/// Before there is a control channel a publisher came back on another connection, in the midst of a picture.
#[test]
fn gaps_that_are_told_later() {
    let returns = |w: &mut World, ben: usize, other: bool, told: Option<u32>| {
        let packets = video(w, ben);
        let at = middle(packets);
        let (when, time, csrc) = (packets[at].at, packets[at].rtp_time, packets[at].csrc);
        let old = stamp(&mut packets[at]).publisher;
        lose_one(w, ben);
        let number = if other { 9 } else { old };
        video(w, ben)[at..].iter_mut().for_each(|p| stamp(p).publisher = number);
        let publisher = w.publishers[&old].clone();
        w.publishers.insert(number, publisher);
        let open = when + Duration::from_secs(1);
        let ben = &mut w.clients[ben];
        let slot = ben.slots.iter().find(|s| s.kind == MediaKind::Video && !s.packets.is_empty()).unwrap();
        let rtp_time = told.map(|later| time.wrapping_add(later));
        let (mid, source) = (slot.mid.clone(), Some(Source::Camera));
        let participant = Some(w.publishers[&old].id.clone());
        let slots = vec![SlotAssignment { mid, participant, source, csrc, rtp_time }];
        ben.control_open = Some(open);
        ben.messages = vec![(open, ServerMessage::Slots { slots })];
    };
    let without = |other: bool, told: Option<u32>| {
        let faults = faults(|w, ben| returns(w, ben, other, told));
        faults.iter().any(|fault| fault.contains("a gap without a reason"))
    };
    assert!(!without(true, Some(0)));
    // It is another picture with which it began, or none; or the connection is the same.
    assert!(without(true, Some(90)) && without(true, None) && without(false, Some(0)));
}

#[test]
fn a_rate_that_does_not_come_back() {
    seeded(2, || {
        let (mut world, ben) = meeting();
        let from = world.now;
        let to = from + Duration::from_secs(1);
        world.run(Duration::from_secs(1) + recovery::WITHIN);
        assert_eq!(recovery::check(&world, ben, from, to), None);
        assert_eq!(recovery::unaffected(&world, ben, from, to), None);
        let mut keep = 0;
        for slot in &mut world.clients[ben].slots {
            slot.packets.retain(|p| {
                keep += 1;
                p.at < from || keep % 3 == 0
            });
        }
        assert!(recovery::check(&world, ben, from, to).is_some());
        assert!(recovery::unaffected(&world, ben, from, to).is_some());
    });
}

#[test]
fn connections_that_stay() {
    seeded(3, || {
        let (mut world, _) = meeting();
        assert!(world.excess().is_empty());
        // The server keeps a connection for 30 s of silence by default: longer than the checker waits.
        assert!(world.leftovers().iter().any(|f| f.contains("all have gone")));
    });
}
