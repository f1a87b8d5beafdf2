//! What is played, and the token that says it: sealed with the node's key, so that it tells a player nothing and cannot be
//! made by one.

use antiphon_store::{Clock, FragmentInfo, FragmentNumber, Range, StreamRef};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use axum::http::{StatusCode, Uri};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::no_fragments;
use crate::error::KvsError;
use crate::model::{PlaybackRange, PlaybackSelector};
use crate::{Kvs, now_ms, time};

/// The longest token that is looked at: an ARN of the longest name fits twice.
const MAX_TOKEN_BYTES: usize = 2048;
/// How long a session is good, in seconds, as Amazon has it.
const EXPIRES_S: std::ops::RangeInclusive<u64> = 300..=43_200;
const DEFAULT_EXPIRES_S: u64 = 300;
/// Fragments of a playlist, as Amazon has it.
const MAX_RESULTS: usize = 5000;
const DEFAULT_LIVE_RESULTS: usize = 5;
const DEFAULT_STORED_RESULTS: usize = 1000;
/// The longest range of one session, as Amazon has it.
const MAX_RANGE_MS: u64 = 24 * 3_600_000;
/// A stream without a fragment for so long is not live.
const LIVE_WITHIN_MS: u64 = 30_000;
/// By how much a replay shows more than what has been played: a player fills its buffer with that.
const REPLAY_LEAD_MS: u64 = 10_000;

/// What is shown, from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// What comes.
    Live,
    /// What came since a time, as if it came now.
    Replay,
    /// What lies between two times.
    OnDemand,
}

/// When a player has to begin anew between two fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Discontinuity {
    Always,
    Never,
    /// Where times do not fit by more than 50 ms, as Amazon has it.
    Gaps,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    arn: String,
    pub(crate) mode: Mode,
    server_clock: bool,
    start_ms: u64,
    end_ms: u64,
    pub(crate) created_ms: u64,
    expires_ms: u64,
    pub(crate) max: usize,
    pub(crate) discontinuity: Discontinuity,
    /// Whether times and numbers of fragments are told.
    pub(crate) tell_times: bool,
    pub(crate) tell_numbers: bool,
    /// The time that is 0 to the player, and the fragment that is first.
    pub(crate) base_ms: u64,
    anchor: String,
    /// When that arrived.
    pub(crate) anchor_server_ms: u64,
}

/// Seals sessions.
pub(crate) struct SessionKey(LessSafeKey);

impl SessionKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("32 bytes are a key of AES-256");
        Self(LessSafeKey::new(key))
    }

    fn seal(&self, session: &Session) -> String {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives random numbers");
        let mut data = serde_json::to_vec(session).expect("a session has a JSON form");
        let sealed =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut data);
        sealed.expect("a session is far below the cipher's limit");
        BASE64URL_NOPAD.encode(&[&nonce[..], &data].concat())
    }

    /// Whether a token is one.
    pub(crate) fn opens(&self, token: &str) -> bool {
        self.open(token).is_some()
    }

    fn open(&self, token: &str) -> Option<Session> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let plain = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

/// What was asked for, with the words of either protocol.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) mode: Option<String>,
    pub(crate) selector: Option<PlaybackSelector>,
    pub(crate) expires_s: Option<u64>,
    pub(crate) max: Option<usize>,
    pub(crate) discontinuity: Option<String>,
    pub(crate) tell_times: Option<String>,
    pub(crate) tell_numbers: Option<String>,
}

fn always(text: Option<&str>, field: &str) -> Result<bool, KvsError> {
    match text {
        None | Some("NEVER") => Ok(false),
        Some("ALWAYS") => Ok(true),
        Some(_) => Err(KvsError::invalid(format!("{field}: ALWAYS or NEVER."))),
    }
}

/// `PRODUCER_TIMESTAMP` or `SERVER_TIMESTAMP`.
pub(crate) fn clock(text: &str) -> Result<Clock, KvsError> {
    match text {
        "PRODUCER_TIMESTAMP" => Ok(Clock::Producer),
        "SERVER_TIMESTAMP" => Ok(Clock::Server),
        _ => Err(KvsError::invalid("FragmentSelectorType: no such type.")),
    }
}

fn at(value: Option<&Value>, field: &str) -> Result<Option<u64>, KvsError> {
    let read =
        |value| time::from_json(value).ok_or_else(|| KvsError::invalid(format!("{field}: not a time.")));
    value.map(read).transpose()
}

/// Start and end, as far as they are there.
fn times(range: Option<&PlaybackRange>) -> Result<(Option<u64>, Option<u64>), KvsError> {
    let range = range.cloned().unwrap_or_default();
    let start = at(range.start_timestamp.as_ref(), "StartTimestamp")?;
    let end = at(range.end_timestamp.as_ref(), "EndTimestamp")?;
    if let (Some(start), Some(end)) = (start, end)
        && (start >= end || end - start > MAX_RANGE_MS)
    {
        return Err(KvsError::invalid("TimestampRange: begins after its end, or lasts more than 24 hours."));
    }
    Ok((start, end))
}

impl Session {
    /// Makes a session of what was asked for.
    pub(crate) fn new(kvs: &Kvs, stream: &StreamRef, wish: &Wish) -> Result<Self, KvsError> {
        let info = kvs.store().describe(stream)?;
        let mode = match wish.mode.as_deref() {
            None | Some("LIVE") => Mode::Live,
            Some("LIVE_REPLAY") => Mode::Replay,
            Some("ON_DEMAND") => Mode::OnDemand,
            Some(_) => return Err(KvsError::invalid("PlaybackMode: LIVE, LIVE_REPLAY or ON_DEMAND.")),
        };
        let expires_s = wish.expires_s.unwrap_or(DEFAULT_EXPIRES_S);
        if !EXPIRES_S.contains(&expires_s) {
            return Err(KvsError::invalid("Expires: 300 to 43200 seconds."));
        }
        let default = if mode == Mode::Live { DEFAULT_LIVE_RESULTS } else { DEFAULT_STORED_RESULTS };
        let max = wish.max.unwrap_or(default);
        if !(1..=MAX_RESULTS).contains(&max) {
            return Err(KvsError::invalid(format!("Max...FragmentResults: 1 to {MAX_RESULTS}.")));
        }
        let selector = wish.selector.as_ref();
        let kind = selector.and_then(|s| s.fragment_selector_type.as_deref());
        let clock = kind.map_or(Ok(Clock::Server), clock)?;
        let (start, end) = times(selector.and_then(|s| s.timestamp_range.as_ref()))?;
        let now = kvs.now_ms();
        let (start_ms, end_ms) = match (mode, start, end) {
            (Mode::Live, None, None) => (0, u64::MAX),
            (Mode::Live, ..) => return Err(KvsError::invalid("TimestampRange: not with LIVE.")),
            (Mode::Replay, Some(start), end) => (start, end.unwrap_or(u64::MAX)),
            (Mode::OnDemand, Some(start), Some(end)) => (start, end),
            _ => return Err(KvsError::invalid("TimestampRange: is needed with that PlaybackMode.")),
        };
        let mut session = Self {
            arn: info.arn.as_str().to_owned(),
            mode,
            server_clock: clock == Clock::Server,
            start_ms,
            end_ms,
            created_ms: now,
            expires_ms: now_ms() + expires_s * 1000,
            max,
            discontinuity: discontinuity(wish.discontinuity.as_deref())?,
            tell_times: always(wish.tell_times.as_deref(), "DisplayFragmentTimestamp")?,
            tell_numbers: always(wish.tell_numbers.as_deref(), "DisplayFragmentNumber")?,
            base_ms: 0,
            anchor: String::new(),
            anchor_server_ms: 0,
        };
        session.begin(kvs, now)?;
        Ok(session)
    }

    /// Fixes what is first.
    fn begin(&mut self, kvs: &Kvs, now: u64) -> Result<(), KvsError> {
        let window = self.window(kvs, now)?;
        let first = window.first().ok_or_else(no_fragments)?;
        if self.mode == Mode::Live {
            let last = window.last().map_or(0, |last| last.server_ms + last.duration_ms);
            if last + LIVE_WITHIN_MS < now {
                return Err(no_fragments());
            }
            self.start_ms = self.time_ms(first);
        }
        self.base_ms = self.time_ms(first);
        self.anchor = first.number.to_string();
        self.anchor_server_ms = first.server_ms;
        Ok(())
    }

    pub(crate) fn stream(&self) -> Result<StreamRef, KvsError> {
        Ok(StreamRef::Arn(self.arn.parse()?))
    }

    pub(crate) fn anchor(&self) -> FragmentNumber {
        self.anchor.parse().unwrap_or(FragmentNumber::MIN)
    }

    fn clock(&self) -> Clock {
        if self.server_clock { Clock::Server } else { Clock::Producer }
    }

    /// When a fragment begins, by the session's clock.
    pub(crate) fn time_ms(&self, fragment: &FragmentInfo) -> u64 {
        if self.server_clock { fragment.server_ms } else { fragment.producer_ms }
    }

    /// The fragments of a playlist at this time, oldest first.
    pub(crate) fn window(&self, kvs: &Kvs, now: u64) -> Result<Vec<FragmentInfo>, KvsError> {
        let (stream, clock) = (self.stream()?, self.clock());
        if self.mode == Mode::Live {
            return Ok(kvs.store().newest_fragments(&stream, clock, self.start_ms, self.max, now)?);
        }
        let mut found =
            range(kvs, &stream, Range { clock, start_ms: self.start_ms, end_ms: self.until(now) }, now)?;
        match self.mode {
            Mode::Replay => _ = found.drain(..found.len().saturating_sub(self.max)),
            Mode::Live | Mode::OnDemand => found.truncate(self.max),
        }
        Ok(found)
    }

    /// To where it is shown.
    fn until(&self, now: u64) -> u64 {
        match self.mode {
            Mode::Live | Mode::OnDemand => self.end_ms,
            Mode::Replay => {
                let played = now.saturating_sub(self.created_ms) + REPLAY_LEAD_MS;
                self.end_ms.min(self.start_ms.saturating_add(played))
            }
        }
    }

    /// Whether nothing comes any more.
    pub(crate) fn complete(&self, now: u64) -> bool {
        match self.mode {
            Mode::Live => false,
            Mode::OnDemand => true,
            Mode::Replay => self.until(now) == self.end_ms && self.end_ms <= now,
        }
    }

    /// The fragment that begins at a time of the player's.
    pub(crate) fn at(&self, kvs: &Kvs, time_ms: u64, now: u64) -> Result<FragmentNumber, KvsError> {
        let at = self.base_ms.saturating_add(time_ms);
        let range = Range { clock: self.clock(), start_ms: at, end_ms: at };
        let page = kvs.store().list_fragments(&self.stream()?, Some(range), 1, None, now)?;
        page.fragments.first().map(|f| f.number).ok_or_else(no_fragments)
    }

    /// Whether playback begins anew between two fragments.
    pub(crate) fn breaks(&self, before: &FragmentInfo, after: &FragmentInfo) -> bool {
        let apart = self.time_ms(after).abs_diff(self.time_ms(before) + before.duration_ms);
        before.header != after.header
            || match self.discontinuity {
                Discontinuity::Always => true,
                Discontinuity::Never => false,
                Discontinuity::Gaps => apart > 50,
            }
    }

    /// As it stands in addresses.
    pub(crate) fn token(&self, kvs: &Kvs) -> String {
        kvs.sessions().seal(self)
    }

    /// The session of a request by a player.
    pub(crate) fn of(kvs: &Kvs, token: &str) -> Result<Self, KvsError> {
        let refused = |message: &str| KvsError::new(StatusCode::FORBIDDEN, "NotAuthorizedException", message);
        let session = kvs.sessions().open(token).ok_or_else(|| refused("SessionToken: not one of ours."))?;
        if session.expires_ms <= now_ms() {
            return Err(refused("The session has expired. Get a new URL."));
        }
        Ok(session)
    }
}

fn discontinuity(text: Option<&str>) -> Result<Discontinuity, KvsError> {
    match text {
        None | Some("ALWAYS") => Ok(Discontinuity::Always),
        Some("NEVER") => Ok(Discontinuity::Never),
        Some("ON_DISCONTINUITY") => Ok(Discontinuity::Gaps),
        Some(_) => Err(KvsError::invalid("DiscontinuityMode: ALWAYS, NEVER or ON_DISCONTINUITY.")),
    }
}

/// All fragments of a range: at most as many as a day of the shortest has.
pub(crate) fn range(
    kvs: &Kvs,
    stream: &StreamRef,
    range: Range,
    now: u64,
) -> Result<Vec<FragmentInfo>, KvsError> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let max = antiphon_store::MAX_PAGE;
        let page = kvs.store().list_fragments(stream, Some(range), max, token.as_deref(), now)?;
        found.extend(page.fragments);
        token = page.next;
        if token.is_none() || found.len() >= MAX_RANGE_FRAGMENTS {
            return Ok(found);
        }
    }
}

/// Five per second, for a day.
const MAX_RANGE_FRAGMENTS: usize = 5 * 86_400;

/// The URL that a player begins with.
pub(crate) fn url(
    kvs: &Kvs,
    headers: &axum::http::HeaderMap,
    uri: &Uri,
    operation: &str,
    rest: &str,
) -> String {
    let here = crate::control::here(kvs, headers, uri.path(), operation);
    format!("{here}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            arn: "arn:aws:kinesisvideo:us-east-1:0:stream/s/1".into(),
            mode: Mode::Live,
            server_clock: true,
            start_ms: 0,
            end_ms: u64::MAX,
            created_ms: 5,
            expires_ms: 6,
            max: 3,
            discontinuity: Discontinuity::Gaps,
            tell_times: false,
            tell_numbers: false,
            base_ms: 7,
            anchor: "1".into(),
            anchor_server_ms: 8,
        }
    }

    #[test]
    fn a_token_says_nothing_and_cannot_be_made() {
        let (key, other) = (SessionKey::new(&[1; 32]), SessionKey::new(&[2; 32]));
        let token = key.seal(&session());
        assert_eq!(key.open(&token), Some(session()));
        assert_eq!(other.open(&token), None);
        assert_ne!(key.seal(&session()), token);
        let longest =
            Session { arn: format!("arn:aws:kinesisvideo:a:b:stream/{}/1", "n".repeat(256)), ..session() };
        assert!(key.seal(&longest).len() <= MAX_TOKEN_BYTES);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.open(std::str::from_utf8(&changed).unwrap()), None, "{at}");
        }
        assert_eq!(key.open(""), None);
        assert_eq!(key.open(&"A".repeat(MAX_TOKEN_BYTES + 1)), None);
    }
}
