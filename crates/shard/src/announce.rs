//! SSRCs of the lines on which a client only listens.
//!
//! str0m would make a stream for each of them, with a cache and counters that nobody uses, because sending is ours
//! ([`crate::egress`]); what holds them stays as large when they are taken away (7 kB for two lines, 29 kB for a browser's
//! eight). So it reads such lines as inactive, and what it would have said of them (RFC 3264, 6.1; RFC 5576, 4.1 and
//! 4.2) is put into its answer here.

use antiphon_wire::control::ParticipantKind;
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::sdp::{attribute, is_refused, sections};

/// Characters of a CNAME: 95 bits (RFC 7022, 5 asks for 96 or so, drawn at random).
const CNAME_CHARACTERS: usize = 16;

const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];

/// A description in which each audio and video section says its direction: else that of the session holds, and else both
/// (RFC 8866, 6.7). str0m takes such a section for an inactive one.
pub(crate) fn directed(sdp: &str) -> String {
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    for line in sdp.split_inclusive('\n') {
        if line.starts_with("m=") {
            parts.push(Vec::new());
        }
        parts.last_mut().into_iter().for_each(|part| part.push(line));
    }
    let direction = |part: &[&str]| {
        let said = |known: &&str| part.iter().any(|l| l.trim_end() == *known);
        DIRECTIONS.into_iter().find(|known| said(known))
    };
    let mut out = String::with_capacity(sdp.len());
    let usual = parts.first().and_then(|session| direction(session)).unwrap_or("a=sendrecv");
    for (place, part) in parts.iter().enumerate() {
        let is_direction = |l: &str| DIRECTIONS.contains(&l.trim_end());
        part.iter().filter(|l| place > 0 || !is_direction(l)).for_each(|l| out.push_str(l));
        if part.first().is_some_and(|l| is_media(l)) && direction(part).is_none() {
            let end = if out.ends_with('\n') { "" } else { "\r\n" };
            out.push_str(&format!("{end}{usual}\r\n"));
        }
    }
    out
}

/// A [`directed`] offer as one of a session that goes one way: who publishes by WHIP may offer to receive as well and is answered with
/// `recvonly` all the same (RFC 9725, 4.2), a WHEP player with `sendonly` (draft-ietf-wish-whep-04).
pub(crate) fn one_way(offer: String, kind: ParticipantKind) -> String {
    let way = match kind {
        ParticipantKind::Whip => "a=sendonly",
        ParticipantKind::Whep => "a=recvonly",
        ParticipantKind::WebRtc | ParticipantKind::Bot => return offer,
    };
    let line = |l: &str| if l.trim_end() == "a=sendrecv" { format!("{way}\r\n") } else { l.to_owned() };
    offer.split_inclusive('\n').map(line).collect()
}

fn is_media(line: &str) -> bool {
    line.starts_with("m=audio ") || line.starts_with("m=video ")
}

/// For each m-line of a [`directed`] offer: on it the client only receives media.
pub(crate) fn listening(offer: &str) -> Vec<bool> {
    let (mut lines, mut media) = (Vec::new(), false);
    for line in offer.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            media = is_media(line);
            lines.push(false);
        } else if line == "a=recvonly"
            && let Some(last) = lines.last_mut()
        {
            *last = media;
        }
    }
    lines
}

/// The offer without them, for str0m.
pub(crate) fn muted(offer: &str, listening: &[bool]) -> String {
    let (mut place, mut listens) = (listening.iter(), false);
    let line = |l: &str| {
        if l.starts_with("m=") {
            listens = place.next() == Some(&true);
        }
        if listens && l.trim_end() == "a=recvonly" { "a=inactive\r\n".to_owned() } else { l.to_owned() }
    };
    offer.split_inclusive('\n').map(line).collect()
}

/// str0m's answer to [`muted`], as one to the offer: where the client listens, we send, on SSRCs of our own.
pub(crate) fn streams(answer: &str, listening: &[bool]) -> String {
    let cname = crate::sdp::cname(answer).map_or_else(new_cname, str::to_owned);
    let mut drawn = Vec::new();
    let mut out = String::with_capacity(answer.len());
    for (place, section) in sections(answer).into_iter().enumerate() {
        let listens = place.checked_sub(1).and_then(|line| listening.get(line)) == Some(&true);
        if !listens || is_refused(section) {
            out.push_str(section);
            continue;
        }
        out.push_str(&section.replacen("a=inactive\r\n", "a=sendonly\r\n", 1));
        let ssrc = draw(&mut drawn, answer);
        let rtx = section.contains(" rtx/").then(|| draw(&mut drawn, answer));
        let msid = attribute(section, "msid").unwrap_or_default();
        for ssrc in [Some(ssrc), rtx].into_iter().flatten() {
            out.push_str(&format!("a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{ssrc} msid:{msid}\r\n"));
        }
        if let Some(rtx) = rtx {
            out.push_str(&format!("a=ssrc-group:FID {ssrc} {rtx}\r\n"));
        }
    }
    out
}

fn new_cname() -> String {
    rand::rng().sample_iter(Alphanumeric).take(CNAME_CHARACTERS).map(char::from).collect()
}

/// An SSRC that nobody has here.
fn draw(drawn: &mut Vec<u32>, answer: &str) -> u32 {
    loop {
        let ssrc = rand::rng().random_range(1..u32::MAX);
        if !drawn.contains(&ssrc) && !answer.contains(&format!("a=ssrc:{ssrc} ")) {
            drawn.push(ssrc);
            return ssrc;
        }
    }
}

/// The SSRC that a section announces, and that of its retransmissions.
pub(crate) fn announced(section: &str) -> (u32, Option<u32>) {
    let number = |s: &str| s.parse().ok();
    if let Some((ssrc, rtx)) =
        attribute(section, "ssrc-group").and_then(|g| g.strip_prefix("FID ")?.split_once(' '))
    {
        return (number(ssrc).unwrap_or(0), number(rtx));
    }
    let ssrc = attribute(section, "ssrc").and_then(|s| s.split(' ').next());
    (ssrc.and_then(number).unwrap_or(0), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=recvonly\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=sendrecv\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n";

    #[test]
    fn lines_that_only_listen_are_kept_from_str0m() {
        assert_eq!(listening(OFFER), [true, false, false]);
        assert_eq!(listening(&OFFER.replace("\r\n", "\n")), [true, false, false]);
        let muted = muted(OFFER, &[true, false, false]);
        assert_eq!((muted.matches("a=inactive").count(), muted.matches("a=sendrecv").count()), (1, 1));
    }

    #[test]
    fn a_direction_of_the_session_is_that_of_sections_without_one() {
        let lines =
            ["m=audio 9 X 111\r\na=mid:0\r\n", "m=video 9 X 96\r\na=sendonly\r\n", "m=application 9 X y\r\n"];
        let sdp = |session: &str| format!("v=0\r\n{session}{}", lines.concat());
        let said = |session: &str, wanted: &str| {
            let [audio, video, data] = lines;
            assert_eq!(directed(&sdp(session)), format!("v=0\r\n{audio}{wanted}\r\n{video}{data}"));
        };
        said("a=recvonly\r\n", "a=recvonly");
        said("a=inactive\r\n", "a=inactive");
        said("", "a=sendrecv");
        let directed = directed(&sdp("a=recvonly\r\n"));
        let listening = listening(&directed);
        assert_eq!(listening, [true, false, false]);
        let muted = muted(&directed, &listening);
        assert_eq!((muted.matches("a=inactive").count(), muted.matches("a=recvonly").count()), (1, 0));
        // A description that ends in the middle of a line.
        assert_eq!(super::directed("v=0\r\nm=audio 9 X 0"), "v=0\r\nm=audio 9 X 0\r\na=sendrecv\r\n");
    }

    #[test]
    fn each_gets_ssrcs_of_its_own() {
        let line = |mid: u8, port: u8, rtx: &str| {
            format!(
                "m=video {port} UDP/TLS/RTP/SAVPF 96 97\r\na=mid:{mid}\r\na=inactive\r\na=msid:s t{mid}\r\n{rtx}"
            )
        };
        let rtx = "a=rtpmap:97 rtx/90000\r\n";
        let answer =
            ["v=0\r\n".to_owned(), line(0, 9, rtx), line(1, 9, ""), line(2, 0, rtx), line(3, 9, rtx)]
                .concat();
        let said = streams(&answer, &[true, true, true, false]);
        let parts = sections(&said);
        let got: Vec<(u32, Option<u32>)> = parts[1..].iter().map(|s| announced(s)).collect();
        assert!(got[0].0 != 0 && got[0].1.is_some_and(|rtx| rtx != got[0].0));
        assert!(got[1].0 != 0 && got[1].0 != got[0].0 && got[1].1.is_none());
        assert_eq!(got[2..], [(0, None); 2], "refused, and asked for by nobody");
        assert!(parts[1].contains("a=sendonly\r\n") && parts[4].contains("a=inactive\r\n"));
        assert!(parts[1].contains(&format!("a=ssrc:{} msid:s t0\r\n", got[0].0)));
        assert_eq!(said.matches(" cname:").count(), 3);
    }
}
