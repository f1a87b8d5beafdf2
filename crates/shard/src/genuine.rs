//! SSRCs of one peer from which a genuine packet came. A new one is checked before str0m sees it, and can be checked at the beginning
//! of its stream only ([`crate::egress::Opener::is_genuine_rtp`]): what is forgotten while it is in use is silenced for good.

/// SSRCs remembered: four sources of four layers with retransmissions.
const MAX_GENUINE: usize = 32;

/// The latest used last.
#[derive(Default)]
pub(crate) struct Genuine(Vec<u32>);

impl Genuine {
    /// A genuine packet came of it before.
    pub(crate) fn knows(&mut self, ssrc: u32) -> bool {
        let Some(at) = self.0.iter().rposition(|known| *known == ssrc) else { return false };
        self.0[at..].rotate_left(1);
        true
    }

    /// A genuine packet has come of it. Beyond the bound the one that was silent for longest is forgotten, but for streams that are
    /// tracks now: they may be muted for hours. (Of their retransmissions, that long unused, the next 32 streams push it out.)
    pub(crate) fn add(&mut self, ssrc: u32, is_track: impl Fn(u32) -> bool) {
        if self.0.len() >= MAX_GENUINE {
            let silent = self.0.iter().position(|known| !is_track(*known)).unwrap_or(0);
            self.0.remove(silent);
        }
        self.0.push(ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_use_is_never_forgotten() {
        let mut genuine = Genuine::default();
        // A muted microphone, and a retransmission stream that is used now and then; the camera has another SSRC each time.
        let (microphone, rtx, cameras) = (1, 2, 1_000_000);
        genuine.add(microphone, |_| false);
        genuine.add(rtx, |_| false);
        for camera in 0..1_000 {
            genuine.add(cameras + camera, |ssrc| ssrc == microphone || ssrc + 1 == cameras + camera);
            assert!(genuine.knows(rtx) && genuine.knows(cameras + camera), "after {camera}");
            assert!(genuine.0.len() <= MAX_GENUINE);
        }
        assert!(genuine.knows(microphone));
        assert!(!genuine.knows(cameras), "long gone");
    }
}
