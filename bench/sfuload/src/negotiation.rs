//! One peer connection under negotiation.
use crate::decrypting::SubState;
use crate::engine::{Gen, Peer, Role, TxTrack};
use crate::keys::{self, KeySlot};
use crate::media::{AudioGen, Kind, VideoGen};
use crate::net::{self, SocketPlan, realtime_ns};
use crate::signalling::SdpPeer;
use crate::sink::{Format, Sink};
use anyhow::{Context, Result, anyhow, bail};
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer};
use str0m::{Candidate, Output, Rtc, RtcConfig};

/// Slots that the web client offers.
pub const WEB_AUDIO_SLOTS: usize = 3;
pub const WEB_VIDEO_SLOTS: usize = 4;

/// Whose side of a connection is made.
#[derive(Clone, Copy)]
pub enum Side {
    /// Sends audio, video.
    Publisher(bool, bool),
    Subscriber,
    /// Receives with the offer of our web client: all codecs of a browser, idle lines to send on, a data channel.
    WebClient,
}

fn rtc_config(side: Side) -> RtcConfig {
    let config = match side {
        Side::Publisher(..) | Side::Subscriber => {
            Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true)
        }
        Side::WebClient => Rtc::builder(),
    };
    config
        .set_rtp_mode(true)
        .set_reordering_size_audio(1)
        .set_reordering_size_video(1)
        .set_crypto_provider(keys::provider())
}

/// A peer connection under negotiation; lent to signalling adapters as `SdpPeer`.
pub struct Negotiation {
    rtc: Rtc,
    sock: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    side: Side,
    mids: Vec<(Kind, Mid)>,
    t0: Instant,
    t0_ns: u64,
    keys: KeySlot,
    format: Format,
}

impl Negotiation {
    pub fn new(plan: SocketPlan, side: Side) -> Result<Self> {
        let sock = net::bind_udp(plan).context("bind udp")?;
        let local = sock.local_addr()?;
        let (t0, t0_ns) = (Instant::now(), realtime_ns());
        let (mut rtc, keys) = keys::watch(|| rtc_config(side).build(t0));
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        let (pending, mids, format) = (None, vec![], Format::default());
        let mut n = Negotiation { rtc, sock, local, pending, side, mids, t0, t0_ns, keys, format };
        n.settle();
        Ok(n)
    }

    /// Drain outputs between mutations; nothing can be sent before the SDP exchange is over.
    fn settle(&mut self) {
        while let Ok(o) = self.rtc.poll_output() {
            match o {
                Output::Timeout(_) => break,
                Output::Transmit(t) => {
                    let _ = self.sock.send_to(&t.contents, t.destination);
                }
                Output::Event(_) => {}
            }
        }
    }

    fn finish(self, role: Role, number: u32) -> Peer {
        let now = Instant::now();
        Peer {
            rtc: self.rtc,
            sock: self.sock,
            local: self.local,
            remote: None,
            role,
            number,
            deadline: now,
            t0: self.t0,
            t0_ns: self.t0_ns,
            outbox: vec![],
            signalled: now - self.t0,
            connected: None,
            dead: false,
            drops: 0,
        }
    }

    pub fn into_publisher(
        mut self,
        index: usize,
        mut audio: impl FnMut() -> AudioGen,
        mut video: impl FnMut() -> VideoGen,
    ) -> Result<Peer> {
        let mut tracks = vec![];
        for (kind, mid) in std::mem::take(&mut self.mids) {
            let m = self.rtc.media(mid).ok_or_else(|| anyhow!("no media {mid}"))?;
            let pt = *m.remote_pts().first().ok_or_else(|| anyhow!("m-line {mid} rejected"))?;
            tracks.push(TxTrack {
                kind,
                mid,
                pt,
                seq: 1000 + index as u64 * 7,
                ctr: 0,
                generator: match kind {
                    Kind::Audio => Gen::Audio(audio()),
                    Kind::Video => Gen::Video(video()),
                },
                sent: 0,
                sent_in_window: 0,
                bytes_in_window: 0,
            });
        }
        Ok(self.finish(Role::Publisher { index, tracks }, 0))
    }

    /// A subscriber that decrypts.
    pub fn into_subscriber(self, number: u32, publishers: Vec<usize>, tracks: usize) -> Peer {
        let state = SubState::new(publishers, tracks);
        self.finish(Role::Subscriber(Box::new(state)), number)
    }

    /// One that only counts.
    pub fn into_sink(self, number: u32, tracks: usize) -> Peer {
        let sink = Sink::new(self.keys.clone(), self.format, tracks, number + 1);
        self.finish(Role::Sink(Box::new(sink)), number)
    }
}

/// The lines of our web client in their order (`crates/shard/tests/data/chromium-156.sdp`).
fn web_lines(api: &mut str0m::change::SdpApi<'_>) {
    let send = Direction::SendOnly;
    for _ in ["microphone", "screen audio"] {
        api.add_media(MediaKind::Audio, send, Some("own".into()), None, None);
    }
    let layers = ["q", "h", "f"].map(SimulcastLayer::new).to_vec();
    let simulcast = Simulcast { send: layers, recv: vec![] };
    api.add_media(MediaKind::Video, send, Some("own".into()), None, Some(simulcast));
    api.add_media(MediaKind::Video, send, Some("screen".into()), None, None);
    for _ in 0..WEB_AUDIO_SLOTS {
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
    }
    // And one for a screen.
    for _ in 0..WEB_VIDEO_SLOTS + 1 {
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    }
    api.add_channel("control".into());
}

impl SdpPeer for Negotiation {
    fn make_offer(&mut self, audio: usize, video: usize) -> Result<String> {
        let mut api = self.rtc.sdp_api();
        match self.side {
            Side::Publisher(a, v) => {
                // One stream id per publisher, so a conforming receiver can lip-sync.
                let sid = Some(format!("s{}", self.local.port()));
                if a {
                    let m = api.add_media(MediaKind::Audio, Direction::SendOnly, sid.clone(), None, None);
                    self.mids.push((Kind::Audio, m));
                }
                if v {
                    let m = api.add_media(MediaKind::Video, Direction::SendOnly, sid, None, None);
                    self.mids.push((Kind::Video, m));
                }
            }
            Side::WebClient => web_lines(&mut api),
            Side::Subscriber => {
                for _ in 0..audio {
                    api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
                }
                for _ in 0..video {
                    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
                }
            }
        }
        let (offer, pending) = api.apply().ok_or_else(|| anyhow!("nothing to offer"))?;
        self.pending = Some(pending);
        self.settle();
        let offer = offer.to_sdp_string();
        // What is counted begins with the POST, not with the making of the offer.
        (self.t0, self.t0_ns) = (Instant::now(), realtime_ns());
        Ok(offer)
    }

    fn accept_answer(&mut self, sdp: &str) -> Result<()> {
        let answer = SdpAnswer::from_sdp_string(sdp).context("parse answer")?;
        self.format = Format::of(sdp);
        let pending = self.pending.take().ok_or_else(|| anyhow!("no pending offer"))?;
        self.rtc.sdp_api().accept_answer(pending, answer).context("accept answer")?;
        self.settle();
        Ok(())
    }

    fn accept_offer(&mut self, sdp: &str) -> Result<String> {
        if matches!(self.side, Side::Publisher(..)) {
            bail!("publisher cannot be the answerer");
        }
        let offer = SdpOffer::from_sdp_string(sdp).context("parse offer")?;
        let answer = self.rtc.sdp_api().accept_offer(offer).context("accept offer")?;
        self.settle();
        let answer = answer.to_sdp_string();
        self.format = Format::of(&answer);
        Ok(answer)
    }
}
