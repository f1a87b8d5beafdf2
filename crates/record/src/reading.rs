//! What a contact's stream holds, for who listens to it: as a WAV file, or live.

use antiphon_base::RoomName;
use antiphon_store::{FragmentNumber, Start, StreamRef};

use crate::contact::ContactId;
use crate::error::Error;
use crate::recorder::Recorder;
use crate::sound::{Sound, SoundTrack, Sounding};
use crate::wav::{Wanted, Wav, Weave};

/// Fragments of a page while the end is looked for.
const PAGE: usize = antiphon_store::MAX_PAGE;

impl Recorder {
    /// The last start's sound of a contact as a WAV file. With `follow` it goes on until the streaming ends; without, it is what
    /// is stored now, and its head says how much that is.
    ///
    /// # Errors
    /// No such contact, nothing of that track, nothing kept, the store.
    pub async fn wav(&self, contact: &ContactId, wanted: Wanted, follow: bool) -> Result<Wav, Error> {
        let history = self.history(contact)?;
        let run = history.latest().clone();
        let name = StreamRef::Name(history.stream.name.clone());
        if !follow && history.stream.retention_h == 0 {
            return Err(antiphon_store::Error::NoDataRetention.into());
        }
        let until = if follow { run.last } else { Some(self.end(&name, run.last)?) };
        let anchor = self.anchor(&name, run.first).await?;
        let names = match wanted {
            Wanted::From => vec![crate::recorder::FROM_CUSTOMER],
            Wanted::To => vec![crate::recorder::TO_CUSTOMER],
            Wanted::Stereo => vec![crate::recorder::FROM_CUSTOMER, crate::recorder::TO_CUSTOMER],
        };
        let found = names.iter().map(|name| anchor.iter().find(|t| t.name == **name));
        let found =
            found.collect::<Option<Vec<_>>>().ok_or(Error::NotThere("the stream has no such track"))?;
        let rate = found[0].rate;
        let frames = match until.filter(|_| !follow) {
            Some(last) => Some(self.frames(&name, run.start_ms, last, rate)?),
            None => None,
        };
        let reader = self.0.store.get_media(&name, Start::After(run.first), self.0.clock.now_ms())?;
        let sound = Sound::new(reader, self.0.clock, until);
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
        Ok(Sound::new(reader, self.0.clock, None))
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

    /// The last fragment: the run's, or the newest that is stored.
    fn end(&self, name: &StreamRef, last: Option<FragmentNumber>) -> Result<FragmentNumber, Error> {
        if let Some(last) = last {
            return Ok(last);
        }
        let mut token = None;
        let mut newest = FragmentNumber::MIN;
        loop {
            let now_ms = self.0.clock.now_ms();
            let page = self.0.store.list_fragments(name, None, PAGE, token.as_deref(), now_ms)?;
            newest = page.fragments.last().map_or(newest, |f| f.number.max(newest));
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
        let mut sound = Sound::new(reader, self.0.clock, None);
        // A fragment that was stored, or is being written: its header is there at once.
        match tokio::time::timeout(std::time::Duration::from_secs(5), sound.next()).await {
            Ok(Some(Sounding::Fragment { tracks, .. })) => Ok(tracks),
            _ => Err(Error::NotThere("the beginning of the stream is not kept any more")),
        }
    }
}
