//! A contact's sound as a WAV file (RIFF, PCM), whole or while it grows: tracks side by side on the time axis, with silence
//! where nothing is.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::recorder::{FROM_CUSTOMER, TO_CUSTOMER};
use crate::sound::{Sound, SoundTrack, Sounding};

/// Sizes of a file whose end is not known yet: players take it as "until the end".
const UNKNOWN: u32 = u32::MAX;
/// Bytes of the head.
const HEAD_BYTES: u32 = 44;
/// Samples of silence given in one piece: a second at 48 kHz.
const MAX_SILENCE: usize = 48_000;
/// How far one track may be ahead of the other, in samples: tracks of one stream go side by side. What is over is given as
/// if the other were silent.
const MAX_AHEAD: usize = 48_000 * 10;
/// A hole longer than this is a clock that jumped: it is left out.
const MAX_HOLE_MS: u64 = 12 * 3_600_000;

/// Which of a contact's tracks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The contact's voice.
    #[default]
    From,
    /// What it hears.
    To,
    /// Both: left what it says, right what it hears.
    Stereo,
}

impl Wanted {
    /// The word used in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "from" => Self::From,
            "to" => Self::To,
            "stereo" => Self::Stereo,
            _ => return None,
        })
    }

    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::From => &[FROM_CUSTOMER],
            Self::To => &[TO_CUSTOMER],
            Self::Stereo => &[FROM_CUSTOMER, TO_CUSTOMER],
        }
    }

    /// Channels of the file.
    pub fn channels(self) -> u16 {
        if self == Self::Stereo { 2 } else { 1 }
    }
}

/// The head of a file; `frames` are samples per channel, `None`: not known.
pub fn head(rate: u32, channels: u16, frames: Option<u64>) -> Vec<u8> {
    let align = channels * 2;
    let data = frames.and_then(|n| u32::try_from(n.checked_mul(align.into())?).ok());
    let data = data.filter(|n| *n <= UNKNOWN - HEAD_BYTES).unwrap_or(UNKNOWN);
    let riff = if data == UNKNOWN { UNKNOWN } else { data + HEAD_BYTES - 8 };
    let mut out = Vec::with_capacity(HEAD_BYTES as usize);
    out.extend(b"RIFF");
    out.extend(riff.to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16_u32.to_le_bytes());
    out.extend(1_u16.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend((rate * u32::from(align)).to_le_bytes());
    out.extend(align.to_le_bytes());
    out.extend(16_u16.to_le_bytes());
    out.extend(b"data");
    out.extend(data.to_le_bytes());
    out
}

/// Weaves a stream's tracks into channels.
#[derive(Debug)]
pub struct Weave {
    wanted: Wanted,
    /// Milliseconds since 1970 of the first sample.
    start_ms: u64,
    rate: u32,
    /// Numbers of the tracks by channel, in the fragment at hand.
    numbers: Vec<Option<u64>>,
    channels: Vec<VecDeque<i16>>,
    /// Frames given.
    given: u64,
    /// Frames of silence to give before anything else.
    hole: u64,
}

impl Weave {
    /// From `start_ms` on, at `rate`.
    pub fn new(wanted: Wanted, start_ms: u64, rate: u32) -> Self {
        let names = wanted.names().len();
        Self {
            wanted,
            start_ms,
            rate,
            numbers: vec![None; names],
            channels: vec![VecDeque::new(); names],
            given: 0,
            hole: 0,
        }
    }

    /// A fragment with these tracks begins. Says whether all that is wanted is among them, at this rate.
    pub fn fragment(&mut self, tracks: &[SoundTrack]) -> bool {
        let number =
            |name: &&str| tracks.iter().find(|t| t.name == *name && t.rate == self.rate).map(|t| t.number);
        self.numbers = self.wanted.names().iter().map(number).collect();
        self.numbers.iter().all(Option::is_some)
    }

    /// Sound of a track.
    pub fn block(&mut self, track: u64, at_ms: u64, pcm: &[u8]) {
        let Some(channel) = self.numbers.iter().position(|n| *n == Some(track)) else { return };
        let at = at_ms.saturating_sub(self.start_ms).saturating_mul(self.rate.into()) / 1000;
        let all_empty = self.channels.iter().all(VecDeque::is_empty);
        let here = self.given + self.hole + self.channels[channel].len() as u64;
        let most = MAX_HOLE_MS * u64::from(self.rate) / 1000;
        let missing = at.saturating_sub(here);
        if at_ms < self.start_ms || missing > most {
            return;
        }
        if missing > 0 && all_empty {
            self.hole += missing;
        } else {
            let zeros = usize::try_from(missing).unwrap_or(usize::MAX).min(MAX_AHEAD);
            self.channels[channel].extend(std::iter::repeat_n(0, zeros));
        }
        // A millisecond is not always a whole number of samples; what begins earlier than that was given already.
        let early = usize::try_from(here.saturating_sub(at)).unwrap_or(usize::MAX);
        let skip = if early > self.rate as usize / 500 { early } else { 0 };
        let samples = pcm.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        self.channels[channel].extend(samples.skip(skip));
    }

    /// What is complete, interleaved.
    pub fn poll(&mut self) -> Option<Bytes> {
        let channels = self.channels.len();
        if self.hole > 0 {
            let frames = usize::try_from(self.hole).unwrap_or(usize::MAX).min(MAX_SILENCE);
            self.hole -= frames as u64;
            self.given += frames as u64;
            return Some(vec![0; frames * channels * 2].into());
        }
        let ready = self.channels.iter().map(VecDeque::len).min().unwrap_or(0);
        let ahead = self.channels.iter().map(VecDeque::len).max().unwrap_or(0);
        let frames = if ahead > MAX_AHEAD { ahead } else { ready };
        self.take(frames)
    }

    /// The rest: a channel that is shorter ends in silence.
    pub fn finish(&mut self) -> Option<Bytes> {
        let frames = self.channels.iter().map(VecDeque::len).max().unwrap_or(0);
        self.take(frames)
    }

    fn take(&mut self, frames: usize) -> Option<Bytes> {
        if frames == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(frames * self.channels.len() * 2);
        for _ in 0..frames {
            for channel in &mut self.channels {
                out.extend(channel.pop_front().unwrap_or(0).to_le_bytes());
            }
        }
        self.given += frames as u64;
        Some(out.into())
    }
}

/// A file being made: its head, then its sound.
pub struct Wav {
    sound: Sound,
    weave: Weave,
    head: Option<Bytes>,
    /// Frames that the head promised.
    left: Option<u64>,
    finished: bool,
}

impl Wav {
    pub(crate) fn new(sound: Sound, weave: Weave, frames: Option<u64>) -> Self {
        let head = head(weave.rate, weave.wanted.channels(), frames);
        Self { sound, weave, head: Some(head.into()), left: frames, finished: false }
    }

    /// Bytes of the whole file, where they are known.
    #[expect(clippy::len_without_is_empty, reason = "a file has a head at least")]
    pub fn len(&self) -> Option<u64> {
        let sound = self.left.map(|n| n * u64::from(self.weave.wanted.channels()) * 2);
        sound.map(|n| n + u64::from(HEAD_BYTES))
    }

    /// The next piece; waits for it. `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        loop {
            if self.left == Some(0) {
                return None;
            }
            if let Some(bytes) = self.weave.poll() {
                return Some(self.measured(bytes));
            }
            if self.finished {
                return self.fill();
            }
            match self.sound.next().await {
                Some(Sounding::Fragment { tracks, .. }) => drop(self.weave.fragment(&tracks)),
                Some(Sounding::Block { track, at_ms, pcm }) => self.weave.block(track, at_ms, &pcm),
                Some(Sounding::Missing) => {}
                None => {
                    self.finished = true;
                    if let Some(bytes) = self.weave.finish() {
                        return Some(self.measured(bytes));
                    }
                }
            }
        }
    }

    /// What the head promised and is not there, as silence.
    fn fill(&mut self) -> Option<Bytes> {
        let left = usize::try_from(self.left?).unwrap_or(usize::MAX).min(MAX_SILENCE);
        let bytes = vec![0; left * usize::from(self.weave.wanted.channels()) * 2];
        (left > 0).then(|| self.measured(bytes.into()))
    }

    /// No more than the head promised.
    fn measured(&mut self, bytes: Bytes) -> Bytes {
        let Some(left) = &mut self.left else { return bytes };
        let align = usize::from(self.weave.wanted.channels()) * 2;
        let frames = (bytes.len() / align).min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= frames as u64;
        bytes.slice(..frames * align)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(number: u64, name: &str) -> SoundTrack {
        SoundTrack { number, name: name.into(), rate: 8_000 }
    }

    fn samples(weave: &mut Weave) -> Vec<i16> {
        let all: Vec<Bytes> = std::iter::from_fn(|| weave.poll()).collect();
        all.concat().chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
    }

    #[test]
    fn channels_are_told_by_name_and_holes_are_silence() {
        let mut weave = Weave::new(Wanted::Stereo, 1_000, 8_000);
        // The numbers are the other way round.
        assert!(weave.fragment(&[track(1, TO_CUSTOMER), track(2, FROM_CUSTOMER)]));
        weave.block(2, 1_000, &[1, 0].repeat(8));
        assert_eq!(samples(&mut weave), [0; 0], "the other channel is not there yet");
        weave.block(1, 1_000, &[2, 0].repeat(8));
        assert_eq!(samples(&mut weave), [1, 2].repeat(8));
        // A millisecond is missing.
        weave.block(2, 1_002, &[3, 0]);
        weave.block(1, 1_002, &[4, 0]);
        assert_eq!(samples(&mut weave), [[0].repeat(16), vec![3, 4]].concat());
        // What was before the start, or was given already, is not given (again).
        weave.block(2, 900, &[5, 0]);
        assert_eq!(samples(&mut weave), [0; 0]);
        assert!(!weave.fragment(&[track(1, FROM_CUSTOMER)]));
    }

    #[test]
    fn a_jump_of_years_takes_no_memory() {
        let mut weave = Weave::new(Wanted::From, 1_000, 48_000);
        weave.fragment(&[SoundTrack { rate: 48_000, ..track(1, FROM_CUSTOMER) }]);
        weave.block(1, u64::MAX / 48_000, &[1, 0]);
        weave.block(1, u64::MAX, &[1, 0]);
        assert_eq!(samples(&mut weave).len(), 0);
        weave.block(1, 1_000 + 3_600_000, &[1, 0]);
        assert!(weave.channels[0].len() == 1 && weave.poll().unwrap().len() == MAX_SILENCE * 2);
    }

    #[test]
    fn a_head_says_what_is_known() {
        let known = head(8_000, 2, Some(100));
        assert_eq!((known.len(), &known[..4], &known[40..]), (44, &b"RIFF"[..], &400_u32.to_le_bytes()[..]));
        assert_eq!(known[4..8], 436_u32.to_le_bytes());
        for frames in [None, Some(u64::MAX), Some(1 << 31)] {
            assert_eq!(head(8_000, 2, frames)[40..], [0xff; 4]);
        }
    }
}
