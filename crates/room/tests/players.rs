//! Players choose layers; publishers without control channel are bounded by what is watched.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod call;

use antiphon_base::{ParticipantKey, Source};
use antiphon_room::{Bandwidth, Config, Grants, Join, LayerRate, Output, SelectError, SlotId};
use antiphon_wire::control::{ParticipantKind, Policy};
use antiphon_wire::whep::Selection;

use call::{Call, OPUS, VP8, browser, feed, id, plan};

fn player(name: &str, only: Option<&str>) -> Join {
    Join {
        kind: ParticipantKind::Whep,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        slots: plan(1, 1, false),
        hidden: true,
        only: only.map(id),
        resume_token: String::new(),
        control: false,
        policy: Policy::default(),
        ..browser(name)
    }
}

/// An encoder that takes bounds, with these layers.
fn encoder(call: &mut Call, layers: u8) -> ParticipantKey {
    let ada = call.join(Join {
        kind: ParticipantKind::Whip,
        slots: plan(0, 0, false),
        resume_token: String::new(),
        control: false,
        ..browser("ada")
    });
    call.room.may_bound(call.now, ada);
    let names = ["q", "h", "f"].map(str::to_owned);
    call.room.name_layers(call.now, ada, Source::Camera, names.into());
    for layer in 0..layers {
        call.seen(ada, Source::Camera, layer, VP8);
    }
    ada
}

/// As publishers' shards say, a second of everything.
fn second(call: &mut Call, ada: ParticipantKey, bps: &[u64]) {
    for (layer, bps) in (0..).zip(bps) {
        let all = LayerRate { bps: [bps / 2, *bps, *bps, *bps], temporal_layers: 2, frames: 30 };
        call.room.layer_rate(call.now, feed(ada, Source::Camera, layer), all);
    }
    for _ in 0..4 {
        for source in [Source::Microphone, Source::Camera] {
            call.room.activity(call.now, feed(ada, source, 0).track);
        }
        call.drain();
        call.pass(250);
    }
}

fn select(call: &mut Call, key: ParticipantKey, json: &str) -> Result<(), SelectError> {
    let result = call.room.select(call.now, key, None, &Selection::parse(json.as_bytes()).unwrap());
    call.drain();
    result
}

fn shown(call: &Call, key: ParticipantKey) -> (Option<u8>, Option<u8>) {
    let slot = (key, SlotId(1));
    (call.flowing.get(&slot).map(|feed| feed.layer), call.temporal.get(&slot).copied())
}

/// What was said of it, in order.
fn bounds(call: &Call, ada: ParticipantKey) -> Vec<Option<u64>> {
    let of = |output: &Output| match output {
        Output::Bound { publisher, bps } if *publisher == ada => Some(*bps),
        _ => None,
    };
    call.log.iter().filter_map(of).collect()
}

#[test]
fn a_choice_is_a_ceiling_for_one_player() {
    let mut call = Call::new(Config::default());
    let ada = encoder(&mut call, 3);
    let (one, two) = (call.join(player("one", Some("ada"))), call.join(player("two", None)));
    second(&mut call, ada, &[150_000, 500_000, 1_500_000]);
    for (json, layer, temporal) in [
        (r#"{"encodingId":"q"}"#, 0, None),
        (r#"{"encodingId":"h","temporalLayerId":0}"#, 1, Some(0)),
        (r#"{"maxTemporalLayerId":0}"#, 2, Some(0)),
        (r#"{"maxHeight":400}"#, 1, None),
        (r#"{"encodingId":"f","maxHeight":10}"#, 0, None),
        ("{}", 2, None),
    ] {
        assert_eq!(select(&mut call, one, json), Ok(()), "{json}");
        assert_eq!(shown(&call, one), (Some(layer), temporal), "{json}");
        assert_eq!(shown(&call, two), (Some(2), None), "{json}");
    }
    // Bandwidth has the last word, whatever was chosen.
    assert_eq!(select(&mut call, one, r#"{"encodingId":"f"}"#), Ok(()));
    call.room.bandwidth(call.now, one, Bandwidth::Measured(700_000));
    call.drain();
    assert_eq!(shown(&call, one), (Some(1), None));
    // One that is not sent any more: the nearest that is.
    assert_eq!(select(&mut call, two, r#"{"encodingId":"q"}"#), Ok(()));
    call.room.layer_gone(call.now, feed(ada, Source::Camera, 0));
    call.drain();
    assert_eq!(shown(&call, two), (Some(1), None));
    let all = select(&mut call, ada, "{}");
    assert_eq!(all, Err(SelectError::UnknownMedia), "it has no slots");
}

#[test]
fn a_choice_holds_for_whoever_is_shown_and_names_are_each_publishers_own() {
    let mut call = Call::new(Config::default());
    let ada = encoder(&mut call, 3);
    let one = call.join(player("one", None));
    second(&mut call, ada, &[150_000, 500_000, 1_500_000]);
    assert_eq!(select(&mut call, one, r#"{"encodingId":"q"}"#), Ok(()));
    let ben = call.join(browser("ben"));
    call.room.leave(call.now, ada, antiphon_wire::control::LeaveReason::Left);
    for layer in 0..2 {
        call.seen(ben, Source::Camera, layer, VP8);
    }
    assert_eq!(shown(&call, one), (Some(1), None), "nothing of ben's is called so");
    call.room.name_layers(call.now, ben, Source::Camera, vec!["q".into(), "f".into()]);
    call.drain();
    assert_eq!(shown(&call, one), (Some(0), None));
}

#[test]
fn spatial_layers_of_one_stream_are_chosen_by_number() {
    let mut call = Call::new(Config::default());
    let ada = encoder(&mut call, 0);
    call.room.name_layers(call.now, ada, Source::Camera, vec![]);
    call.seen(ada, Source::Camera, 0, VP8);
    call.room.spatial_seen(call.now, feed(ada, Source::Camera, 0).track, &[Some(180), Some(360), Some(720)]);
    (0..3).for_each(|layer| call.seen(ada, Source::Camera, layer, VP8));
    let one = call.join(player("one", Some("ada")));
    for (json, layer) in [
        (r#"{"spatialLayerId":1}"#, 1),
        (r#"{"spatialLayerId":2,"maxSpatialLayerId":0}"#, 0),
        (r#"{"maxSpatialLayerId":7}"#, 2),
    ] {
        assert_eq!(select(&mut call, one, json), Ok(()), "{json}");
        assert_eq!(shown(&call, one).0, Some(layer), "{json}");
    }
    assert_eq!(select(&mut call, one, r#"{"spatialLayerId":3}"#), Err(SelectError::UnknownLayer));
    assert_eq!(select(&mut call, one, r#"{"encodingId":"q"}"#), Err(SelectError::UnknownEncoding));
    let layers = &call.room.playing(one).unwrap().media[0].1;
    let ids: Vec<_> = layers.layers.iter().map(|l| (l.spatial_layer_id, l.height)).collect();
    assert_eq!(ids, [(2, Some(720)), (1, Some(360)), (0, Some(180))]);
    assert_eq!((layers.active.len(), layers.layers[0].encoding_id.as_deref()), (1, None));
}

#[test]
fn a_publisher_is_bounded_by_the_highest_layer_that_is_watched() {
    let mut call = Call::new(Config::default());
    let ada = encoder(&mut call, 3);
    call.seen(ada, Source::Microphone, 0, OPUS);
    let rates = [150_000, 500_000, 4_000_000];
    for _ in 0..6 {
        second(&mut call, ada, &rates);
    }
    let [Some(floor)] = bounds(&call, ada)[..] else { panic!("{:?}", bounds(&call, ada)) };
    assert_eq!(floor, 250_000, "a picture now and then, and a voice");
    let one = call.join(player("one", Some("ada")));
    call.pass(100);
    assert_eq!(bounds(&call, ada), [Some(floor), None], "at once, and without limit");
    assert_eq!(select(&mut call, one, r#"{"encodingId":"h"}"#), Ok(()));
    for _ in 0..6 {
        second(&mut call, ada, &rates);
    }
    let Some(Some(middle)) = bounds(&call, ada).last().copied() else { panic!() };
    assert_eq!(middle, floor + (150_000 + 500_000) * 3 / 2, "what both take, with headroom");
    // It takes more: the bound goes ahead of it, and does not come back when it takes less.
    second(&mut call, ada, &[150_000, 900_000, 0]);
    second(&mut call, ada, &[10_000, 20_000, 0]);
    let Some(Some(more)) = bounds(&call, ada).last().copied() else { panic!() };
    assert_eq!(more, floor + (150_000 + 900_000) * 3 / 2);
    // Who is told by message is told nothing else.
    assert_eq!(call.clients.get(&ada).map_or(0, |c| c.told.len()), 0);
    assert!(call.log.iter().all(|o| !matches!(o, Output::Bound { publisher, .. } if *publisher != ada)));
}

#[test]
fn who_does_not_take_bounds_is_told_none() {
    let mut call = Call::new(Config::default());
    let ben = call.join(browser("ben"));
    call.room.may_bound(call.now, ben);
    call.send(ben);
    call.pass(10_000);
    assert!(call.log.iter().all(|o| !matches!(o, Output::Bound { .. })), "it has a control channel");
}
