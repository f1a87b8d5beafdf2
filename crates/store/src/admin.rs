//! Streams as a whole: names, ARNs, creation, changes, deletion. Each change of a record is durable before it is seen.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use object_store::UpdateVersion;

use crate::crypt;
use crate::error::{Error, Limit};
use crate::keys::WrappedKey;
use crate::layout::Uid;
use crate::object::Created;
use crate::record::{Record, Status, new_version};
use crate::sealed;
use crate::store::{Inner, NewKey};
use crate::stream::{State, Stream};

/// Ten years, as Amazon has it.
pub const MAX_RETENTION_H: u32 = 87_600;
/// Tags of one stream, as Amazon has it.
const MAX_TAGS: usize = 50;
const MAX_NAME_BYTES: usize = 256;
const MAX_TEXT_BYTES: usize = 128;

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRef {
    /// By its name.
    Name(String),
    /// By its ARN.
    Arn(Arn),
}

/// `arn:aws:kinesisvideo:<region>:<account>:stream/<name>/<created ms>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arn {
    text: String,
    name: std::ops::Range<usize>,
    created_ms: u64,
}

impl Arn {
    pub(crate) fn new(region: &str, account: &str, record: &Record) -> Self {
        let prefix = format!("arn:aws:kinesisvideo:{region}:{account}:stream/");
        let name = prefix.len()..prefix.len() + record.name.len();
        let text = format!("{prefix}{}/{}", record.name, record.created_ms);
        Self { text, name, created_ms: record.created_ms }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.text[self.name.clone()]
    }

    /// When the stream was made, in milliseconds since 1970.
    pub fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Arn {
    type Err = Error;

    /// Region and account may be any: a store answers for its own streams only.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::InvalidArgument("StreamARN: not the ARN of a stream".into());
        let mut parts = text.splitn(6, ':');
        let head = [parts.next(), parts.next(), parts.next()];
        let resource = parts.nth(2).ok_or_else(bad)?;
        let rest = resource.strip_prefix("stream/").ok_or_else(bad)?;
        let (name, created) = rest.split_once('/').ok_or_else(bad)?;
        if head != [Some("arn"), Some("aws"), Some("kinesisvideo")] || check_name(name).is_err() {
            return Err(bad());
        }
        let start = text.len() - rest.len();
        let created_ms = created.parse().map_err(|_| bad())?;
        Ok(Self { text: text.to_owned(), name: start..start + name.len(), created_ms })
    }
}

/// What a new stream shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewStream {
    /// 1 to 256 of `A-Z a-z 0-9 _ . -`.
    pub name: String,
    /// Such as `audio/L16`; may be empty.
    pub media_type: String,
    /// May be empty.
    pub device_name: String,
    /// Name of the key that protects it; `None`: the provider's default.
    pub key: Option<String>,
    /// 0: nothing ever touches the storage.
    pub retention_h: u32,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
    /// Known to this process only, without retention: not even its name touches the storage, and it ends with the process.
    pub in_memory: bool,
}

/// What a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: Arn,
    /// 20 characters, new with each change.
    pub version: String,
    /// In use, or on its way out.
    pub status: Status,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// May be empty.
    pub media_type: String,
    /// May be empty.
    pub device_name: String,
    /// Name of the key that protects it.
    pub key: String,
    /// Hours for which fragments are kept.
    pub retention_h: u32,
    /// Stored fragments.
    pub fragments: u64,
    /// Bytes of their media.
    pub bytes: u64,
    /// Known to this process only, as [`NewStream::in_memory`] has it.
    pub in_memory: bool,
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        let what = "StreamName: 1 to 256 letters, digits, and _ . -";
        return Err(Error::InvalidArgument(what.into()));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::InvalidArgument(format!("{what}: at most {MAX_TEXT_BYTES} bytes")));
    }
    Ok(())
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Limit::Tags.into());
    }
    if tags.iter().any(|(k, v)| k.is_empty() || k.len() > 128 || v.len() > 256) {
        return Err(Error::InvalidArgument("Tags: keys of 1 to 128 bytes, values of at most 256".into()));
    }
    Ok(())
}

fn check_retention(hours: u32) -> Result<(), Error> {
    if hours > MAX_RETENTION_H {
        return Err(Error::InvalidArgument(format!("DataRetentionInHours: 0 to {MAX_RETENTION_H}")));
    }
    Ok(())
}

fn check_new(new: &NewStream) -> Result<(), Error> {
    check_name(&new.name)?;
    check_text("MediaType", &new.media_type)?;
    check_text("DeviceName", &new.device_name)?;
    check_retention(new.retention_h)?;
    if new.in_memory && new.retention_h > 0 {
        return Err(Error::InvalidArgument("DataRetentionInHours: a stream in memory keeps nothing".into()));
    }
    check_tags(&new.tags)
}

impl Inner {
    pub(crate) fn info(&self, stream: &Stream) -> StreamInfo {
        let state = stream.state();
        let r = &state.record;
        StreamInfo {
            name: r.name.clone(),
            arn: Arn::new(&self.config.region, &self.config.account, r),
            version: r.version.clone(),
            status: r.status,
            created_ms: r.created_ms,
            media_type: r.media_type.clone(),
            device_name: r.device_name.clone(),
            key: r.key.clone(),
            retention_h: r.retention_h,
            fragments: state.index.len() as u64,
            bytes: state.index.bytes(),
            in_memory: state.in_memory,
        }
    }

    pub(crate) async fn create(&self, new: NewStream, now_ms: u64) -> Result<StreamInfo, Error> {
        check_new(&new)?;
        self.creation(&new.name, now_ms)?;
        let (uid, in_memory) = (Uid(crypt::random()), new.in_memory);
        let key = new.key.unwrap_or_else(|| self.keys.default_key().to_owned());
        let data_key = if in_memory { None } else { Some(self.new_key(uid, 0, &key).await?) };
        let _admin = self.admin.lock().await;
        let record = Record {
            created_ms: self.creation(&new.name, now_ms)?,
            version: new_version(),
            status: Status::Active,
            media_type: new.media_type,
            device_name: new.device_name,
            key,
            retention_h: new.retention_h,
            tags: new.tags,
            dek: 0,
            dek_since: 1,
            next_counter: 1,
            last_server_ms: 0,
            name: new.name,
        };
        let stream = match data_key {
            None => Arc::new(Stream::new(uid, State { in_memory, ..State::new(record, None) })),
            Some(data_key) => self.write_new(uid, record, &data_key).await?,
        };
        self.streams().insert(stream.clone());
        Ok(self.info(&stream))
    }

    /// When a stream of that name would be created now.
    fn creation(&self, name: &str, now_ms: u64) -> Result<u64, Error> {
        let streams = self.streams();
        if streams.by_name.contains_key(name) {
            return Err(Error::StreamExists);
        }
        if streams.by_uid.len() >= self.config.max_streams {
            return Err(Limit::Streams.into());
        }
        Ok(streams.creation(now_ms))
    }

    /// Key, record, name, in this order: what has no name was never created, and is removed when the store is opened.
    async fn write_new(&self, uid: Uid, record: Record, data_key: &NewKey) -> Result<Arc<Stream>, Error> {
        data_key.wrapped.create(&self.objects, &data_key.path).await?;
        let version = self.write_record(uid, &record, None).await?;
        let name = self.layout.name(&self.account.hide(&record.name));
        let text = uid.to_string();
        if self.objects.create(&name, text.clone().into()).await? == Created::Exists {
            // Another node has it; or a deletion was cut off between record and name.
            let there = self.objects.get(&name).await?;
            let owner = there.and_then(|(bytes, _)| Uid::parse(std::str::from_utf8(&bytes).ok()?));
            let taken = match owner {
                Some(owner) => self.objects.get(&self.layout.record(owner)).await?.is_some(),
                None => false,
            };
            if taken {
                self.remove_new(uid).await;
                return Err(Error::StreamExists);
            }
            self.objects.replace(&name, text.into(), None).await?;
        }
        let stream = Stream::new(uid, State::new(record, Some(version)));
        stream.state().keys.insert(0, data_key.key.clone());
        Ok(Arc::new(stream))
    }

    /// Takes back what has no name. Failing is harmless: opening the store does it again.
    async fn remove_new(&self, uid: Uid) {
        for path in [self.layout.record(uid), self.layout.dek(uid, 0)] {
            let _ = self.objects.delete(&path).await;
        }
    }

    async fn write_record(
        &self,
        uid: Uid,
        record: &Record,
        over: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, Error> {
        let path = self.layout.record(uid);
        let plain = serde_json::to_vec(record).expect("a record has a JSON form");
        let object = sealed::seal_small(&self.record_key(uid), 0, &path, &plain);
        self.objects.replace(&path, object.into(), over).await
    }

    /// Changes a record; the caller holds `admin`. With `renew` it gets a new version, as a client's change does.
    pub(crate) async fn change(
        &self,
        stream: &Stream,
        renew: bool,
        change: impl FnOnce(&mut Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut record, mut over) = {
            let state = stream.state();
            (state.record.clone(), state.version.clone())
        };
        change(&mut record)?;
        if renew {
            record.version = new_version();
        }
        if stream.state().in_memory {
            stream.state().record = record;
            return Ok(());
        }
        let written = self.write_record(stream.uid, &record, over.as_ref()).await;
        if matches!(written, Err(Error::VersionMismatch)) {
            // Ours is not the last word: an earlier write whose answer got lost, or another node's.
            (record, over) = crate::recover::load_record(self, stream.uid).await?;
        } else {
            over = written.as_ref().ok().cloned();
        }
        if over.is_some() {
            let mut state = stream.state();
            state.record = record;
            state.version = over;
        }
        written.map(|_| ())
    }

    /// For a client's change: active, and of the version the client knows.
    fn checked(record: &Record, version: Option<&str>) -> Result<(), Error> {
        if record.status != Status::Active {
            return Err(Error::StreamNotActive);
        }
        match version {
            Some(version) if version != record.version => Err(Error::VersionMismatch),
            _ => Ok(()),
        }
    }

    pub(crate) async fn update(
        &self,
        stream: &StreamRef,
        version: &str,
        media_type: Option<String>,
        device_name: Option<String>,
    ) -> Result<(), Error> {
        let stream = self.find(stream)?;
        check_text("MediaType", media_type.as_deref().unwrap_or_default())?;
        check_text("DeviceName", device_name.as_deref().unwrap_or_default())?;
        let _admin = self.admin.lock().await;
        let change = |record: &mut Record| {
            Self::checked(record, Some(version))?;
            record.media_type = media_type.unwrap_or(std::mem::take(&mut record.media_type));
            record.device_name = device_name.unwrap_or(std::mem::take(&mut record.device_name));
            Ok(())
        };
        self.change(&stream, true, change).await
    }

    pub(crate) async fn tag(
        &self,
        stream: &StreamRef,
        set: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<(), Error> {
        let stream = self.find(stream)?;
        let _admin = self.admin.lock().await;
        let change = |record: &mut Record| {
            Self::checked(record, None)?;
            record.tags.retain(|key, _| !remove.contains(key));
            record.tags.extend(set);
            check_tags(&record.tags)
        };
        self.change(&stream, true, change).await
    }

    pub(crate) async fn update_retention(
        &self,
        stream: &StreamRef,
        version: &str,
        hours: u32,
        now_ms: u64,
    ) -> Result<(), Error> {
        let stream = self.find(stream)?;
        check_retention(hours)?;
        let _admin = self.admin.lock().await;
        {
            // No fragment is being stored while the rule changes.
            let _gate = stream.gate.write().await;
            let in_memory = stream.state().in_memory;
            let change = |record: &mut Record| {
                Self::checked(record, Some(version))?;
                if in_memory && hours > 0 {
                    let what = "DataRetentionChangeInHours: this stream is in memory only";
                    return Err(Error::InvalidArgument(what.into()));
                }
                record.retention_h = hours;
                Ok(())
            };
            self.change(&stream, true, change).await?;
            let mut state = stream.state();
            if hours == 0
                && let Some(journal) = &self.journal
            {
                journal.forget(stream.uid);
            }
            if hours > 0 {
                // What was in memory only was never promised to stay.
                state.live.retain(|_, live| live.end().is_none());
            }
        }
        crate::sweep::expire(self, &stream, now_ms).await?;
        stream.wake();
        Ok(())
    }

    /// Gives the stream a new data key.
    pub(crate) async fn rotate(&self, stream: &Stream) -> Result<(), Error> {
        let (id, name) = {
            let state = stream.state();
            Self::checked(&state.record, None)?;
            if state.in_memory {
                return Ok(());
            }
            (state.record.dek + 1, state.record.key.clone())
        };
        let NewKey { wrapped, path, key } = self.new_key(stream.uid, id, &name).await?;
        let _admin = self.admin.lock().await;
        {
            let record = &stream.state().record;
            Self::checked(record, None)?;
            if record.dek + 1 != id {
                // It has a new one meanwhile.
                return Ok(());
            }
        }
        // An attempt that was cut off behind the key has left one that nothing uses.
        WrappedKey::destroy(&self.objects, &path).await?;
        wrapped.create(&self.objects, &path).await?;
        let since = stream.state().next_counter;
        let change = |record: &mut Record| {
            (record.dek, record.dek_since) = (id, since);
            Ok(())
        };
        self.change(stream, false, change).await?;
        stream.state().keys.insert(id, key);
        Ok(())
    }

    pub(crate) async fn delete(&self, stream: &StreamRef, version: Option<&str>) -> Result<(), Error> {
        let stream = self.find(stream)?;
        let _admin = self.admin.lock().await;
        let change = |record: &mut Record| {
            Self::checked(record, version)?;
            record.status = Status::Deleting;
            Ok(())
        };
        self.change(&stream, true, change).await?;
        self.finish_deletion(&stream).await
    }

    /// The steps behind the decision; each may be repeated after a crash. The caller holds `admin`.
    pub(crate) async fn finish_deletion(&self, stream: &Stream) -> Result<(), Error> {
        stream.wake();
        // What is being stored right now is stored, and then removed with the rest.
        let _gate = stream.gate.write().await;
        let (last_key, name) = {
            let mut state = stream.state();
            state.keys.clear();
            state.headers.clear();
            if let Some(journal) = &self.journal {
                journal.forget(stream.uid);
            }
            (state.record.dek, state.record.name.clone())
        };
        if stream.state().in_memory {
            stream.state().live.clear();
            self.streams().remove(stream);
            stream.wake();
            return Ok(());
        }
        for id in 0..=last_key + 1 {
            WrappedKey::destroy(&self.objects, &self.layout.dek(stream.uid, id)).await?;
        }
        let record = self.layout.record(stream.uid);
        for object in self.objects.list(&self.layout.stream(stream.uid)).await? {
            if object.path != record {
                self.objects.delete(&object.path).await?;
            }
        }
        self.objects.delete(&record).await?;
        self.objects.delete(&self.layout.name(&self.account.hide(&name))).await?;
        self.counters.removed(stream.state().index.bytes());
        self.streams().remove(stream);
        stream.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart() {
        let text = "arn:aws:kinesisvideo:us-west-2:000000000000:stream/a-connect-b-contact-c/1700000000000";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(
            (arn.name(), arn.created_ms(), arn.as_str()),
            ("a-connect-b-contact-c", 1_700_000_000_000, text)
        );
        for bad in [
            "",
            "arn:aws:kinesisvideo:::stream/x",
            "arn:aws:kinesisvideo:::stream/x/y",
            "arn:aws:kinesis:::stream/x/1",
            "arn:aws:kinesisvideo:::stream/a/b/1",
            "arn:aws:kinesisvideo:::channel/x/1",
        ] {
            assert!(bad.parse::<Arn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_no_path_tricks() {
        for bad in ["", "a/b", "a b", "ä", "a\0", &"x".repeat(257)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name(&"x".repeat(256)).unwrap();
        check_name("..").unwrap();
    }
}
