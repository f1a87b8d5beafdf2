//! The streams of a contact: which one a start takes, what all of them tell, and when one is over.
//!
//! A stream's retention, key and media type hold for all that is in it. A start takes a stream of the contact in which they are as they
//! shall be now, or makes a further one: what was kept for a day is not kept for a year because the settings say so later, and what is
//! to be kept nowhere does not get to a disk because an earlier start was.

use std::time::Duration;

use antiphon_store::{NewStream, Status as StreamStatus, StreamInfo, StreamRef};

use crate::contact::ContactId;
use crate::contacts::Status;
use crate::error::Error;
use crate::history::{self, History, Kept, Tags};
use crate::options::{Form, Options, is_ours};
use crate::recorder::{Inner, Recorder};
use crate::settings::Settings;

/// Streams of one contact that have a name by the same settings: other retentions, keys and codecs in one call, and names that others
/// took.
const MAX_STREAMS: u32 = 8;
/// A stream that keeps nothing is removed so long after its last fragment: what is in memory is that old at most.
const MEMORY: Duration = Duration::from_secs(300);
/// Streams looked at in one go.
const PAGE: usize = 1_000;

impl Recorder {
    /// Removes contacts' streams of which nothing is kept any more. Meant to be called once a minute, after the store's sweep.
    pub async fn sweep(&self) -> u64 {
        let (mut removed, mut after) = (self.0.rooms.sweep().await, String::new());
        loop {
            let page = self.0.store.list_streams("", &after, PAGE);
            let Some(last) = page.last() else { return removed };
            after.clone_from(&last.name);
            for stream in page {
                if self.0.is_over(&stream) {
                    let name = StreamRef::Name(stream.name);
                    match self.0.store.delete_stream(&name, Some(&stream.version)).await {
                        Ok(()) => removed += 1,
                        Err(error) => tracing::debug!(%error, "an empty stream was not removed"),
                    }
                }
            }
        }
    }
}

impl Inner {
    /// The stream that a start takes; made if there is none that is kept as it shall be now.
    pub(crate) async fn stream(
        &self,
        id: &ContactId,
        settings: &Settings,
        options: &Options,
    ) -> Result<StreamInfo, Error> {
        let retention_h = settings.retention_h();
        let mut tags = history::first_tags(id, settings);
        tags.extend(options.tags.clone());
        let mut new = NewStream {
            media_type: if options.codec == Form::Opus { "audio/opus" } else { "audio/L16" }.into(),
            key: Some(settings.key.clone()).filter(|key| !key.is_empty()),
            retention_h,
            tags,
            in_memory: retention_h == 0,
            ..NewStream::default()
        };
        for number in 1..=MAX_STREAMS {
            new.name = settings.stream_name(id, number);
            match self.store.create_stream(new.clone(), self.clock.now_ms()).await {
                Err(antiphon_store::Error::StreamExists) => {}
                created => return Ok(created?),
            }
            let Some((there, tags)) = self.described(&new.name) else { continue };
            if history::is_of(&tags, id) && self.is_kept_as(&there, &new) {
                let name = StreamRef::Arn(there.arn);
                // Those of the start before are not of this one.
                let old: Vec<String> = tags.into_keys().filter(|name| !is_ours(name)).collect();
                self.store.tag(&name, options.tags.clone(), &old).await?;
                return Ok(self.store.describe(&name)?);
            }
        }
        Err(Error::NamesTaken)
    }

    /// Whether what a stream says of all that is in it is what a new one would say.
    fn is_kept_as(&self, there: &StreamInfo, new: &NewStream) -> bool {
        let key = new.key.as_deref().unwrap_or_else(|| self.store.default_key());
        there.retention_h == new.retention_h
            && there.in_memory == new.in_memory
            && there.key == key
            && there.media_type == new.media_type
    }

    /// A stream that is in use, with its tags.
    fn described(&self, name: &str) -> Option<(StreamInfo, Tags)> {
        let name = StreamRef::Name(name.to_owned());
        let stream = self.store.describe(&name).ok().filter(|s| s.status == StreamStatus::Active)?;
        Some((stream, self.store.tags(&name).ok()?))
    }

    /// What is known of a contact's streaming: of the last start, and of others whose streams have names by the settings in force.
    pub(crate) fn history(&self, id: &ContactId) -> Option<History> {
        let (last, running) = self.last(id);
        let settings = self.settings.get().0;
        let mut names: Vec<String> = (1..=MAX_STREAMS).map(|n| settings.stream_name(id, n)).collect();
        names.extend(last.filter(|last| !names.contains(last)));
        let streams = names.iter().filter_map(|name| self.described(name)).collect();
        History::read(id, streams, running).or_else(|| self.whole_history(id))
    }

    /// The same of all its streams, also from before prefix or instance were changed. Looks at every stream of the store.
    pub(crate) fn whole_history(&self, id: &ContactId) -> Option<History> {
        let streams = self.all_streams(id).into_iter().filter_map(|stream| self.described(&stream.name));
        History::read(id, streams.collect(), self.last(id).1)
    }

    /// The stream of the last start, and whether it runs.
    fn last(&self, id: &ContactId) -> (Option<String>, bool) {
        let contacts = self.contacts();
        let Some(contact) = contacts.get(id) else { return (None, false) };
        (contact.stream.clone(), matches!(contact.status, Status::Running { .. }))
    }

    /// Every stream that is this contact's.
    pub(crate) fn all_streams(&self, id: &ContactId) -> Vec<StreamInfo> {
        let end = format!("-contact-{id}");
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.store.list_streams("", &after, PAGE);
            let Some(last) = page.last() else { return found };
            after.clone_from(&last.name);
            let named = page.into_iter().filter(|s| s.name.ends_with(&end));
            found.extend(named.filter(|s| {
                self.store.tags(&StreamRef::Arn(s.arn.clone())).is_ok_and(|tags| history::is_of(&tags, id))
            }));
        }
    }

    /// Whether a stream is a contact's, ended, and nothing of it is kept any more.
    fn is_over(&self, stream: &StreamInfo) -> bool {
        let Ok(tags) = self.store.tags(&StreamRef::Name(stream.name.clone())) else { return false };
        let Some(id) = tags.get("ContactId").and_then(|id| ContactId::new(id).ok()) else { return false };
        let idle = self.contacts().get(&id).is_none_or(|c| matches!(c.status, Status::Idle));
        let Some(kept) = Kept::read(&id, stream.clone(), &tags) else { return false };
        let retention = match stream.retention_h {
            0 => MEMORY,
            hours => Duration::from_secs(u64::from(hours) * 3_600),
        };
        let ended = kept.latest().stop_ms.unwrap_or(kept.latest().start_ms);
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        idle && stream.fragments == 0 && ended.saturating_add(retention_ms) <= self.clock.now_ms()
    }
}
