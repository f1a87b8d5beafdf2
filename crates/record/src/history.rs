//! What is known of a contact's streaming: kept as tags of its stream, so that it lasts as long as the media and is as secret,
//! and shown in the spellings of contact records and of the events that flows give to functions.

use std::collections::BTreeMap;

use antiphon_base::RoomName;
use antiphon_store::{FragmentNumber, StreamInfo};
use serde_json::{Value, json};

use crate::contact::ContactId;
use crate::settings::Settings;

/// Starts that are remembered of one contact; with more the oldest are forgotten (their media stay).
const MAX_RUNS: usize = 8;

/// Tags of a stream.
pub(crate) type Tags = BTreeMap<String, String>;

/// From a start to its stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Milliseconds since 1970.
    pub start_ms: u64,
    /// The same; absent while it runs, and where the server ended meanwhile.
    pub stop_ms: Option<u64>,
    /// The anchor fragment: everything comes after it.
    pub first: FragmentNumber,
    /// The last fragment, itself part of it.
    pub last: Option<FragmentNumber>,
    /// The contact's camera was to be kept, too.
    pub video: bool,
}

/// At the end of a run's text.
const VIDEO: &str = "video";

impl Run {
    fn to_text(&self) -> String {
        let stop = self.stop_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let last = self.last.map(|n| n.to_string()).unwrap_or_default();
        let video = if self.video { ",video" } else { "" };
        format!("{},{stop},{},{last}{video}", self.start_ms, self.first)
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let (start, stop, first, last, video) = match parts[..] {
            [start, stop, first, last] => (start, stop, first, last, false),
            [start, stop, first, last, VIDEO] => (start, stop, first, last, true),
            _ => return None,
        };
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Self {
            start_ms: start.parse().ok()?,
            stop_ms: given(stop).map(|t| t.parse()).transpose().ok()?,
            first: first.parse().ok()?,
            last: given(last).map(|t| t.parse()).transpose().ok()?,
            video,
        })
    }
}

/// A stream of a contact, and what was put into it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The stream.
    pub stream: StreamInfo,
    /// The oldest first; at least one.
    pub runs: Vec<Run>,
}

impl Kept {
    /// `None`: it is not a stream of this contact, or nothing was put into it.
    pub(crate) fn read(contact: &ContactId, stream: StreamInfo, tags: &Tags) -> Option<Self> {
        let runs = tags.range("Run.".to_owned()..).take_while(|(k, _)| k.starts_with("Run."));
        let runs: Vec<Run> = runs.filter_map(|(_, v)| Run::parse(v)).collect();
        (is_of(tags, contact) && !runs.is_empty()).then_some(Self { stream, runs })
    }

    /// The last start.
    pub(crate) fn latest(&self) -> &Run {
        self.runs.last().expect("something was put into it")
    }
}

/// A contact's streaming, from the tags of its streams.
#[derive(Debug, Clone)]
pub struct History {
    /// Whose.
    pub contact: ContactId,
    /// The stream of its last start.
    pub stream: StreamInfo,
    /// Where it was started last.
    pub room: Option<RoomName>,
    /// Those into that stream. The oldest first; at least one.
    pub runs: Vec<Run>,
    /// It is being streamed now.
    pub running: bool,
    /// Its other streams, where the settings have changed between starts.
    pub others: Vec<Kept>,
}

impl History {
    /// `None`: none of the streams has anything of the contact.
    pub(crate) fn read(contact: &ContactId, streams: Vec<(StreamInfo, Tags)>, running: bool) -> Option<Self> {
        let read = |(stream, tags): (StreamInfo, Tags)| {
            let room = tags.get("Room").and_then(|r| RoomName::new(r).ok());
            Some((Kept::read(contact, stream, &tags)?, room))
        };
        let mut kept: Vec<_> = streams.into_iter().filter_map(read).collect();
        kept.sort_by_key(|(kept, _)| kept.latest().start_ms);
        let (Kept { stream, runs }, room) = kept.pop()?;
        let others = kept.into_iter().map(|(kept, _)| kept).collect();
        Some(Self { contact: contact.clone(), stream, room, runs, running, others })
    }

    /// All starts with their streams, the oldest first.
    fn all(&self) -> Vec<(&StreamInfo, &Run)> {
        let of = |stream, runs| std::iter::repeat(stream).zip(runs);
        let others = self.others.iter().flat_map(|kept| of(&kept.stream, &kept.runs));
        let mut all: Vec<_> = others.chain(of(&self.stream, &self.runs)).collect();
        all.sort_by_key(|(_, run)| run.start_ms);
        all
    }

    /// The start whose anchor that is, with its stream.
    pub(crate) fn started_at(&self, first: FragmentNumber) -> Option<(&StreamInfo, &Run)> {
        self.all().into_iter().find(|(_, run)| run.first == first)
    }

    /// The anchor of the start that came after another into the same stream.
    pub(crate) fn next_start(&self, stream: &StreamInfo, first: FragmentNumber) -> Option<FragmentNumber> {
        let same = self.all().into_iter().filter(|(other, _)| other.name == stream.name);
        same.map(|(_, run)| run.first).filter(|other| *other > first).min()
    }

    /// The last start.
    pub fn latest(&self) -> &Run {
        self.runs.last().expect("a history has a run")
    }

    /// `$.MediaStreams.Customer.Audio`: the attributes that flows hand on. All are text; old and new spellings.
    pub fn attributes(&self) -> Value {
        let run = self.latest();
        let number = |n: Option<FragmentNumber>| n.map(|n| n.to_string());
        let mut audio = json!({
            "StreamARN": self.stream.arn.as_str(),
            "StartTimestamp": run.start_ms.to_string(),
            "StartFragmentNumber": run.first.to_string(),
            "StartPosition": run.first.to_string(),
        });
        if let Some(ms) = run.stop_ms {
            audio["StopTimestamp"] = ms.to_string().into();
        }
        if let Some(last) = number(run.last) {
            audio["StopFragmentNumber"] = last.clone().into();
            audio["StopPosition"] = last.into();
        }
        json!({ "ContactId": self.contact, "MediaStreams": { "Customer": { "Audio": audio } } })
    }

    /// The contact record: `Recordings` has every start, `ContactData` what a function would be given.
    pub fn record(&self) -> Value {
        let status = |run: &Run| match run.stop_ms {
            Some(_) => "AVAILABLE",
            None if self.running && run.first == self.latest().first => "IN_PROGRESS",
            None => "INTERRUPTED",
        };
        let recording = |stream: &StreamInfo, run: &Run, kind: &str| {
            let mut recording = json!({
                "StorageType": "KINESIS_VIDEO_STREAM",
                "Location": stream.arn.as_str(),
                "MediaStreamType": kind,
                "ParticipantType": "CUSTOMER",
                "FragmentStartNumber": run.first.to_string(),
                "StartTimestamp": run.start_ms.to_string(),
                "Status": status(run),
            });
            if let Some(last) = run.last {
                recording["FragmentStopNumber"] = last.to_string().into();
            }
            if let Some(ms) = run.stop_ms {
                recording["StopTimestamp"] = ms.to_string().into();
            }
            recording
        };
        let attributes = self.attributes();
        let kinds = |run: &Run| if run.video { &["AUDIO", "VIDEO"][..] } else { &["AUDIO"] };
        let all = self.all();
        let video = all.iter().any(|(_, run)| run.video);
        let recordings =
            all.iter().flat_map(|(stream, run)| kinds(run).iter().map(|kind| recording(stream, run, kind)));
        let streams = [Some("AUDIO"), video.then_some("VIDEO")];
        let streams: Vec<Value> = streams.into_iter().flatten().map(|kind| json!({ "Type": kind })).collect();
        json!({
            "ContactId": self.contact,
            "InitialContactId": self.contact,
            "Channel": "VOICE",
            "MediaStreams": streams,
            "Recordings": recordings.collect::<Vec<_>>(),
            "ContactData": {
                "Attributes": {},
                "Channel": "VOICE",
                "ContactId": self.contact,
                "InitialContactId": self.contact,
                "MediaStreams": attributes["MediaStreams"],
            },
        })
    }
}

/// The record of a contact that was never streamed: lists that programs look into are there, and empty.
pub(crate) fn empty_record(contact: &ContactId) -> Value {
    json!({
        "ContactId": contact,
        "InitialContactId": contact,
        "Channel": "VOICE",
        "MediaStreams": [],
        "Recordings": [],
    })
}

/// Tags to set and to remove when a run has changed: the numbers of runs go up for ever.
pub(crate) fn tags_of(before: &Tags, change: RunChange<'_>) -> (Tags, Vec<String>) {
    let names: Vec<&String> = before.keys().filter(|k| k.starts_with("Run.")).collect();
    let last: u64 = names.last().and_then(|n| n[4..].parse().ok()).unwrap_or(0);
    let (number, run) = match change {
        RunChange::Started(run) => (last + 1, run),
        RunChange::Stopped(run) => (last, run),
    };
    let set = BTreeMap::from([(format!("Run.{number:06}"), run.to_text())]);
    let over = (names.len() + usize::from(number > last)).saturating_sub(MAX_RUNS);
    (set, names.into_iter().take(over).cloned().collect())
}

/// Whether a stream with these tags is a contact's.
pub(crate) fn is_of(tags: &Tags, contact: &ContactId) -> bool {
    tags.get("ContactId").is_some_and(|id| id == contact.as_str())
}

/// What happened to a run.
pub(crate) enum RunChange<'a> {
    /// A new one.
    Started(&'a Run),
    /// The last one.
    Stopped(&'a Run),
}

/// Tags that a contact's stream has from its creation.
pub(crate) fn first_tags(contact: &ContactId, settings: &Settings) -> Tags {
    let pairs = [("ContactId", contact.as_str()), ("InstanceId", &settings.instance)];
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start_ms: u64, stop: Option<u64>) -> Run {
        let number = |ms| FragmentNumber::new(ms, ms, 1);
        Run {
            start_ms,
            stop_ms: stop,
            first: number(start_ms),
            last: stop.map(number),
            video: start_ms.is_multiple_of(2),
        }
    }

    #[test]
    fn runs_come_back_and_made_up_ones_do_not() {
        for run in [run(5, Some(9)), run(7, None), run(8, Some(9)), run(10, None)] {
            assert_eq!(Run::parse(&run.to_text()), Some(run));
        }
        for bad in ["", ",,,", "1,2,3", "x,,5,", "1,,,", "1,2,3,4,5", "5,,,,video"] {
            assert_eq!(Run::parse(bad), None, "{bad}");
        }
        let text = run(u64::MAX, Some(u64::MAX)).to_text();
        assert!(text.len() <= 256, "a tag's value has room for it: {}", text.len());
    }

    #[test]
    fn the_oldest_runs_are_forgotten() {
        let mut tags = BTreeMap::new();
        for i in 0..20 {
            for change in [RunChange::Started(&run(i, None)), RunChange::Stopped(&run(i, Some(i + 1)))] {
                let (set, remove) = tags_of(&tags, change);
                tags.retain(|k, _| !remove.contains(k));
                tags.extend(set);
            }
        }
        let kept: Vec<_> = tags.values().filter_map(|v| Run::parse(v)).collect();
        assert_eq!(kept, (12..20).map(|i| run(i, Some(i + 1))).collect::<Vec<_>>());
    }
}
