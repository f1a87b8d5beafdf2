//! Reading a stream's sound back: from documents of the store to PCM of its tracks at its place in time, live or stored.
//!
//! Any producer may have written the stream, so nothing in it is believed: the store's parser checks it again, and what is no
//! PCM is left out.

use std::collections::VecDeque;

use antiphon_store::matroska::{Bounds, Header, Item, Parser, id};
use antiphon_store::{FragmentNumber, Reader, Step};
use bytes::Bytes;

use crate::clock::Clock;

/// Bytes of a document's head, as the store takes them.
const BOUNDS: Bounds = Bounds { header_bytes: 1 << 20, fragment_bytes: 64 << 20 };
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
    reader: Reader,
    clock: Clock,
    /// The last fragment that is wanted.
    until: Option<FragmentNumber>,
    documents: Documents,
    ended: bool,
}

impl Sound {
    pub(crate) fn new(reader: Reader, clock: Clock, until: Option<FragmentNumber>) -> Self {
        Self { reader, clock, until, documents: Documents::default(), ended: false }
    }

    /// What comes next; waits for it. `None`: nothing more will come.
    pub async fn next(&mut self) -> Option<Sounding> {
        loop {
            if let Some(sounding) = self.documents.poll() {
                let number =
                    if let Sounding::Fragment { number, .. } = &sounding { Some(*number) } else { None };
                self.ended |= number.zip(self.until).is_some_and(|(number, until)| number > until);
                return (!self.ended).then_some(sounding);
            }
            if self.ended {
                return None;
            }
            match self.reader.next(self.clock.now_ms()).await {
                Step::Bytes(bytes) => self.documents.push(&bytes),
                Step::End => self.ended = true,
                Step::Wait if self.last_was_given() => self.ended = true,
                Step::Wait => self.wait().await,
            }
        }
    }

    fn last_was_given(&self) -> bool {
        self.documents.number.zip(self.until).is_some_and(|(number, until)| number >= until)
    }

    async fn wait(&mut self) {
        match self.reader.deadline_ms() {
            None => self.reader.changed().await,
            Some(at) => {
                let left = std::time::Duration::from_millis(at.saturating_sub(self.clock.now_ms()));
                let _ = tokio::time::timeout(left, self.reader.changed()).await;
            }
        }
    }
}

/// A concatenation of documents, one per fragment.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    parser: Option<Parser>,
    header: Option<Header>,
    timecode: u64,
    number: Option<FragmentNumber>,
    out: VecDeque<Sounding>,
}

impl Documents {
    pub(crate) fn poll(&mut self) -> Option<Sounding> {
        self.out.pop_front()
    }

    /// Takes whole elements; a document begins with such a piece.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.starts_with(&id::EBML.to_be_bytes()) {
            if self.parser.is_some() && self.header.is_none() {
                self.out.push_back(Sounding::Missing);
            }
            (self.parser, self.header) = (Some(Parser::new(BOUNDS)), None);
        }
        let Some(parser) = &mut self.parser else { return };
        parser.push(bytes);
        loop {
            let item = match self.parser.as_mut().map(Parser::next_item) {
                Some(Ok(Some(item))) => item,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stored document is not what it should be");
                    self.parser = None;
                    return self.out.push_back(Sounding::Missing);
                }
                _ => return,
            };
            self.item(item);
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Header { header, .. } => {
                let number = header.tag("AWS_KINESISVIDEO_FRAGMENT_NUMBER").and_then(|n| n.parse().ok());
                if let Some(number) = number {
                    self.number = Some(number);
                    self.out.push_back(Sounding::Fragment { number, tracks: tracks(&header) });
                }
                self.header = Some(header);
            }
            Item::Timecode { ticks, .. } => self.timecode = ticks,
            Item::Block { bytes, block } => {
                let Some(header) = &self.header else { return };
                let at = self.timecode.checked_add_signed(i64::from(block.relative));
                let at_ms = at.and_then(|ticks| header.ticks_ms(ticks));
                let simple = bytes.starts_with(&[0xA3]) && block.len <= bytes.len();
                let known = tracks(header).iter().any(|t| t.number == block.track);
                if let Some(at_ms) = at_ms.filter(|_| simple && known) {
                    // A block has whole samples.
                    let pcm = bytes.slice(bytes.len() - block.len..);
                    let pcm = pcm.slice(..pcm.len() / 2 * 2);
                    self.out.push_back(Sounding::Block { track: block.track, at_ms, pcm });
                }
            }
            Item::ClusterStart { .. } | Item::ClusterEnd | Item::Other { .. } | Item::Trailing { .. } => {}
        }
    }
}

/// The tracks of PCM that we understand: 16 bit, one channel.
fn tracks(header: &Header) -> Vec<SoundTrack> {
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
