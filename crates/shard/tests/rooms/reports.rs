//! Sender reports: what a player aligns sound and picture by.

use std::time::Duration;

use antiphon_base::{MediaKind, Source};
use antiphon_sim::client::SlotLog;
use antiphon_sim::world::EPOCH_US;
use antiphon_sim::{Conditions, Profile, World};

const FPS: u32 = 20;

/// By how much the moment that reports give for each packet is later than when it was captured, in us: on the way to the server each
/// takes between 20 and 80 ms.
fn delays(world: &World, client: usize, slot: &SlotLog, begin_us: i64) -> Vec<i64> {
    let (rate, interval_us) = match slot.kind {
        MediaKind::Audio => (48_000, 20_000),
        MediaKind::Video => (90_000, 1_000_000 / i64::from(FPS)),
    };
    let reports = &world.clients[client].seals.reports;
    let reports: Vec<_> = reports.iter().filter(|r| Some(r.ssrc) == slot.ssrc).collect();
    // The first ones are of before the publisher's first report: it is the arrival that they tell.
    assert!(reports.len() >= 20, "{} reports", reports.len());
    let settled = &reports[10..];
    let unix_us = |ntp: u64| {
        let (seconds, fraction) =
            (i64::try_from(ntp >> 32).unwrap(), i64::try_from(ntp & 0xffff_ffff).unwrap());
        (seconds - 2_208_988_800) * 1_000_000 + ((fraction * 1_000_000) >> 32)
    };
    let first = settled[0];
    let told = slot.packets.iter().filter_map(|p| {
        let stamp = p.parsed?.stamp;
        let near = settled
            .iter()
            .min_by_key(|r| p.rtp_time.wrapping_sub(r.rtp_time).cast_signed().unsigned_abs())?;
        let later = i64::from(p.rtp_time.wrapping_sub(near.rtp_time).cast_signed());
        (p.rtp_time.wrapping_sub(first.rtp_time).cast_signed() > 0).then_some(())?;
        let captured_us = begin_us + i64::from(stamp.frame) * interval_us;
        Some(unix_us(near.ntp) + later * 1_000_000 / rate - captured_us)
    });
    told.collect()
}

#[test]
fn they_tell_when_media_was_captured_whatever_its_way() {
    let mut world = World::new(85);
    world.opens = true;
    let jitter = Duration::from_millis(60);
    world.conditions = Conditions { delay: Duration::from_millis(20), jitter, ..Conditions::default() };
    let anna = world.enter(Profile::new("anna"));
    world.conditions = Conditions::default();
    let ben = world.enter(Profile::new("ben").listener(1, 1));
    let begin_us = i64::try_from(EPOCH_US).unwrap() + i64::try_from(world.elapsed().as_micros()).unwrap();
    world.talk(anna, FPS);
    world.run(Duration::from_secs(40));
    let mut means = Vec::new();
    for (slot, source) in [(0, Source::Microphone), (1, Source::Camera)] {
        let slot = &world.clients[ben].slots[slot];
        let delays = delays(&world, ben, slot, begin_us);
        let (least, most) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
        let mean = delays.iter().sum::<i64>() / i64::try_from(delays.len()).unwrap();
        println!("{source:?}: {least} to {most}, {mean} us, of {}", delays.len());
        assert!(delays.len() > 300, "{}", delays.len());
        // As if all had come by the quickest way of those on which a report came: what is only late is not captured later.
        assert!(
            least >= 20_000 && most <= 65_000 && most - least < 35_000,
            "{source:?}: {least} to {most} us"
        );
        means.push(mean);
    }
    // ITU-R BT.1359: 45 ms of sound before its picture are seen.
    assert!((means[0] - means[1]).abs() < 10_000, "{means:?}");
}
