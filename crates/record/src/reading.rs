//! What a contact's stream holds, for who listens to it: as a WAV file, or live.

use antiphon_base::RoomName;
use antiphon_store::{FragmentNumber, Start, StreamRef};

use crate::contact::ContactId;
use crate::error::Error;
use crate::history::History;
use crate::recorder::Recorder;
use crate::sound::{Sound, SoundTrack, Sounding};
use crate::wav::{Wanted, Wav, Weave};

/// Fragments of a page while the end is looked for.
const PAGE: usize = antiphon_store::MAX_PAGE;

impl Recorder {
    /// A start's sound of a contact as a WAV file: of the one with this start fragment, or of the last; what others put into streams that
    /// it shares is found by its first fragment, and where there is nothing else. With `follow` it goes on
    /// until the streaming ends; without, it is what is stored now, and its head says how much that is.
    ///
    /// # Errors
    /// No such contact or start, nothing of that track, nothing kept, the store.
    pub async fn wav(
        &self,
        contact: &ContactId,
        start: Option<FragmentNumber>,
        wanted: Wanted,
        follow: bool,
    ) -> Result<Wav, Error> {
        let history = match start {
            Some(_) => self.0.whole_history(contact),
            None => self.0.history(contact),
        };
        let ours = |h: &History| start.is_none_or(|first| h.started_at(first).is_some());
        if !history.as_ref().is_some_and(ours)
            && let Some(part) = self.part_wav(contact, start, wanted).await?
        {
            return Ok(part);
        }
        let history = history.ok_or(Error::NoContact)?;
        let first = start.unwrap_or(history.latest().first);
        let (stream, run) =
            history.started_at(first).ok_or(Error::NotThere("the contact has no such start"))?;
        let name = StreamRef::Arn(stream.arn.clone());
        if !follow && stream.retention_h == 0 {
            return Err(antiphon_store::Error::NoDataRetention.into());
        }
        let last_start = run.first == history.latest().first;
        let until = match run.last {
            None if follow && last_start => None,
            Some(last) => Some(last),
            // It was interrupted, or runs: up to what came of a later start.
            None => Some(self.newest(&name, history.next_start(stream, run.first))?),
        };
        let anchor = self.anchor(&name, run.first).await?;
        let found = wanted.names().iter().map(|name| anchor.iter().find(|t| t.name == **name));
        let found =
            found.collect::<Option<Vec<_>>>().ok_or(Error::NotThere("the stream has no such track"))?;
        let rate = found[0].rate;
        let frames = match until.filter(|_| !follow) {
            Some(last) => Some(self.frames(&name, run.start_ms, last, rate)?),
            None => None,
        };
        let reader = self.0.store.get_media(&name, Start::After(run.first), self.0.clock.now_ms())?;
        let sound = Sound::new(reader, self.0.clock.clone(), until);
        Ok(Wav::new(sound, Weave::new(wanted, run.start_ms, rate), frames))
    }

    /// Sound of a stream as it comes, from the fragment behind `after`, or from the latest on. For streams of contacts and of
    /// others.
    ///
    /// # Errors
    /// No such stream, too many readers.
    pub fn live(&self, stream: &str, after: Option<FragmentNumber>) -> Result<Sound, Error> {
        let start = after.map_or(Start::Now, Start::After);
        let name = StreamRef::Name(stream.to_owned());
        let reader = self.0.store.get_media(&name, start, self.0.clock.now_ms())?;
        Ok(Sound::new(reader, self.0.clock.clone(), None))
    }

    /// The contact whose stream that is.
    pub fn contact_of_stream(&self, stream: &str) -> Option<ContactId> {
        let tags = self.0.store.tags(&StreamRef::Name(stream.to_owned())).ok()?;
        tags.get("ContactId").and_then(|id| ContactId::new(id).ok())
    }

    /// The room in which a contact was streamed last.
    pub fn room_of(&self, contact: &ContactId) -> Option<RoomName> {
        self.0.history(contact)?.room
    }

    /// The newest fragment that is stored, of those before another.
    fn newest(&self, name: &StreamRef, before: Option<FragmentNumber>) -> Result<FragmentNumber, Error> {
        let mut token = None;
        let mut newest = FragmentNumber::MIN;
        loop {
            let now_ms = self.0.clock.now_ms();
            let page = self.0.store.list_fragments(name, None, PAGE, token.as_deref(), now_ms)?;
            let numbers = page.fragments.iter().map(|f| f.number);
            newest = numbers.filter(|n| before.is_none_or(|before| *n < before)).fold(newest, Ord::max);
            token = page.next;
            if token.is_none() {
                return Ok(newest);
            }
        }
    }

    /// Samples from the start to the end of the last fragment.
    fn frames(&self, name: &StreamRef, start_ms: u64, last: FragmentNumber, rate: u32) -> Result<u64, Error> {
        let end_ms = self.0.store.fragment(name, last)?.map_or(0, |f| f.producer_ms + f.duration_ms);
        Ok(end_ms.saturating_sub(start_ms) * u64::from(rate) / 1000)
    }

    /// The tracks that the anchor's header tells.
    async fn anchor(&self, name: &StreamRef, first: FragmentNumber) -> Result<Vec<SoundTrack>, Error> {
        let start = Start::At(antiphon_store::Clock::Server, first.server_ms());
        let reader = self.0.store.get_media(name, start, self.0.clock.now_ms())?;
        let mut sound = Sound::new(reader, self.0.clock.clone(), None);
        // A fragment that was stored, or is being written: its header is there at once.
        match tokio::time::timeout(std::time::Duration::from_secs(5), sound.next()).await {
            Ok(Some(Sounding::Fragment { tracks, .. })) => Ok(tracks),
            _ => Err(Error::NotThere("the beginning of the stream is not kept any more")),
        }
    }
}
