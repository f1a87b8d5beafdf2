//! The server offers (draft-ietf-wish-whep-04, "Server Sends Counter-Offer", and the empty request of earlier drafts): an offer of
//! what there is to play, kept until its answer comes. Both are handled before the connection goes to its shard, once.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{ErrorKind, ParticipantId, RoomName};
use antiphon_wire::control::ParticipantKind;
use str0m::Rtc;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};

use crate::connection::Connection;
use crate::egress::Sender;
use crate::egress::keys::{self, KeySlot};
use crate::join::{JoinError, JoinRequest, Prepared};
use crate::reach::Reach;
use crate::restart::Sessions;
use crate::sdp::{self, Lines, Negotiated, Terms};

/// One stream for both lines: players keep its lips in step.
const STREAM: &str = "slot-0";

/// An offer of ours that waits for its answer. Can be dropped.
pub struct Offered {
    room: RoomName,
    /// The shard that it names.
    shard: usize,
    request: JoinRequest,
    text: String,
    rtc: Rtc,
    keys: KeySlot,
    pending: SdpPendingOffer,
    candidates: Vec<str0m::Candidate>,
    reach: Arc<Reach>,
    credentials: str0m::IceCreds,
    resume_token: String,
}

impl Offered {
    /// Makes an offer of one audio and one video line.
    pub(crate) fn new(
        (room, shard): (&RoomName, usize),
        request: JoinRequest,
        terms: &Terms<'_>,
        resume_token: String,
        now: Instant,
    ) -> Result<Self, JoinError> {
        let (mut rtc, keys) = keys::watch(|| sdp::build(terms, now));
        let candidates = sdp::add_candidates(&mut rtc, terms.reach);
        let mut api = rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            api.add_media(kind, Direction::SendOnly, Some(STREAM.into()), None, None);
        }
        let nothing = || JoinError::new(ErrorKind::Internal, "the server could not make an offer");
        let (offer, pending) = api.apply().ok_or_else(nothing)?;
        let (room, credentials) = (room.clone(), terms.credentials.clone());
        Ok(Self {
            room,
            shard,
            request,
            text: offer.to_sdp_string(),
            rtc,
            keys,
            pending,
            candidates,
            reach: terms.reach.clone(),
            credentials,
            resume_token,
        })
    }

    /// The SDP offer.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose it will be.
    pub fn id(&self) -> &ParticipantId {
        &self.request.id
    }

    /// The shard that it names.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// In which room.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// Entity tag of the ICE session.
    pub fn ice_session(&self) -> &str {
        &self.credentials.ufrag
    }

    /// Takes the answer. Costs milliseconds: not for an async thread.
    ///
    /// # Errors
    /// `bad_sdp`, `no_common_codec`.
    pub fn accept(self, answer: &str) -> Result<Prepared, JoinError> {
        self.accept_at(answer, Instant::now())
    }

    pub(crate) fn accept_at(mut self, answer: &str, now: Instant) -> Result<Prepared, JoinError> {
        let bad = |what: &dyn std::fmt::Display| {
            JoinError::new(ErrorKind::BadSdp, format!("the SDP answer was refused: {what}"))
        };
        sdp::check_size(answer)?;
        let answer = &sdp::for_str0m(answer);
        let parsed = SdpAnswer::from_sdp_string(answer).map_err(|_| bad(&"it does not parse (RFC 8866)"))?;
        self.rtc.sdp_api().accept_answer(self.pending, parsed).map_err(|e| bad(&e))?;
        // Directions as they are in an answer of ours: what the client receives, we send.
        let ours = answer.replace("a=recvonly", "a=sendonly");
        let mut lines = Lines::sort(&self.rtc, &ours, ParticipantKind::Whep);
        if lines.outputs.is_empty() {
            return Err(sdp::no_line(answer));
        }
        lines.forget_probing();
        let codecs = sdp::codecs(&self.rtc);
        sdp::take_streams(&mut self.rtc, &mut lines.outputs);
        let cname = sdp::cname(&self.text).unwrap_or("antiphon").to_owned();
        let sender = Sender::new(lines.outputs.into_iter().map(|(_, plan)| plan).collect(), cname);
        let ufrag = self.credentials.ufrag.clone();
        self.keys.withhold();
        let sessions = Sessions::new(self.credentials, self.candidates, answer);
        let connection =
            Connection::new((self.rtc, self.keys), (sessions, self.reach), Vec::new(), sender, codecs, now);
        let negotiated = Negotiated {
            connection,
            answer: String::new(),
            slots: lines.slots,
            decodes: lines.decodes,
            control: false,
            mids: sdp::mids(&self.text),
            takes_bounds: false,
        };
        let (room, request, resume_token) = (self.room, self.request, self.resume_token);
        let shard = self.shard;
        Ok(Prepared { room, shard, request, negotiated, resume_token, ufrag })
    }
}
