//! Reading a stream's sound back: from documents of the store to PCM of its tracks at its place in time, live or stored.
//!
//! What is no PCM is left out.

use std::collections::VecDeque;

use antiphon_store::matroska::Header;
use antiphon_store::{FragmentNumber, Reader};
use bytes::Bytes;

use crate::clock::Clock;
use crate::documents::{self, Part, Tail};

/// Samples per second that are taken: what else a header says is nonsense.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// A track as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundTrack {
    /// Its number in blocks.
    pub number: u64,
    /// Such as `AUDIO_FROM_CUSTOMER`: the only thing that tells what it is.
    pub name: String,
    /// Samples per second; s16le, one channel.
    pub rate: u32,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sounding {
    /// A fragment begins. Its tracks are of the same order as the fragment before, as a rule.
    Fragment {
        /// Its number.
        number: FragmentNumber,
        /// Its tracks of PCM.
        tracks: Vec<SoundTrack>,
    },
    /// Sound.
    Block {
        /// Number of its track.
        track: u64,
        /// Milliseconds since 1970 by the producer's clock.
        at_ms: u64,
        /// s16le.
        pcm: Bytes,
    },
    /// A fragment that is missing.
    Missing,
}

/// A stream being read.
pub struct Sound {
    tail: Tail,
    documents: Documents,
}

impl Sound {
    pub(crate) fn new(reader: Reader, clock: Clock, until: Option<FragmentNumber>) -> Self {
        Self { tail: Tail::new(reader, clock, until), documents: Documents::default() }
    }

    /// What comes next; waits for it. `None`: nothing more will come.
    pub async fn next(&mut self) -> Option<Sounding> {
        loop {
            if let Some(sounding) = self.documents.poll() {
                let number =
                    if let Sounding::Fragment { number, .. } = &sounding { Some(*number) } else { None };
                return (!self.tail.ends_before(number)).then_some(sounding);
            }
            let bytes = self.tail.next(self.documents.read.number()).await?;
            self.documents.push(&bytes);
        }
    }
}

/// Documents and the sound that came of them.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    read: documents::Documents,
    /// Numbers of the tracks of PCM of the document that is read.
    known: Vec<u64>,
    out: VecDeque<Sounding>,
}

impl Documents {
    pub(crate) fn poll(&mut self) -> Option<Sounding> {
        self.out.pop_front()
    }

    /// Takes whole elements.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (known, out) = (&mut self.known, &mut self.out);
        self.read.push(bytes, |part| match part {
            Part::Header(number, header) => {
                let tracks = tracks(header);
                *known = tracks.iter().map(|t| t.number).collect();
                out.extend(number.map(|number| Sounding::Fragment { number, tracks }));
            }
            Part::Block { track, at_ms, data, .. } if known.contains(&track) => {
                // A block has whole samples.
                let pcm = data.slice(..data.len() / 2 * 2);
                out.push_back(Sounding::Block { track, at_ms, pcm });
            }
            Part::Block { .. } => {}
            Part::Missing => out.push_back(Sounding::Missing),
        });
    }
}

/// The tracks of PCM that we understand: 16 bit, one channel.
pub(crate) fn tracks(header: &Header) -> Vec<SoundTrack> {
    // Amazon's own label says nothing; its tag does.
    let mime = header.tag("MimeType").unwrap_or_default();
    let tagged = mime.split(';').find_map(|part| part.trim().strip_prefix("rate=")?.parse::<u32>().ok());
    let tagged = tagged.filter(|_| mime.starts_with("audio/L16") && mime.contains("channels=1"));
    let rate = |t: &antiphon_store::matroska::Track| {
        let said = t.codec == "A_PCM/INT/LIT" && t.bits == 16 && t.channels == 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast saturates, and a range follows"
        )]
        let said = said.then_some(t.rate_hz as u32);
        said.or(tagged.filter(|_| t.codec == "A_AAC")).filter(|rate| RATES.contains(rate))
    };
    let track = |t: &antiphon_store::matroska::Track| {
        Some(SoundTrack { number: t.number, name: t.name.clone(), rate: rate(t)? })
    };
    header.tracks.iter().filter(|t| t.kind == 2).filter_map(track).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_store::matroska::write::{self, PcmLabel, PcmTrack};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn document(label: PcmLabel, number: u64, at_ms: u64) -> Vec<Vec<u8>> {
        let track = |number, name: &str| PcmTrack { number, name: name.into(), rate_hz: 16_000, label };
        let mime = [("MimeType", "audio/L16;rate=16000;channels=1;")];
        let number = FragmentNumber::new(number, at_ms, 1).to_string();
        vec![
            write::pcm_header("t", &[track(1, "A"), track(2, "B")], &mime),
            write::tags(&[("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &number)]),
            write::cluster_start(at_ms),
            write::simple_block(1, 0, &[1, 0, 2, 0, 9]),
            write::simple_block(2, 64, &[3, 0]),
            write::simple_block(7, 64, &[3, 0]),
            write::tags(&[("AWS_KINESISVIDEO_CONTINUATION_TOKEN", &number)]),
        ]
    }

    #[test]
    fn documents_become_sound_whatever_their_label() {
        for label in [PcmLabel::Pcm, PcmLabel::ConnectStrict] {
            let mut documents = Documents::default();
            for i in 1..3 {
                document(label, i, 5_000 * i).iter().for_each(|piece| documents.push(piece));
                let number = FragmentNumber::new(i, 5_000 * i, 1);
                let track = |number, name: &str| SoundTrack { number, name: name.into(), rate: 16_000 };
                let tracks = vec![track(1, "A"), track(2, "B")];
                assert_eq!(documents.poll(), Some(Sounding::Fragment { number, tracks }));
                let block =
                    |track, at_ms, pcm| Some(Sounding::Block { track, at_ms, pcm: Bytes::from_static(pcm) });
                assert_eq!(documents.poll(), block(1, 5_000 * i, &[1, 0, 2, 0]));
                assert_eq!(documents.poll(), block(2, 5_000 * i + 64, &[3, 0]));
                assert_eq!(documents.poll(), None);
            }
        }
    }

    #[test]
    fn a_document_without_a_cluster_is_a_missing_fragment() {
        let mut documents = Documents::default();
        documents
            .push(&[write::document_head(), write::tags(&[("AWS_KINESISVIDEO_ERROR_ID", "4000")])].concat());
        document(PcmLabel::Pcm, 1, 5_000).iter().for_each(|piece| documents.push(piece));
        assert_eq!(documents.poll(), Some(Sounding::Missing));
        assert!(matches!(documents.poll(), Some(Sounding::Fragment { .. })));
    }

    #[test]
    fn any_bytes_are_taken_calmly() {
        let mut rng = SmallRng::seed_from_u64(11);
        let mut given = 0;
        for _ in 0..3_000 {
            let mut documents = Documents::default();
            for mut piece in document(PcmLabel::Pcm, 1, 5_000) {
                for _ in 0..rng.random_range(0..3) {
                    let at = rng.random_range(0..piece.len());
                    piece[at] = rng.random();
                }
                piece.truncate(piece.len() - usize::from(rng.random_range(0..9) == 0));
                documents.push(&piece);
                while let Some(sounding) = documents.poll() {
                    given += 1;
                    if let Sounding::Block { pcm, .. } = sounding {
                        assert!(pcm.len() % 2 == 0);
                    }
                }
            }
        }
        assert!(given > 1_000, "{given}");
    }
}
