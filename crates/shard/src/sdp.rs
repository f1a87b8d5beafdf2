//! Offer in, answer and connection out. Runs on the caller's thread: a browser's offer costs milliseconds.
//!
//! Lines map by order within kind and direction (`docs/reference/join.md`): the first line on which the client sends
//! audio is the microphone, the second the sound of the screen; the first on which it sends video is the camera, the
//! second the screen. Lines on which it receives are slots; the last video one of several is the screen slot.

use std::sync::Arc;
use std::time::Instant;

use antiphon_base::{AudioCodec, Codec, ErrorKind, MediaKind, Source, VideoCodec};
use antiphon_room::SlotPlan;
use antiphon_wire::control::ParticipantKind;
use antiphon_wire::rtp::dependency;
use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::format::Codec as StrCodec;
use str0m::media::{Mid, Rid};
use str0m::net::{Protocol, TcpType};
use str0m::rtp::Extension;
use str0m::{Candidate, CandidateKind, IceCreds, Rtc};

use crate::announce;
use crate::connection::{Codecs, Connection, InLine};
use crate::egress::{Class, LinePlan, PayloadType, Sender, keys, playout};
use crate::join::JoinError;
use crate::mapping::check_payload_types;
use crate::reach::{Reach, Told};
use crate::restart::Sessions;
use crate::transport::Transport;

/// Largest offer: a browser's line has about 4 kB, and an offer has as many lines as slots and a few more.
const MAX_OFFER_BYTES: usize = 512 * 1024;
/// Simulcast layers a line may have; what browsers send.
const MAX_LAYERS: usize = 4;
/// RFC 8843, 15.2.
const MID_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// RFC 6464, section 4.
const LEVEL_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// draft-holmer-rmcat-transport-wide-cc-extensions-01, section 2.
const TRANSPORT_EXTENSION: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Bytes of control messages waiting in SCTP for one peer.
const CONTROL_BUFFER_BYTES: usize = 256 * 1024;

/// What preparing needs to know of the shard.
pub(crate) struct Terms<'a> {
    pub(crate) reach: &'a Arc<Reach>,
    pub(crate) certificate: &'a DtlsCert,
    pub(crate) credentials: IceCreds,
    pub(crate) max_slots: usize,
    pub(crate) kind: ParticipantKind,
}

/// A negotiated connection and what its lines are for.
pub(crate) struct Negotiated {
    pub(crate) connection: Connection,
    pub(crate) answer: String,
    pub(crate) slots: SlotPlan,
    pub(crate) decodes: Vec<VideoCodec>,
    pub(crate) control: bool,
    /// Mids of all m-lines, in their order.
    pub(crate) mids: Vec<String>,
    /// It sends video and takes REMB.
    pub(crate) takes_bounds: bool,
}

/// Answers an offer.
pub(crate) fn negotiate(offer: &str, terms: Terms<'_>, now: Instant) -> Result<Negotiated, JoinError> {
    let bad = |what: &dyn std::fmt::Display| {
        JoinError::new(ErrorKind::BadSdp, format!("the SDP offer was refused: {what}"))
    };
    check_size(offer)?;
    let lines = offer.lines().filter(|l| l.starts_with("m=")).count();
    if lines > terms.max_slots + 8 {
        return Err(bad(&format_args!("{lines} m-lines are more than {}", terms.max_slots + 8)));
    }
    check_payload_types(offer).map_err(|why| bad(&why))?;
    let offer = &announce::one_way(for_str0m(offer), terms.kind);
    let listening = announce::listening(offer);
    let parsed = SdpOffer::from_sdp_string(&announce::muted(offer, &listening))
        .map_err(|_| bad(&"it does not parse (RFC 8866)"))?;
    let (mut rtc, keys) = keys::watch(|| build(&terms, now));
    let candidates = add_candidates(&mut rtc, terms.reach);
    let sessions = Sessions::new(terms.credentials.clone(), candidates, offer);
    let answer = rtc.sdp_api().accept_offer(parsed).map_err(|e| bad(&e))?.to_sdp_string();
    // The parser passes over what it cannot read; an answer has the lines of its offer (RFC 3264, 6).
    if answer.lines().filter(|l| l.starts_with("m=")).count() != lines {
        return Err(bad(&"an m-line of it does not parse (RFC 8866)"));
    }
    let answer = announce::streams(&candidates_in_use(answer), &listening);
    let mut lines = Lines::sort(&rtc, &answer, terms.kind);
    let plays = terms.kind == ParticipantKind::Whep;
    if lines.outputs.is_empty() && (plays || lines.inputs.is_empty()) {
        return Err(no_line(offer));
    }
    if terms.kind == ParticipantKind::Whip && lines.inputs.len() < media_lines(offer) {
        // RFC 9725, 4.4.3: no partially successful answers.
        let message = "not every line of the offer can be published: one or two of audio and of video, in Opus, G.711 \
                       or G.722 and VP8, VP9, AV1 or H.264";
        return Err(JoinError::new(ErrorKind::NoCommonCodec, message));
    }
    // A descriptor with its structure is longer than a one-byte header can say (RFC 8285, 4.1.2).
    if !offer.lines().any(|l| l.trim_end() == "a=extmap-allow-mixed") {
        lines.outputs.iter_mut().for_each(|(_, plan)| plan.dependency_extension = None);
    }
    let estimates = lines.forget_probing();
    let answer = polish(&answer, &lines, estimates);
    let codecs = codecs(&rtc);
    take_streams(&mut rtc, &mut lines.outputs);
    let cname = cname(&answer).unwrap_or("antiphon").to_owned();
    let control = terms.kind != ParticipantKind::Whip
        && terms.kind != ParticipantKind::Whep
        && offer.lines().any(|l| l.starts_with("m=application"));
    let takes_bounds = lines.inputs.iter().any(|line| takes_remb(offer, &answer, line));
    if lines.inputs.is_empty() {
        keys.withhold();
    }
    let mids = mids(&answer);
    let sender = Sender::new(lines.outputs.into_iter().map(|(_, plan)| plan).collect(), cname);
    let connection =
        Connection::new((rtc, keys), (sessions, terms.reach.clone()), lines.inputs, sender, codecs, now);
    let (slots, decodes) = (lines.slots, lines.decodes);
    Ok(Negotiated { connection, answer, slots, decodes, control, mids, takes_bounds })
}

/// Mids of all m-lines, in their order.
pub(crate) fn mids(sdp: &str) -> Vec<String> {
    sections(sdp).iter().skip(1).map(|s| attribute(s, "mid").unwrap_or_default().to_owned()).collect()
}

/// Both sides speak REMB (draft-alvestrand-rmcat-remb-03, section 2.1) of what the client sends on this line.
fn takes_remb(offer: &str, answer: &str, line: &InLine) -> bool {
    let mid = line.mid.to_string();
    let says = |sdp: &str| {
        let section = sections(sdp).into_iter().find(|s| attribute(s, "mid") == Some(&mid));
        let said = |l: &str| l.starts_with("a=rtcp-fb:") && l.trim_end().ends_with(" goog-remb");
        section.is_some_and(|s| s.lines().any(said))
    };
    line.source.kind() == MediaKind::Video && says(offer) && says(answer)
}

/// What str0m is to read of a session description.
///
/// - One channel is what there is unless something else is said (RFC 8866, 6.6). libdatachannel says it, and str0m takes
///   `PCMU/8000/1` for another codec than `PCMU/8000`.
/// - No candidates of the peer: a lite agent sends no checks (RFC 8445, 2.5), and the peer's show where it is. str0m would
///   keep a pair for each of them with each of ours.
/// - Each line's direction ([`announce::directed`]).
pub(crate) fn for_str0m(sdp: &str) -> String {
    let line = |l: &str| {
        let said = l.trim_end();
        if said.starts_with("a=candidate:") {
            return String::new();
        }
        let one =
            said.strip_prefix("a=rtpmap:").is_some_and(|m| m.ends_with("/1") && m.matches('/').count() == 2);
        if one { format!("{}\r\n", &said[..said.len() - 2]) } else { l.to_owned() }
    };
    let said: String = sdp.split_inclusive('\n').map(line).collect();
    announce::directed(&said)
}

/// Audio and video lines of an offer.
fn media_lines(offer: &str) -> usize {
    offer.lines().filter(|l| l.starts_with("m=audio") || l.starts_with("m=video")).count()
}

/// Refuses what is too large to be looked at.
pub(crate) fn check_size(sdp: &str) -> Result<(), JoinError> {
    if sdp.len() <= MAX_OFFER_BYTES {
        return Ok(());
    }
    let message = format!("the SDP has {} bytes, more than {MAX_OFFER_BYTES}", sdp.len());
    Err(JoinError::new(ErrorKind::TooLarge, message))
}

/// Tells the connection where it can be reached; gives what it has taken.
pub(crate) fn add_candidates(rtc: &mut Rtc, reach: &Reach) -> Vec<Candidate> {
    let told = reach.told().iter().enumerate();
    told.filter_map(|(place, told)| rtc.add_local_candidate(candidate(place, told)).cloned()).collect()
}

/// A candidate of ours; each has its own address or protocol, and so its own foundation (RFC 8445, 5.1.1.3).
fn candidate(place: usize, told: &Told) -> Candidate {
    let (protocol, tcp_type) = match told.transport {
        Transport::Udp => (Protocol::Udp, None),
        Transport::Tcp => (Protocol::Tcp, Some(TcpType::Passive)),
    };
    let (kind, foundation) = (CandidateKind::Host, (place + 1).to_string());
    Candidate::from_parts(foundation, 1, protocol, told.priority, told.address, kind, None, tcp_type, None)
}

/// Payload types of all codecs that are forwarded, and of RED around them.
pub(crate) fn codecs(rtc: &Rtc) -> Codecs {
    let params = rtc.codec_config().params();
    Codecs {
        plain: params.iter().filter_map(|p| Some((p.pt(), codec(p.spec().codec)?))).collect(),
        red: params.iter().filter_map(|p| Some((p.red()?, p.pt()))).collect(),
    }
}

/// Why nothing of an offer could be used.
pub(crate) fn no_line(offer: &str) -> JoinError {
    if !offer.lines().any(|l| l.starts_with("m=audio") || l.starts_with("m=video")) {
        return JoinError::new(ErrorKind::BadSdp, "the SDP offer was refused: no audio or video line");
    }
    JoinError::new(
        ErrorKind::NoCommonCodec,
        "none of the offered codecs is spoken here: offer Opus, G.711 or G.722 and VP8, VP9, AV1 or H.264",
    )
}

pub(crate) fn build(terms: &Terms<'_>, now: Instant) -> Rtc {
    Rtc::builder()
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .set_local_ice_credentials(terms.credentials.clone())
        .set_dtls_cert(terms.certificate.clone())
        .set_crypto_provider(keys::provider())
        .set_stats_interval(None)
        .clear_codecs()
        .enable_opus(true, true)
        .enable_pcmu(true, false)
        .enable_pcma(true, false)
        .enable_g722(true, false)
        .enable_vp8(true)
        .enable_vp9(true)
        .enable_h264(true)
        .enable_av1(true)
        .clear_extension_map()
        .set_extension(1, Extension::AudioLevel)
        .set_extension(3, Extension::TransportSequenceNumber)
        .set_extension(4, Extension::RtpMid)
        .set_extension(5, Extension::AbsoluteCaptureTime)
        .set_extension(6, Extension::PlayoutDelay)
        .set_extension(10, Extension::RtpStreamId)
        .set_extension(11, Extension::RepairedRtpStreamId)
        .set_extension(12, crate::extension::dependency())
        // No video orientation: without it a phone turns its pictures itself, and bots need not know of it.
        .set_sctp_max_buffered_amount(CONTROL_BUFFER_BYTES)
        .build(now)
}

/// One line of our answer: directions are ours, what we receive the client sends.
struct AnswerLine<'a> {
    kind: MediaKind,
    mid: &'a str,
    receives: bool,
    sends: bool,
    /// Simulcast rids that we receive, in the order of the offer: from the lowest layer up.
    rids: Vec<&'a str>,
}

/// The audio and video lines that were not rejected. str0m tells of media only once connected, so the text is read.
fn answer_lines(answer: &str) -> Vec<AnswerLine<'_>> {
    sections(answer).into_iter().filter_map(answer_line).collect()
}

fn answer_line(section: &str) -> Option<AnswerLine<'_>> {
    let mut words = section.lines().next()?.strip_prefix("m=")?.split_whitespace();
    let kind = match words.next()? {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        _ => return None,
    };
    if words.next()? == "0" {
        return None;
    }
    let has = |attribute: &str| section.lines().any(|l| l.trim_end() == attribute);
    let both = has("a=sendrecv");
    let rids = section.lines().find_map(|l| l.strip_prefix("a=simulcast:recv "));
    let rids =
        rids.map_or_else(Vec::new, |r| r.split_whitespace().next().unwrap_or_default().split(';').collect());
    Some(AnswerLine {
        kind,
        mid: section.lines().find_map(|l| l.strip_prefix("a=mid:"))?.trim(),
        receives: both || has("a=recvonly"),
        sends: both || has("a=sendonly"),
        rids,
    })
}

/// The lines of an offer by what they are for.
pub(crate) struct Lines {
    inputs: Vec<InLine>,
    pub(crate) outputs: Vec<(Mid, LinePlan)>,
    pub(crate) slots: SlotPlan,
    pub(crate) decodes: Vec<VideoCodec>,
}

impl Lines {
    /// Whether bandwidth can be probed for. If not, no packet carries a transport-wide number.
    pub(crate) fn forget_probing(&mut self) -> bool {
        let estimates = self.outputs.iter().any(|(_, plan)| plan.can_be_probed());
        if !estimates {
            self.outputs.iter_mut().for_each(|(_, plan)| plan.transport_extension = None);
        }
        estimates
    }

    pub(crate) fn sort(rtc: &Rtc, answer: &str, kind: ParticipantKind) -> Self {
        let mut inputs: Vec<InLine> = Vec::new();
        let (mut audio, mut video): (Vec<Mid>, Vec<Mid>) = (Vec::new(), Vec::new());
        for line in answer_lines(answer) {
            let mid = Mid::from(line.mid);
            if rtc.media(mid).is_none_or(|m| m.disabled() || m.remote_pts().is_empty()) {
                continue;
            }
            if line.receives
                && let Some(source) = next_source(&inputs, line.kind)
            {
                // Without surplus: a rid has no prefix such as `~` in what we answer.
                let rids = line.rids.iter().map(|r| Rid::from(*r)).take(MAX_LAYERS).collect();
                inputs.push(InLine { mid, source, rids });
            }
            if line.sends {
                match line.kind {
                    MediaKind::Audio => audio.push(mid),
                    MediaKind::Video => video.push(mid),
                }
            }
        }
        // A WHEP player has no word for screens: all its lines show what there is.
        let screen = if video.len() > 1 && kind != ParticipantKind::Whep { video.pop() } else { None };
        let text = |mids: &[Mid]| mids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let slots =
            SlotPlan { audio: text(&audio), video: text(&video), screen: screen.map(|m| m.to_string()) };
        let all = audio.iter().chain(&video).chain(&screen);
        let class = |mid: &Mid| match mid {
            mid if audio.contains(mid) => Class::Audio,
            mid if screen.as_ref() == Some(mid) => Class::Screen,
            _ => Class::Video,
        };
        let outputs: Vec<(Mid, LinePlan)> =
            all.filter_map(|mid| Some((*mid, line_plan(rtc, answer, *mid, class(mid))?))).collect();
        let mut decodes: Vec<VideoCodec> = Vec::new();
        for offered in outputs.iter().flat_map(|(_, plan)| &plan.payload_types) {
            if let Codec::Video(v) = offered.codec
                && !decodes.contains(&v)
            {
                decodes.push(v);
            }
        }
        Self { inputs, outputs, slots, decodes }
    }
}

fn next_source(inputs: &[InLine], kind: MediaKind) -> Option<Source> {
    let order = match kind {
        MediaKind::Audio => [Source::Microphone, Source::ScreenAudio],
        MediaKind::Video => [Source::Camera, Source::Screen],
    };
    order.into_iter().find(|s| inputs.iter().all(|i| i.source != *s))
}

/// What a line was negotiated to be. Where str0m has a stream for it, its SSRCs come by [`take_streams`].
fn line_plan(rtc: &Rtc, answer: &str, mid: Mid, class: Class) -> Option<LinePlan> {
    let media = rtc.media(mid)?;
    let name = mid.to_string();
    let section = sections(answer).into_iter().find(|s| attribute(s, "mid") == Some(&name))?;
    let params = rtc.codec_config().params();
    let mut payload_types: Vec<PayloadType> = Vec::new();
    for pt in media.remote_pts() {
        let Some(param) = params.iter().find(|p| p.pt() == *pt) else { continue };
        let Some(codec) = codec(param.spec().codec) else { continue };
        // The first payload type of a codec is the one the client likes best.
        if payload_types.iter().all(|known| known.codec != codec) {
            let rtx = param.resend().map(|pt| *pt);
            let red = param.red().map(|pt| *pt).filter(|pt| takes_red(section, *pt));
            payload_types.push(PayloadType { codec, number: **pt, rtx, red });
        }
    }
    let (ssrc, rtx_ssrc) = announce::announced(section);
    // Pictures are kept for what is sent again.
    let waits = class != Class::Audio && payload_types.iter().any(|p| p.rtx.is_some());
    Some(LinePlan {
        class,
        ssrc,
        rtx_ssrc,
        payload_types,
        mid_extension: extension(section, MID_EXTENSION),
        level_extension: extension(section, LEVEL_EXTENSION),
        transport_extension: extension(section, TRANSPORT_EXTENSION),
        dependency_extension: extension(section, dependency::URI),
        playout_extension: extension(section, playout::URI).filter(|_| waits),
        mid: name,
    })
}

/// SSRCs that str0m has announced are ours from here on: it sends nothing on them, and no report of them.
pub(crate) fn take_streams(rtc: &mut Rtc, outputs: &mut [(Mid, LinePlan)]) {
    let mut api = rtc.direct_api();
    for (mid, plan) in outputs {
        let Some(tx) = api.stream_tx_by_mid(*mid, None) else { continue };
        let (ssrc, rtx) = (tx.ssrc(), tx.rtx());
        (plan.ssrc, plan.rtx_ssrc) = (*ssrc, rtx.map(|s| *s));
        api.remove_stream_tx(ssrc);
    }
}

/// The payload type is RED (RFC 2198) on this line, too.
fn takes_red(section: &str, pt: u8) -> bool {
    let prefix = format!("a=rtpmap:{pt} red/");
    section.lines().any(|l| l.starts_with(&prefix))
}

/// The value of an attribute of a section.
pub(crate) fn attribute<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    section.lines().find_map(|l| Some(l.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The id of a header extension (RFC 8285, section 5).
fn extension(section: &str, uri: &str) -> Option<u8> {
    section.lines().find_map(|l| {
        let (id, rest) = l.strip_prefix("a=extmap:")?.split_once(' ')?;
        (rest.split_whitespace().next() == Some(uri)).then_some(())?;
        id.split('/').next()?.parse().ok()
    })
}

/// The CNAME that the answer announces for our SSRCs (RFC 5576, 6.1).
pub(crate) fn cname(answer: &str) -> Option<&str> {
    answer.lines().find_map(|l| Some(l.strip_prefix("a=ssrc:")?.split_once(" cname:")?.1.trim()))
}

fn codec(codec: StrCodec) -> Option<Codec> {
    Some(match codec {
        StrCodec::Opus => Codec::Audio(AudioCodec::Opus),
        StrCodec::PCMU => Codec::Audio(AudioCodec::Pcmu),
        StrCodec::PCMA => Codec::Audio(AudioCodec::Pcma),
        StrCodec::G722 => Codec::Audio(AudioCodec::G722),
        StrCodec::Vp8 => Codec::Video(VideoCodec::Vp8),
        StrCodec::Vp9 => Codec::Video(VideoCodec::Vp9),
        StrCodec::H264 => Codec::Video(VideoCodec::H264),
        StrCodec::Av1 => Codec::Video(VideoCodec::Av1),
        _ => return None,
    })
}

/// Five things str0m's answer does not do: one msid for audio slot i and video slot i (lip sync); VP8 first where
/// the client sends, because every browser decodes it; DTX for voices (RFC 7587, 7), since who is silent costs everybody
/// nothing then; no `playout-delay` where we only receive; and where we send no transport-wide feedback unless the client takes retransmissions to probe with
/// (`estimates`): it tells its bandwidth by REMB then.
fn polish(answer: &str, lines: &Lines, estimates: bool) -> String {
    let mut out = String::with_capacity(answer.len());
    for section in sections(answer) {
        let mid = section.lines().find_map(|l| l.strip_prefix("a=mid:")).unwrap_or_default().trim();
        let stream = slot_stream(&lines.slots, mid);
        let source = lines.inputs.iter().find(|i| i.mid.to_string() == mid).map(|i| i.source);
        let prefer = section.starts_with("m=video") && source.is_some();
        let opus = if source == Some(Source::Microphone) { opus_parameters(section) } else { None };
        let first = if prefer { vp8_payload_types(section) } else { Vec::new() };
        let has = |attribute: &str| section.lines().any(|l| l.trim_end() == attribute);
        let sends_only = has("a=sendonly");
        let sends = sends_only || has("a=sendrecv");
        for line in section.split_inclusive("\r\n") {
            if sends_only && !estimates && is_transport_wide(line) {
                continue;
            }
            // What a publisher asks for is not handed on.
            if !sends && line.trim_end().ends_with(playout::URI) {
                continue;
            }
            match (&stream, line.strip_prefix("a=msid:")) {
                (Some(stream), Some(rest)) => {
                    let track = rest.split_whitespace().nth(1).unwrap_or("track");
                    out.push_str(&format!("a=msid:{stream} {track}\r\n"));
                }
                _ if line.starts_with("m=video") && !first.is_empty() => out.push_str(&reorder(line, &first)),
                _ if opus.as_ref().is_some_and(|prefix| line.starts_with(prefix)) => {
                    out.push_str(&with_dtx(line));
                }
                _ => out.push_str(line),
            }
        }
    }
    out
}

/// str0m's candidates stand in the first section, in use or refused; clients look for them in the first that is in use
/// (RFC 8843, 7.1.3).
fn candidates_in_use(answer: String) -> String {
    let sections = sections(&answer);
    let used = sections.iter().position(|s| s.starts_with("m=") && !is_refused(s));
    let (Some(used), Some(first)) = (used.filter(|place| *place > 1), sections.get(1)) else { return answer };
    let is_candidate = |l: &&str| l.starts_with("a=candidate:") || l.starts_with("a=end-of-candidates");
    let candidates: String = first.split_inclusive("\r\n").filter(is_candidate).collect();
    let moved = sections.iter().enumerate().map(|(place, section)| match place {
        1 => section.split_inclusive("\r\n").filter(|l| !is_candidate(l)).collect(),
        _ if place == used => format!("{section}{candidates}"),
        _ => (*section).to_owned(),
    });
    moved.collect()
}

/// How the line of Opus' format parameters begins.
fn opus_parameters(section: &str) -> Option<String> {
    let pt =
        section.lines().find_map(|l| l.strip_prefix("a=rtpmap:")?.split_once(" opus/")).map(|(pt, _)| pt)?;
    Some(format!("a=fmtp:{pt} "))
}

fn with_dtx(parameters: &str) -> String {
    match parameters.trim_end() {
        said if said.contains("usedtx") => parameters.to_owned(),
        said => format!("{said};usedtx=1\r\n"),
    }
}

/// Attributes of transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01).
fn is_transport_wide(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with("transport-wide-cc-extensions-01")
        || (line.starts_with("a=rtcp-fb:") && line.ends_with("transport-cc"))
}

/// RFC 3264, 6: with port 0.
pub(crate) fn is_refused(section: &str) -> bool {
    section.split(' ').nth(1) == Some("0")
}

/// Splits before each m-line.
pub(crate) fn sections(sdp: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = sdp.match_indices("\r\nm=").map(|(at, _)| at + 2).collect();
    starts.insert(0, 0);
    starts.push(sdp.len());
    starts.windows(2).map(|w| &sdp[w[0]..w[1]]).collect()
}

fn slot_stream(slots: &SlotPlan, mid: &str) -> Option<String> {
    let place = |list: &[String]| list.iter().position(|m| m == mid);
    if slots.screen.as_deref() == Some(mid) {
        return Some("slot-screen".into());
    }
    place(&slots.audio).or_else(|| place(&slots.video)).map(|i| format!("slot-{i}"))
}

/// VP8 and its retransmission, as payload type numbers.
fn vp8_payload_types(section: &str) -> Vec<String> {
    let attribute = |prefix: &str| -> Vec<(String, String)> {
        section
            .lines()
            .filter_map(|l| l.strip_prefix(prefix)?.split_once(' '))
            .map(|(pt, rest)| (pt.to_owned(), rest.trim().to_owned()))
            .collect()
    };
    let mut found: Vec<String> =
        attribute("a=rtpmap:").into_iter().filter(|(_, c)| c.starts_with("VP8/")).map(|(pt, _)| pt).collect();
    for (pt, parameters) in attribute("a=fmtp:") {
        if parameters.strip_prefix("apt=").is_some_and(|apt| found.iter().any(|f| f == apt)) {
            found.push(pt);
        }
    }
    found
}

fn reorder(m_line: &str, first: &[String]) -> String {
    let words: Vec<&str> = m_line.split_whitespace().collect();
    let (head, types) = words.split_at(words.len().min(3));
    let is_first = |t: &&str| first.iter().any(|f| f == t);
    let (front, back): (Vec<&str>, Vec<&str>) = types.iter().partition(|t| is_first(t));
    let all: Vec<&str> = head.iter().copied().chain(front).chain(back).collect();
    format!("{}\r\n", all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_comes_first() {
        let section = "m=video 9 UDP/TLS/RTP/SAVPF 102 103 96 97\r\na=rtpmap:102 H264/90000\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";
        let first = vp8_payload_types(section);
        assert_eq!(first, ["96", "97"]);
        let line = reorder("m=video 9 UDP/TLS/RTP/SAVPF 102 103 96 97\r\n", &first);
        assert_eq!(line, "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\n");
    }

    /// As [`super::negotiate`], of a server like any other.
    fn answered(offer: &str, kind: ParticipantKind) -> Negotiated {
        let provider = str0m::crypto::from_feature_flags();
        let certificate = provider.dtls_provider.generate_certificate().unwrap();
        let credentials = IceCreds { ufrag: "00abc".into(), pass: "x".repeat(24) };
        let reach = Arc::new(Reach::new(&["127.0.0.1".parse().unwrap()], &[], Some(5_000), None));
        let terms = Terms { reach: &reach, certificate: &certificate, credentials, max_slots: 64, kind };
        negotiate(offer, terms, Instant::now()).ok().unwrap()
    }

    #[test]
    fn who_offers_remb_for_its_video_can_be_bounded() {
        for (offer, takes) in [
            (include_str!("../tests/data/chromium-148-whip.sdp"), true),
            (include_str!("../tests/data/firefox-140-whip.sdp"), true),
            (include_str!("../tests/data/safari-18-whip.sdp"), true),
        ] {
            assert_eq!(answered(offer, ParticipantKind::Whip).takes_bounds, takes);
            let without: String = offer.split_inclusive('\n').filter(|l| !l.contains("goog-remb")).collect();
            assert!(!answered(&without, ParticipantKind::Whip).takes_bounds);
        }
        // Who plays sends nothing that could be bounded.
        let player = answered(include_str!("../tests/data/chromium-148-whep.sdp"), ParticipantKind::Whep);
        assert!(!player.takes_bounds);
        assert_eq!(player.mids, ["0", "1"]);
    }

    /// RFC 8866, 6.7: what is said of the session is said of each section that says nothing.
    #[test]
    fn a_player_may_say_once_that_it_only_receives() {
        let offer = include_str!("../tests/data/chromium-148-whep.sdp");
        let lines = offer.matches("a=recvonly\r\n").count();
        let hoisted = offer.replace("a=recvonly\r\n", "").replacen("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n", 1);
        assert!(lines > 1 && hoisted.matches("a=recvonly\r\n").count() == 1);
        let [said, once] = [offer, &hoisted].map(|offer| answered(offer, ParticipantKind::Whep));
        for answer in [&said.answer, &once.answer] {
            assert_eq!(answer.matches("a=sendonly\r\n").count(), lines, "{answer}");
        }
        assert_eq!((once.slots.audio, once.slots.video), (said.slots.audio, said.slots.video));
    }

    /// What a program offers that only adds its tracks to a connection.
    #[test]
    fn who_publishes_or_plays_is_answered_for_one_way() {
        let whip = include_str!("../tests/data/chromium-148-whip.sdp");
        let whep = include_str!("../tests/data/chromium-148-whep.sdp");
        let both_ways =
            |offer: &str| offer.replace("a=sendonly", "a=sendrecv").replace("a=recvonly", "a=sendrecv");
        for (offer, kind, way) in
            [(whip, ParticipantKind::Whip, "a=recvonly\r\n"), (whep, ParticipantKind::Whep, "a=sendonly\r\n")]
        {
            let [said, both] = [offer.to_owned(), both_ways(offer)].map(|offer| answered(&offer, kind));
            assert_eq!(both.answer.matches(way).count(), 2, "{}", both.answer);
            assert!(!both.answer.contains("a=sendrecv"), "{}", both.answer);
            let slots = |of: &Negotiated| (of.slots.audio.len(), of.slots.video.len(), of.takes_bounds);
            assert_eq!(slots(&both), slots(&said));
        }
    }

    #[test]
    fn the_dependency_descriptor_is_answered_for_video() {
        let chromium = include_str!("../tests/data/chromium-156.sdp");
        let answer = answered(chromium, ParticipantKind::WebRtc).answer;
        let (mut videos, mut others) = (0, 0);
        for section in sections(&answer) {
            let video = section.starts_with("m=video");
            assert_eq!(extension(section, dependency::URI).is_some(), video, "{section}");
            (videos, others) = if video { (videos + 1, others) } else { (videos, others + 1) };
        }
        assert!(videos > 1 && others > 1);
        assert!(answer.contains("a=extmap-allow-mixed\r\n"));
    }

    #[test]
    fn voices_use_dtx() {
        let section =
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n";
        assert_eq!(opus_parameters(section).as_deref(), Some("a=fmtp:111 "));
        assert_eq!(opus_parameters("m=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n"), None);
        assert_eq!(with_dtx("a=fmtp:111 minptime=10\r\n"), "a=fmtp:111 minptime=10;usedtx=1\r\n");
        assert_eq!(with_dtx("a=fmtp:111 usedtx=0\r\n"), "a=fmtp:111 usedtx=0\r\n");
    }

    #[test]
    fn one_channel_need_not_be_said() {
        let offer =
            "a=rtpmap:0 PCMU/8000/1\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:96 VP8/90000\r\na=x/1\r\n";
        assert_eq!(for_str0m(offer), offer.replace("PCMU/8000/1", "PCMU/8000"));
    }

    #[test]
    fn candidates_of_the_peer_are_left_out() {
        let offer =
            "a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(for_str0m(offer), "a=mid:0\r\na=end-of-candidates\r\n");
    }

    #[test]
    fn sections_are_whole() {
        let sdp = "v=0\r\ns=-\r\nm=audio 1\r\na=x\r\nm=video 2\r\n";
        assert_eq!(sections(sdp), ["v=0\r\ns=-\r\n", "m=audio 1\r\na=x\r\n", "m=video 2\r\n"]);
    }
}
