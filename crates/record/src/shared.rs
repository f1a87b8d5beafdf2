//! Contacts in streams that are not theirs alone: a producer over PutMedia may send one caller after another into one stream, as contact
//! centres that use their streams again do. What is there of a contact is found by the store's index; there is no start fragment before it,
//! so the first fragment is the first of the contact's.

use antiphon_store::{FragmentNumber, Start, StreamInfo, StreamRef, Stretch};
use serde_json::{Value, json};

use crate::contact::ContactId;
use crate::error::Error;
use crate::history::Kept;
use crate::recorder::{Inner, Recorder};
use crate::sound::{self, Sound};
use crate::wav::{Wanted, Wav, Weave};

/// Stretches that a contact record shows: the newest.
const MAX_SHOWN: usize = 64;

/// What one stream has of a contact, from one fragment to another.
pub(crate) type Part = (StreamInfo, Stretch);

impl Inner {
    /// What others than we have put into streams of a contact, the oldest first.
    pub(crate) fn parts(&self, id: &ContactId) -> Vec<Part> {
        let found = self.store.contact(id.as_str(), self.clock.now_ms());
        let others = found.into_iter().filter(|(stream, _)| !self.is_own(id, stream));
        let mut parts: Vec<Part> =
            others.flat_map(|(stream, all)| all.into_iter().map(move |one| (stream.clone(), one))).collect();
        parts.sort_by_key(|(_, stretch)| stretch.from_ms);
        parts
    }

    /// Whether a stream is one that we made for the contact.
    fn is_own(&self, id: &ContactId, stream: &StreamInfo) -> bool {
        let tags = self.store.tags(&StreamRef::Arn(stream.arn.clone()));
        tags.is_ok_and(|tags| Kept::read(id, stream.clone(), &tags).is_some())
    }
}

/// Adds parts to a contact's record: as recordings that are over.
pub(crate) fn add(record: &mut Value, parts: &[Part]) {
    let Some((stream, last)) = parts.last() else { return };
    let shown = &parts[parts.len().saturating_sub(MAX_SHOWN)..];
    let entries = shown.iter().map(|(stream, stretch)| {
        json!({
            "StorageType": "KINESIS_VIDEO_STREAM",
            "Location": stream.arn.as_str(),
            "MediaStreamType": "AUDIO",
            "ParticipantType": "CUSTOMER",
            "FragmentStartNumber": stretch.first.to_string(),
            "FragmentStopNumber": stretch.last.to_string(),
            "StartTimestamp": stretch.from_ms.to_string(),
            "StopTimestamp": stretch.to_ms.to_string(),
            "Status": "AVAILABLE",
        })
    });
    let Some(recordings) = record["Recordings"].as_array_mut() else { return };
    recordings.extend(entries);
    recordings.sort_by_key(|one| one["StartTimestamp"].as_str().and_then(|ms| ms.parse::<u64>().ok()));
    if record["MediaStreams"].as_array().is_none_or(Vec::is_empty) {
        record["MediaStreams"] = json!([{ "Type": "AUDIO" }]);
    }
    if record["ContactData"].is_null() {
        let (first, stop) = (last.first.to_string(), last.last.to_string());
        record["ContactData"] = json!({
            "Attributes": {},
            "Channel": "VOICE",
            "ContactId": record["ContactId"],
            "InitialContactId": record["ContactId"],
            "MediaStreams": { "Customer": { "Audio": {
                "StreamARN": stream.arn.as_str(),
                "StartTimestamp": last.from_ms.to_string(),
                "StartFragmentNumber": first,
                "StartPosition": first,
                "StopTimestamp": last.to_ms.to_string(),
                "StopFragmentNumber": stop,
                "StopPosition": stop,
            } } },
        });
    }
}

impl Recorder {
    /// The sound of one part as a WAV file: of the one that begins with this fragment, or of the last. `None`: there is no such part.
    pub(crate) async fn part_wav(
        &self,
        contact: &ContactId,
        start: Option<FragmentNumber>,
        wanted: Wanted,
    ) -> Result<Option<Wav>, Error> {
        let parts = self.0.parts(contact);
        let found = match start {
            Some(first) => parts.iter().find(|(_, stretch)| stretch.first == first),
            None => parts.last(),
        };
        let Some((stream, stretch)) = found else { return Ok(None) };
        let name = StreamRef::Arn(stream.arn.clone());
        let header = self.0.store.header(&name, stretch.first).await?;
        let tracks = header.map(|header| sound::tracks(&header)).unwrap_or_default();
        let found = wanted.names().iter().map(|name| tracks.iter().find(|t| t.name == *name));
        let found =
            found.collect::<Option<Vec<_>>>().ok_or(Error::NotThere("the stream has no such track"))?;
        let rate = found[0].rate;
        let frames = stretch.to_ms.saturating_sub(stretch.from_ms) * u64::from(rate) / 1000;
        let (only, before) = ([contact.as_str().to_owned()], Start::After(stretch.first.before()));
        let reader = self.0.store.get_media_of(&name, Some(&only), before, self.0.clock.now_ms())?;
        let sound = Sound::new(reader, self.0.clock.clone(), Some(stretch.last));
        Ok(Some(Wav::new(sound, Weave::new(wanted, stretch.from_ms, rate), Some(frames))))
    }
}
