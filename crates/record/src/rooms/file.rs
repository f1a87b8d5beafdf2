//! A recorded track as a file: WebM or Matroska as it was sent, WAV decoded; whole or a part, and while it grows. And the timeline.

use std::collections::VecDeque;

use antiphon_base::{MediaKind, RoomName};
use antiphon_store::{FragmentInfo, Start, StreamRef};
use bytes::Bytes;

use super::footage::{Footage, Piece};
use super::wave::{RATE, Wave};
use super::{Recording, Recordings, names};
use crate::error::Error;
use crate::matroska::{Clusters, Container, Form};
use crate::take::Frame;
use crate::wav;

/// How far before the wanted part a key frame is looked for: they are asked for every ten seconds.
const KEY_LOOKBACK_MS: u64 = 15_000;
/// Sound before the wanted part that lets the decoder find its way (RFC 7845, 4.6).
const PRE_ROLL_MS: u64 = 80;
/// Bytes of pictures between a key frame and the wanted part: 15 s of 30 Mbit/s.
const MAX_HELD_BYTES: usize = 64 << 20;

/// What file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// For browsers: Opus, VP8, VP9, AV1.
    WebM,
    /// Any codec.
    Mkv,
    /// Sound, decoded: 48 kHz, one channel.
    Wav,
}

impl FileKind {
    /// By the end of a file's name.
    pub fn of(ending: &str) -> Option<Self> {
        Some(match ending {
            "webm" => Self::WebM,
            "mkv" => Self::Mkv,
            "wav" => Self::Wav,
            _ => return None,
        })
    }

    /// The media type, for a track of this kind.
    pub fn media_type(self, kind: MediaKind) -> &'static str {
        match (self, kind) {
            (Self::Wav, _) => "audio/wav",
            (Self::WebM, MediaKind::Audio) => "audio/webm",
            (Self::WebM, MediaKind::Video) => "video/webm",
            (Self::Mkv, MediaKind::Audio) => "audio/x-matroska",
            (Self::Mkv, MediaKind::Video) => "video/x-matroska",
        }
    }
}

/// Which part, in milliseconds of the recording's time axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Where it begins. Times in the file count from here.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: Option<u64>,
    /// It goes on until the track ends.
    pub follow: bool,
}

impl Recordings {
    /// A track as a file. Without `follow` it is what is stored now.
    ///
    /// # Errors
    /// No such recording or track, a file that the track does not fit into, nothing of it stored.
    pub async fn track(
        &self,
        room: &RoomName,
        id: &str,
        number: usize,
        kind: FileKind,
        cut: Cut,
    ) -> Result<File, Error> {
        let recording = self.get(room, id)?;
        let track = recording.tracks.iter().find(|t| t.number == number);
        let track = track.ok_or(Error::NotThere("the recording has no such track (yet)"))?;
        let media = track.codec.kind();
        if kind == FileKind::WebM && !track.fits_webm() {
            return Err(Error::BadRequest("H.264 does not fit into WebM: ask for .mkv".into()));
        }
        if kind == FileKind::Wav && media == MediaKind::Video {
            return Err(Error::BadRequest("WAV is for sound: ask for .webm or .mkv".into()));
        }
        if cut.to_ms.is_some_and(|to| to <= cut.from_ms) {
            return Err(Error::BadRequest("to: later than from".into()));
        }
        let start_ms = recording.start_ms.unwrap_or(track.start_ms);
        let grows =
            cut.follow && track.stop_ms.is_none() && recording.stop_ms.is_none() && recording.state.is_some();
        let name = StreamRef::Name(names::track(id, number));
        let last = self.last(&name)?;
        if !grows && last.is_none() {
            return Err(Error::NotThere("nothing of the track is stored yet: try again, or with follow=1"));
        }
        let (form, end_ms) = match last.filter(|_| !grows) {
            Some(last) => (self.form(&name, &last).await?, Some(last.producer_ms + last.duration_ms)),
            None => (None, None),
        };
        let before = if media == MediaKind::Video { KEY_LOOKBACK_MS } else { PRE_ROLL_MS };
        let seek_ms = start_ms.saturating_add(cut.from_ms.saturating_sub(before));
        let footage = if end_ms.is_some_and(|end| seek_ms > end) {
            None
        } else {
            let now_ms = self.clock().now_ms();
            let at = Start::At(antiphon_store::Clock::Producer, seek_ms);
            let reader = self.store().get_media(&name, at, now_ms)?;
            let until = last.filter(|_| !grows).map(|l| l.number);
            Some(Footage::new(reader, self.clock(), until))
        };
        let length_ms = end_ms.map(|end| {
            let end = end.saturating_sub(start_ms);
            cut.to_ms.map_or(end, |to| to.min(end)).saturating_sub(cut.from_ms)
        });
        let making = Making::new(kind, length_ms).ok_or(Error::Refused)?;
        let media_type = kind.media_type(media);
        Ok(File {
            media_type,
            footage,
            form,
            making,
            part: Part { start_ms, cut },
            length_ms,
            out: VecDeque::new(),
            head: false,
        })
    }

    /// The newest stored fragment.
    fn last(&self, name: &StreamRef) -> Result<Option<FragmentInfo>, Error> {
        let now_ms = self.clock().now_ms();
        Ok(self.store().newest_fragments(name, antiphon_store::Clock::Server, 0, 1, now_ms)?.pop())
    }

    async fn form(&self, name: &StreamRef, last: &FragmentInfo) -> Result<Option<Form>, Error> {
        let header = self.store().header(name, last.number).await?;
        Ok(header.and_then(|h| Form::read(&h.tracks)))
    }

    /// What happened, as JSON: what is stored of it now.
    ///
    /// # Errors
    /// No such recording, it has not begun.
    pub fn timeline(&self, room: &RoomName, id: &str) -> Result<TimelineFile, Error> {
        let recording = self.get(room, id)?;
        if recording.start_ms.is_none() {
            return Err(Error::NotThere("the recording has not begun"));
        }
        let name = StreamRef::Name(names::timeline(id));
        let footage = match self.last(&name)? {
            None => None,
            Some(last) => {
                let reader = self.store().get_media(&name, Start::Earliest, self.clock().now_ms())?;
                Some(Footage::new(reader, self.clock(), Some(last.number)))
            }
        };
        Ok(TimelineFile { head: Some(head_of(&recording)), footage, first: true, ended: false })
    }
}

fn head_of(recording: &Recording) -> Bytes {
    let mut value = recording.to_json();
    value["tracks"] = recording.tracks_json()["tracks"].take();
    let text = value.to_string();
    // The events follow in the same object.
    format!("{},\"events\":[", text.trim_end_matches('}')).into()
}

/// Where a part is.
#[derive(Debug, Clone, Copy)]
struct Part {
    start_ms: u64,
    cut: Cut,
}

enum Place {
    /// Before the part, which may be needed to show its beginning.
    Before,
    /// So many milliseconds into it.
    Within(u64),
    Behind,
}

impl Part {
    fn place(&self, at_ms: u64) -> Place {
        let at_ms = at_ms.saturating_sub(self.start_ms);
        match at_ms.checked_sub(self.cut.from_ms) {
            None => Place::Before,
            Some(_) if self.cut.to_ms.is_some_and(|to| at_ms >= to) => Place::Behind,
            Some(within) => Place::Within(within),
        }
    }
}

/// What becomes of frames.
enum Making {
    Matroska {
        container: Container,
        clusters: Clusters,
        /// From the last key frame before the part on.
        held: Vec<Frame>,
        held_bytes: usize,
        /// A frame was given.
        begun: bool,
    },
    Wav(Box<Wave>),
}

impl Making {
    fn new(kind: FileKind, length_ms: Option<u64>) -> Option<Self> {
        let container = match kind {
            FileKind::WebM => Container::WebM,
            FileKind::Mkv => Container::Mkv,
            FileKind::Wav => {
                let samples = length_ms.map(|ms| ms.saturating_mul(u64::from(RATE / 1000)));
                return Some(Self::Wav(Box::new(Wave::new(samples)?)));
            }
        };
        let (clusters, held) = (Clusters::default(), Vec::new());
        Some(Self::Matroska { container, clusters, held, held_bytes: 0, begun: false })
    }

    fn head(&self, form: &Form, length_ms: Option<u64>) -> Bytes {
        match self {
            Self::Matroska { container, .. } => form.head(*container, "Antiphon", length_ms).into(),
            Self::Wav(_) => {
                let samples = length_ms.map(|ms| ms.saturating_mul(u64::from(RATE / 1000)));
                wav::head(RATE, 1, samples).into()
            }
        }
    }

    /// A frame. `false`: the part is over.
    fn frame(&mut self, form: &Form, part: Part, frame: Frame, out: &mut VecDeque<Bytes>) -> bool {
        match self {
            Self::Wav(wave) => {
                if matches!(part.place(frame.at_ms), Place::Behind) {
                    return false;
                }
                let at = frame.at_ms.cast_signed().saturating_sub_unsigned(part.start_ms);
                wave.packet(at.saturating_sub_unsigned(part.cut.from_ms), &frame.data);
                out.extend(std::iter::from_fn(|| wave.poll()));
                !wave.is_full()
            }
            Self::Matroska { clusters, held, held_bytes, begun, .. } => {
                let video = form.is_video();
                let mut put = |frame: &Frame, at_ms: u64| {
                    out.push_back(clusters.frame(frame, at_ms, video && frame.key).into());
                };
                match part.place(frame.at_ms) {
                    Place::Behind => return false,
                    Place::Before if video => {
                        if frame.key || *held_bytes > MAX_HELD_BYTES {
                            held.clear();
                            *held_bytes = 0;
                        }
                        if frame.key || !held.is_empty() {
                            *held_bytes += frame.data.len();
                            held.push(frame);
                        }
                    }
                    Place::Before => {}
                    Place::Within(at_ms) => {
                        if *begun || !video || frame.key || !held.is_empty() {
                            // What comes before the part is shown in no time.
                            if !frame.key || *begun {
                                held.drain(..).for_each(|frame| put(&frame, 0));
                            }
                            held.clear();
                            put(&frame, at_ms);
                            *begun = true;
                        }
                    }
                }
                true
            }
        }
    }

    fn finish(&mut self) -> Option<Bytes> {
        match self {
            Self::Wav(wave) => wave.fill(),
            Self::Matroska { .. } => None,
        }
    }
}

/// A file being made.
pub struct File {
    media_type: &'static str,
    /// `None`: nothing (more) is read.
    footage: Option<Footage>,
    form: Option<Form>,
    making: Making,
    part: Part,
    length_ms: Option<u64>,
    out: VecDeque<Bytes>,
    head: bool,
}

impl File {
    /// Its media type.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// The next piece; waits for it. `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.head
                && let Some(form) = &self.form
            {
                self.head = true;
                return Some(self.making.head(form, self.length_ms));
            }
            if let Some(bytes) = self.out.pop_front() {
                return Some(bytes);
            }
            let Some(footage) = &mut self.footage else {
                return if self.head { self.making.finish() } else { None };
            };
            match footage.next().await {
                Some(Piece::Form(form)) => drop(self.form.get_or_insert(form)),
                Some(Piece::Frame(frame)) => {
                    let Some(form) = &self.form else { continue };
                    if !self.making.frame(form, self.part, frame, &mut self.out) {
                        self.footage = None;
                    }
                }
                None => self.footage = None,
            }
        }
    }
}

/// The timeline being read.
pub struct TimelineFile {
    head: Option<Bytes>,
    footage: Option<Footage>,
    first: bool,
    ended: bool,
}

impl TimelineFile {
    /// The next piece of the JSON; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        while let Some(footage) = &mut self.footage {
            match footage.next().await {
                Some(Piece::Frame(frame)) => {
                    if std::mem::take(&mut self.first) {
                        return Some(frame.data);
                    }
                    return Some([b",", &frame.data[..]].concat().into());
                }
                Some(Piece::Form(_)) => {}
                None => self.footage = None,
            }
        }
        (!std::mem::replace(&mut self.ended, true)).then(|| Bytes::from_static(b"]}"))
    }
}

/// For the fuzz target: bytes of a stream, made into every kind of file.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut documents = super::footage::Pieces::default();
    let part = Part { start_ms: 1_000, cut: Cut { from_ms: 500, to_ms: Some(100_000), follow: false } };
    let mut files: Vec<Making> = [FileKind::WebM, FileKind::Mkv, FileKind::Wav]
        .into_iter()
        .filter_map(|k| Making::new(k, Some(2_000)))
        .collect();
    let (mut form, mut out) = (Form::opus(), VecDeque::new());
    for piece in crate::fuzzing::pieces(bytes) {
        documents.push(piece);
        for piece in documents.out.drain(..) {
            match piece {
                Piece::Form(now) => {
                    for file in &files {
                        assert!(!file.head(&now, None).is_empty());
                    }
                    form = now;
                }
                Piece::Frame(frame) => {
                    for file in &mut files {
                        file.frame(&form, part, frame.clone(), &mut out);
                        out.clear();
                    }
                }
            }
        }
    }
}
