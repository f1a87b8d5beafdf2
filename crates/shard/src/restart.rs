//! ICE restart (RFC 8445, section 9) of a live connection: other credentials, another way, and nothing else.
//!
//! No SDP is accepted again on a live connection (`docs/design/egress.md`): str0m would announce streams of its own for our
//! SSRCs. So its agent is given other credentials. It knows one pair of them at a time and sends no checks (ICE lite), hence
//! each binding request is looked at with the credentials that it names: those of the session in force, or those of the one
//! that was asked for. The old session stays in force until the peer nominates a way in the new one; then the agent forgets
//! its ways (its candidates are taken away and given back), and hears that request again.

use std::time::{Duration, Instant};

use antiphon_base::{ParticipantId, RoomName};
use rand::Rng;
use rand::distr::Alphanumeric;
use str0m::{Candidate, IceCreds, Rtc};

use crate::command::Reply;
use crate::core::Core;
use crate::home::Member;
use crate::seam::{Message, Who};

/// Characters of a user fragment that are drawn; before them stands the shard.
pub(crate) const UFRAG_CHARACTERS: usize = 10;
/// Of a password: 142 bits, where RFC 8445, 5.3 asks for 128.
pub(crate) const PWD_CHARACTERS: usize = 24;
/// Restarts that one connection may ask for at once; a phone that changes its network again and again asks for some a minute.
const BURST: u32 = 10;
/// One more is allowed after so long.
const REFILL: Duration = Duration::from_secs(5);
/// After a restart, how long the peer may change its mind about the way: browsers nominate the first that works, then
/// the best.
pub(crate) const SETTLING: Duration = Duration::from_secs(2);

/// Which ICE session a request is about (RFC 9110, 13.1.1). Entity tags are our user fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceMatch {
    /// `*`: whichever there is.
    Any,
    /// One of these.
    Tags(Vec<String>),
}

/// ICE parameters of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceParameters {
    /// User fragment; ours is the session's entity tag.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
    /// Lines that begin with `candidate:`.
    pub candidates: Vec<String>,
}

/// What a participant says of its ICE session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceRequest {
    /// About which.
    pub session: IceMatch,
    /// Its user fragment and password; others than before ask for a restart.
    pub remote: Option<(String, String)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceUpdate {
    /// Nothing to do: candidates of the peer are not needed, its checks show where it is.
    Unchanged,
    /// A restart; these are the parameters of the new session.
    Restarted(IceParameters),
}

/// Why nothing came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// There is and was no such participant.
    #[error("there is no such participant")]
    Unknown,
    /// It has left.
    #[error("the participant has left")]
    Gone,
    /// Its connection was lost, or is not made by ICE.
    #[error("the participant has no connection")]
    NoConnection,
    /// The request is about another ICE session.
    #[error("the entity tag is of another ICE session")]
    OtherSession,
    /// Too many restarts.
    #[error("too many ICE restarts")]
    TooOften,
    /// The shard does not answer.
    #[error("the server is busy")]
    Busy,
}

/// One ICE session: both sides' credentials.
struct Session {
    local: IceCreds,
    remote: Option<IceCreds>,
}

/// ICE sessions of one connection.
pub(crate) struct Sessions {
    current: Session,
    /// Asked for, and not used by the peer yet.
    next: Option<Session>,
    candidates: Vec<Candidate>,
    /// User fragments that are not used any more, for the shard's table.
    retired: Vec<String>,
    budget: u32,
    refilled: Option<Instant>,
    /// Until then the way may change freely.
    settles: Option<Instant>,
}

impl Sessions {
    /// The first session, of an answered offer.
    pub(crate) fn new(local: IceCreds, candidates: Vec<Candidate>, offer: &str) -> Self {
        let value = |name: &str| offer.lines().find_map(|l| Some(l.strip_prefix(name)?.trim().to_owned()));
        let remote = value("a=ice-ufrag:").zip(value("a=ice-pwd:"));
        let remote = remote.map(|(ufrag, pass)| IceCreds { ufrag, pass });
        let current = Session { local, remote };
        let (next, retired) = (None, Vec::new());
        Self { current, next, candidates, retired, budget: BURST, refilled: None, settles: None }
    }

    /// All user fragments by which the peer's checks may come.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().map(|s| s.local.ufrag.as_str())
    }

    /// The newest session, which entity tags are about.
    fn newest(&self) -> &Session {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// The way may change: a restart was a moment ago.
    pub(crate) fn is_settling(&self, now: Instant) -> bool {
        self.settles.is_some_and(|end| now < end)
    }

    /// Some user fragment is not used any more.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// User fragments that are not used any more.
    pub(crate) fn take_retired(&mut self) -> Vec<String> {
        std::mem::take(&mut self.retired)
    }

    /// Lets the agent answer in the session that a check names. True: it is the one that was asked for.
    pub(crate) fn choose(&self, rtc: &mut Rtc, ufrag: Option<&str>) -> bool {
        let Some(next) = &self.next else { return false };
        let is_next = ufrag == Some(next.local.ufrag.as_str());
        let session = if is_next { next } else { &self.current };
        let mut api = rtc.direct_api();
        api.set_local_ice_credentials(session.local.clone());
        if let Some(remote) = &session.remote {
            api.set_remote_ice_credentials(remote.clone());
        }
        is_next
    }

    /// The peer has nominated a way in the new session: the old one is over, and the agent forgets its ways.
    pub(crate) fn commit(&mut self, now: Instant, rtc: &mut Rtc) {
        let Some(next) = self.next.take() else { return };
        let old = std::mem::replace(&mut self.current, next);
        self.retired.push(old.local.ufrag);
        self.settles = Some(now + SETTLING);
        for candidate in &self.candidates {
            rtc.direct_api().invalidate_candidate(candidate);
        }
        for candidate in &self.candidates {
            rtc.add_local_candidate(candidate.clone());
        }
    }

    fn request(&mut self, now: Instant, request: &IceRequest) -> Result<IceUpdate, IceError> {
        let newest = self.newest();
        if let IceMatch::Tags(tags) = &request.session
            && !tags.contains(&newest.local.ufrag)
        {
            return Err(IceError::OtherSession);
        }
        let Some((ufrag, pass)) = &request.remote else { return Ok(IceUpdate::Unchanged) };
        let remote = IceCreds { ufrag: ufrag.clone(), pass: pass.clone() };
        if newest.remote.as_ref().is_some_and(|r| r.ufrag == remote.ufrag) {
            return Ok(IceUpdate::Unchanged);
        }
        self.spend(now)?;
        let local = following(&self.current.local.ufrag);
        let candidates = self.candidates.iter().map(|c| candidate_of(c, &local.ufrag)).collect();
        let parameters = IceParameters { ufrag: local.ufrag.clone(), pwd: local.pass.clone(), candidates };
        let unused = self.next.replace(Session { local, remote: Some(remote) });
        self.retired.extend(unused.map(|s| s.local.ufrag));
        Ok(IceUpdate::Restarted(parameters))
    }

    fn spend(&mut self, now: Instant) -> Result<(), IceError> {
        let since = self.refilled.get_or_insert(now);
        while self.budget < BURST && now.saturating_duration_since(*since) >= REFILL {
            *since += REFILL;
            self.budget += 1;
        }
        if self.budget == BURST {
            *since = now;
        }
        self.budget = self.budget.checked_sub(1).ok_or(IceError::TooOften)?;
        Ok(())
    }
}

/// A candidate of a session: str0m's text names the one in which it was gathered, last, and who reads that passes it over.
fn candidate_of(candidate: &Candidate, ufrag: &str) -> String {
    let text = candidate.to_sdp_string();
    let all_but_session = text.split(" ufrag ").next().unwrap_or_default();
    format!("{all_but_session} ufrag {ufrag}")
}

/// Other credentials on the same shard.
fn following(ufrag: &str) -> IceCreds {
    let shard = ufrag.len().saturating_sub(UFRAG_CHARACTERS);
    let shard = ufrag.get(..shard).unwrap_or_default();
    IceCreds { ufrag: format!("{shard}{}", random_text(UFRAG_CHARACTERS)), pass: random_text(PWD_CHARACTERS) }
}

/// Letters and digits that nobody can guess.
pub(crate) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Where a participant's connection is.
pub(crate) enum Seat {
    /// On this shard, at this place.
    Here(usize),
    /// On that one.
    Away(u16, Who),
}

impl Core {
    /// What a participant of a room at home here says of its ICE session; its connection may be on another shard.
    pub(crate) fn answer_ice(
        &mut self,
        now: Instant,
        (name, id): (&RoomName, &ParticipantId),
        request: IceRequest,
        reply: Reply<Result<IceUpdate, IceError>>,
    ) {
        let result = match self.find_ice(name, id) {
            Ok(Seat::Here(place)) => self.ice(now, place, &request),
            Ok(Seat::Away(shard, who)) => {
                let again = reply.clone();
                let message = Message::Ice { who, request: Box::new(request), reply };
                if self.links.send(shard, message) {
                    return;
                }
                // Over its budget.
                let _ = again.try_send(Err(IceError::Busy));
                return;
            }
            Err(error) => Err(error),
        };
        // A reply that nobody waits for any more is not an error.
        let _ = reply.try_send(result);
    }

    /// Where the connection of a participant is.
    pub(crate) fn find_ice(&self, name: &RoomName, id: &ParticipantId) -> Result<Seat, IceError> {
        let Some((room, key)) = self.find(name, id) else {
            let was_here = self.gone.iter().any(|(n, s)| n == name && s.id == *id);
            return Err(if was_here { IceError::Gone } else { IceError::Unknown });
        };
        match self.home(room).and_then(|home| home.members.get(&key)) {
            Some(&Member::Peer(place)) => Ok(Seat::Here(place)),
            Some(Member::Away(away)) => {
                let who = Who { room: self.id_of(room), key, connection: away.connection };
                Ok(Seat::Away(away.shard, who))
            }
            _ => Err(IceError::NoConnection),
        }
    }

    /// As [`Core::ice`], of a connection that is looked for here.
    pub(crate) fn ice_of(
        &mut self,
        now: Instant,
        who: Who,
        request: &IceRequest,
    ) -> Result<IceUpdate, IceError> {
        let place = self.place_of(who).ok_or(IceError::NoConnection)?;
        self.ice(now, place, request)
    }

    /// What the peer at a place says of its ICE session.
    pub(crate) fn ice(
        &mut self,
        now: Instant,
        place: usize,
        request: &IceRequest,
    ) -> Result<IceUpdate, IceError> {
        let peer = self.peers.get_mut(place).and_then(Option::as_deref_mut).ok_or(IceError::NoConnection)?;
        let update = peer.connection.sessions.request(now, request)?;
        if let IceUpdate::Restarted(parameters) = &update {
            peer.note(now, "ICE restart asked for");
            self.by_ufrag.insert(parameters.ufrag.clone(), place);
            self.metrics.ice_restarts += 1;
            self.forget_retired(now, place);
        }
        Ok(update)
    }

    /// Checks of sessions that are over find nobody any more.
    pub(crate) fn forget_retired(&mut self, now: Instant, place: usize) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::as_deref_mut) else { return };
        for ufrag in peer.connection.sessions.take_retired() {
            peer.note(now, "ICE session replaced");
            self.by_ufrag.remove(&ufrag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    fn sessions() -> Sessions {
        let local = IceCreds { ufrag: "03aaaaaaaaaa".into(), pass: "b".repeat(PWD_CHARACTERS) };
        Sessions::new(local, Vec::new(), OFFER)
    }

    fn request(session: IceMatch, ufrag: Option<&str>) -> IceRequest {
        IceRequest { session, remote: ufrag.map(|u| (u.to_owned(), "c".repeat(24))) }
    }

    #[test]
    fn the_same_credentials_are_no_restart_and_others_are() {
        let (mut sessions, now) = (sessions(), Instant::now());
        let current = IceMatch::Tags(vec!["03aaaaaaaaaa".into()]);
        for ufrag in [None, Some("abcd")] {
            assert_eq!(sessions.request(now, &request(current.clone(), ufrag)), Ok(IceUpdate::Unchanged));
        }
        let Ok(IceUpdate::Restarted(first)) = sessions.request(now, &request(IceMatch::Any, Some("efgh")))
        else {
            panic!("no restart");
        };
        assert!(first.ufrag.starts_with("03") && first.ufrag.len() == 12 && first.pwd.len() >= 22);
        // The old session's tag is over, its user fragment is not: the peer may still be in it.
        let other = sessions.request(now, &request(current, Some("efgh")));
        assert_eq!(other, Err(IceError::OtherSession));
        assert_eq!(sessions.ufrags().collect::<Vec<_>>(), ["03aaaaaaaaaa", first.ufrag.as_str()]);
        // Another one takes the place of the one that was never used.
        let tag = IceMatch::Tags(vec!["nothing".into(), first.ufrag.clone()]);
        let Ok(IceUpdate::Restarted(second)) = sessions.request(now, &request(tag, Some("ijkl"))) else {
            panic!("no restart");
        };
        assert_eq!(sessions.take_retired(), [first.ufrag]);
        assert_eq!(sessions.ufrags().collect::<Vec<_>>(), ["03aaaaaaaaaa", second.ufrag.as_str()]);
    }

    #[test]
    fn candidates_are_of_the_new_session() {
        let mut rtc = Rtc::builder().set_ice_lite(true).build(Instant::now());
        let host = Candidate::host("192.0.2.7:7701".parse().unwrap(), "udp").unwrap();
        let host = rtc.add_local_candidate(host).unwrap().clone();
        assert!(host.to_sdp_string().contains(" ufrag "), "else this test says nothing");
        let text = candidate_of(&host, "new");
        assert!(text.starts_with("candidate:") && text.contains(" 192.0.2.7 7701 typ host"), "{text}");
        assert!(text.ends_with(" ufrag new") && text.matches("ufrag").count() == 1, "{text}");
    }

    #[test]
    fn restarts_are_limited() {
        let (mut sessions, mut now) = (sessions(), Instant::now());
        let mut restart =
            |now, n: u32| sessions.request(now, &request(IceMatch::Any, Some(&format!("peer{n}"))));
        for n in 0..BURST {
            assert!(restart(now, n).is_ok(), "{n}");
        }
        assert_eq!(restart(now, 100), Err(IceError::TooOften));
        now += REFILL;
        assert!(restart(now, 101).is_ok());
        assert_eq!(restart(now, 102), Err(IceError::TooOften));
    }
}
