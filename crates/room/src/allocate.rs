//! The bandwidth of one subscriber is given out: who is served at all, and how high each may stand on its ladder.

use std::time::{Duration, Instant};

use antiphon_base::TrackKey;

use crate::Bandwidth;
use crate::assign::Tier;
use crate::ladder::Point;
use crate::layers::Choice;
use crate::shed::Shed;

/// A point that is routed is kept while the estimate is this share of what it costs, in percent: two decreases of
/// congestion control (85 % each), as a key frame on a line just wide enough brings them about, cost no layer; a line
/// that has really narrowed brings about the third within a second. To raise takes all of the cost.
const KEEP_PERCENT: u64 = 70;
/// Between two steps up of one subscriber: what a step does to the line is seen by then.
const RAISE_INTERVAL: Duration = Duration::from_millis(500);
/// No step up for so long after one down ...
const HOLD_DOWN: Duration = Duration::from_secs(1);
/// ... doubled with each step up that had to be taken back within [`REGRET`], up to this: after an impairment four
/// fifths of the rate are to be back within ten seconds.
const MAX_HOLD_DOWN: Duration = Duration::from_secs(4);
const REGRET: Duration = Duration::from_secs(4);
/// With less than this a picture is worse than none: what a publisher is told to squeeze itself into at the least.
const MIN_VIDEO_BPS: u64 = 60_000;
/// Screens are served with this much less of what they take than others, in percent: what they show changes in bursts.
const SCREEN_PERCENT: u64 = 30;

/// When a subscriber's videos went up and down.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    raised: Option<Instant>,
    /// No step up until then.
    until: Option<Instant>,
    hold: Duration,
    pub(crate) shed: Shed,
}

impl Pace {
    fn lowered(&mut self, now: Instant) {
        let regret = self.raised.take().is_some_and(|at| now.saturating_duration_since(at) < REGRET);
        self.hold = if regret { (self.hold * 2).clamp(HOLD_DOWN, MAX_HOLD_DOWN) } else { HOLD_DOWN };
        self.until = Some(now + self.hold);
    }
}

/// One video, in order of priority.
pub(crate) struct Video {
    pub(crate) slot: usize,
    pub(crate) track: TrackKey,
    pub(crate) tier: Tier,
    pub(crate) ladder: Vec<Point>,
    /// Where on the ladder it stands now; `None`: the slot shows something else.
    pub(crate) present: Option<usize>,
    /// Nobody else watches it, and its publisher will send no more than it is told to.
    pub(crate) elastic: bool,
    /// It was told to send less than this, which it would send if it were not.
    pub(crate) squeezed: Option<u64>,
    pub(crate) served: bool,
    pub(crate) at: usize,
}

impl Video {
    fn lowest(&self) -> u64 {
        let bps = self.ladder.first().map_or(0, |p| p.bps);
        if self.elastic { bps.min(MIN_VIDEO_BPS) } else { bps }
    }

    /// The share of what it takes that must be there for it to be served. While something is shed, what is not served must
    /// fit whole, or it would push out what is.
    fn percent(&self, percent: u64, limited: bool) -> u64 {
        let kept = percent > KEEP_PERCENT || !limited || self.present.is_some();
        let percent = if kept { percent } else { 100 };
        if self.tier == Tier::Screen {
            percent.saturating_sub(SCREEN_PERCENT).max(KEEP_PERCENT)
        } else {
            percent
        }
    }
}

/// The bandwidth is given out.
pub(crate) struct Allocation<'a> {
    bps: u64,
    is_measured: bool,
    audio: u64,
    spent: u64,
    now: Instant,
    choice: &'a mut Choice,
}

impl<'a> Allocation<'a> {
    /// Voices take `audio` bits per second of it.
    pub(crate) fn new(bandwidth: Bandwidth, audio: u64, now: Instant, choice: &'a mut Choice) -> Self {
        Self { bps: bandwidth.bps(), is_measured: bandwidth.is_measured(), audio, spent: audio, now, choice }
    }

    fn fits(&self, more: u64, percent: u64) -> bool {
        (self.spent + more).saturating_mul(percent) <= self.bps.saturating_mul(100)
    }

    pub(crate) fn run(&mut self, videos: &mut [Video]) {
        self.serve(videos);
        let base = self.spent;
        let free = self.choice.pace.until.is_none_or(|at| at <= self.now);
        let raised = self.raise_all(videos, KEEP_PERCENT, free);
        let is_lowered = |v: &Video| v.present.is_some_and(|p| !v.served || p > v.at);
        if videos.iter().any(is_lowered) {
            // Down goes to what fits, or the line stays too full.
            self.spent = base;
            videos.iter_mut().for_each(|v| v.at = 0);
            self.raise_all(videos, 100, false);
            self.choice.pace.lowered(self.now);
        } else if raised {
            self.choice.pace.raised = Some(self.now);
            self.choice.pace.until = Some(self.now + RAISE_INTERVAL);
        }
        self.choice.tight = videos.iter().any(|v| !v.served || v.at + 1 < v.ladder.len());
        let pause = self.choice.pace.until.filter(|at| self.choice.tight && *at > self.now);
        self.choice.wake = [pause, self.choice.pace.shed.wake()].into_iter().flatten().min();
    }

    /// Who is served at all, at the lowest.
    fn serve(&mut self, videos: &mut [Video]) {
        let mut shed = if self.is_measured { self.choice.pace.shed } else { Shed::default() };
        let (bps, audio, limited) = (self.bps, self.audio, shed.limit.is_some());
        let fitting = |percent: u64| {
            let mut spent = audio;
            let fits = |v: &&Video| {
                let more = spent + v.lowest();
                let fits = more.saturating_mul(v.percent(percent, limited)) <= bps.saturating_mul(100);
                if fits {
                    spent = more;
                }
                fits
            };
            videos.iter().filter(fits).count()
        };
        let sheds = self.is_measured && shed.update(self.now, videos.len(), KEEP_PERCENT, fitting);
        let percent = if sheds { 100 } else { KEEP_PERCENT };
        self.choice.pace.shed = shed;
        let mut free = shed.limit.unwrap_or(videos.len());
        for video in &mut *videos {
            let fits = self.fits(video.lowest(), video.percent(percent, limited));
            video.served = free > 0 && (!self.is_measured || shed.waits() || fits);
            if video.served {
                free -= 1;
                self.spent += video.lowest();
            }
        }
        self.squeeze(videos);
    }

    /// What is left after the lowest of all goes to those that can do with less than they take, the first before the
    /// others; they are told what that is.
    fn squeeze(&mut self, videos: &[Video]) {
        for video in videos.iter().filter(|v| v.served) {
            let bps = video.ladder[0].bps;
            let left = self.bps.saturating_sub(self.spent) + video.lowest();
            if video.squeezed.map_or(bps, |full| full.max(bps)) > left {
                self.choice.targets[video.slot].squeezed = Some(left.max(MIN_VIDEO_BPS));
            }
            if video.elastic {
                self.spent += bps.min(left).saturating_sub(video.lowest());
            }
        }
    }

    /// Steps up as far as they fit. True: something is more than its slot shows now, of which there is one at most, and
    /// none if not `free`.
    fn raise_all(&mut self, videos: &mut [Video], keep: u64, free: bool) -> bool {
        let mut raised = false;
        for tier in [Tier::Screen, Tier::Leading, Tier::Other] {
            let most = videos.iter().filter(|v| v.tier == tier).map(|v| v.ladder.len()).max().unwrap_or(0);
            for step in 1..most {
                let may =
                    |v: &&mut Video| v.served && v.tier == tier && v.at + 1 == step && step < v.ladder.len();
                for video in videos.iter_mut().filter(may) {
                    raised |= self.raise(video, step, keep, free && !raised);
                }
            }
        }
        raised
    }

    /// One step up, if it fits. True: it is more than the slot shows now.
    fn raise(&mut self, video: &mut Video, step: usize, keep: u64, free: bool) -> bool {
        let more = video.ladder[step].bps.saturating_sub(video.ladder[video.at].bps);
        let keeps = video.present.is_some_and(|p| p >= step);
        // What is new in its slot takes what its predecessor had.
        let rises = video.present.is_some() && !keeps;
        if (rises && !free) || !self.fits(more, if keeps { keep } else { 100 }) {
            return false;
        }
        self.spent += more;
        video.at = step;
        rises
    }
}
