//! Offers of real browsers are answered, and the answers are what RFC 9429 and RFC 8843 allow; checked by a reader of SDP
//! that shares nothing with the server.

use std::collections::BTreeMap;

use antiphon_base::{ParticipantId, RoomName};
use antiphon_shard::{Config, Engine, Grants, JoinRequest};
use antiphon_sim::SERVER;
use antiphon_wire::control::{ParticipantKind, Policy};

const CLIENT: ParticipantKind = ParticipantKind::WebRtc;
const WHIP: ParticipantKind = ParticipantKind::Whip;
const WHEP: ParticipantKind = ParticipantKind::Whep;

/// File, use and text of all offers in `tests/data`: `BROWSER-VERSION[-whip|-whep].sdp`.
fn offers() -> Vec<(String, ParticipantKind, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".sdp") else { continue };
        let kind = match stem.rsplit('-').next() {
            Some("whip") => WHIP,
            Some("whep") => WHEP,
            _ => CLIENT,
        };
        all.push((name.clone(), kind, std::fs::read_to_string(path).unwrap()));
    }
    all
}

fn answer(kind: ParticipantKind, offer: &str) -> String {
    let now = std::time::Instant::now();
    let mut engine = Engine::new(Config::default(), SERVER, now, 1).unwrap();
    let grants = Grants { publish: kind != WHEP, subscribe: kind != WHIP, moderate: false };
    let request = JoinRequest {
        id: ParticipantId::new("ada").unwrap(),
        name: "Ada".into(),
        kind,
        grants,
        policy: Policy::default(),
        muted: Vec::new(),
        resume: None,
        only: None,
    };
    engine.join(now, &RoomName::new("golden").unwrap(), offer, request).unwrap().answer
}

/// A media section: its m-line in words, and its attributes.
struct Section<'a> {
    words: Vec<&'a str>,
    attributes: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn all(sdp: &'a str) -> (Vec<&'a str>, Vec<Self>) {
        let (mut session, mut sections) = (Vec::new(), Vec::<Self>::new());
        for line in sdp.lines() {
            if let Some(m) = line.strip_prefix("m=") {
                sections.push(Self { words: m.split(' ').collect(), attributes: Vec::new() });
            } else if let Some(a) = line.strip_prefix("a=") {
                sections.last_mut().map_or(&mut session, |s| &mut s.attributes).push(a);
            }
        }
        (session, sections)
    }

    fn values(&self, name: &str) -> Vec<&'a str> {
        let value = |a: &&'a str| a.strip_prefix(name)?.strip_prefix(':');
        self.attributes.iter().filter_map(value).collect()
    }

    fn value(&self, name: &str) -> &'a str {
        self.values(name).first().copied().unwrap_or_else(|| panic!("{} has no {name}", self.words.join(" ")))
    }

    fn has(&self, flag: &str) -> bool {
        self.attributes.contains(&flag)
    }

    /// `(sends, receives)`.
    fn direction(&self) -> (bool, bool) {
        match ["sendonly", "recvonly", "inactive"].map(|d| self.has(d)) {
            [true, ..] => (true, false),
            [_, true, _] => (false, true),
            [.., true] => (false, false),
            _ => (true, true),
        }
    }

    fn map(&self, name: &str) -> BTreeMap<&'a str, &'a str> {
        self.values(name).into_iter().filter_map(|v| v.split_once(' ')).collect()
    }
}

/// The answer of one accepted line.
fn check_line(offered: &Section<'_>, answered: &Section<'_>) {
    assert!(answered.has("rtcp-mux"));
    let (sends, receives) = offered.direction();
    let (we_send, we_receive) = answered.direction();
    assert!((!we_send || receives) && (!we_receive || sends), "direction");
    let (offered_maps, maps) = (offered.map("rtpmap"), answered.map("rtpmap"));
    assert!(!answered.words[3..].is_empty());
    for pt in &answered.words[3..] {
        assert!(offered.words[3..].contains(pt), "payload type {pt} was not offered");
        let name = |maps: &BTreeMap<&str, &str>| maps.get(pt).map(|m| m.to_ascii_lowercase());
        let plain = |m: String| m.strip_suffix("/1").map_or(m.clone(), str::to_owned);
        assert_eq!(name(&maps).map(plain), name(&offered_maps).map(plain), "payload type {pt}");
    }
    for (pt, _) in answered.map("rtpmap").iter().filter(|(_, map)| map.starts_with("opus/")) {
        // RFC 7587, 7.1: voices repeat themselves in band where their packets get lost.
        let parameters =
            answered.map("fmtp").get(pt).map(|p| p.split(';').map(str::trim).collect::<Vec<_>>());
        assert!(parameters.as_ref().is_some_and(|p| p.contains(&"useinbandfec=1")), "{parameters:?}");
    }
    for (pt, parameters) in answered.map("fmtp") {
        assert!(answered.words[3..].contains(&pt), "parameters of {pt}, which is not there");
        if let Some(apt) = parameters.strip_prefix("apt=") {
            assert!(answered.words[3..].contains(&apt), "retransmissions of {apt}, which is not there");
        }
    }
    let extensions = offered.map("extmap");
    for (id, uri) in answered.map("extmap") {
        let plain = id.split('/').next().unwrap();
        let same = |(i, u): (&&str, &&str)| i.split('/').next() == Some(plain) && *u == uri;
        assert!(extensions.iter().any(same), "extension {id} {uri} was not offered");
    }
    let rids: Vec<_> = offered.values("rid").iter().filter_map(|r| r.strip_suffix(" send")).collect();
    let answered_rids: Vec<_> =
        answered.values("rid").iter().filter_map(|r| r.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(answered_rids, rids, "rids");
    assert!(answered.values("rid").iter().all(|r| r.contains(" recv")));
    assert_eq!(answered.values("simulcast").len(), usize::from(!rids.is_empty()));
}

/// Candidates of both protocols, by falling priorities, as both RFCs write them.
fn check_candidates(answered: &Section<'_>) {
    let mut last = u32::MAX;
    let mut protocols = Vec::new();
    for candidate in answered.values("candidate") {
        let words: Vec<&str> = candidate.split(' ').collect();
        let [_, "1", protocol, priority, ip, port, "typ", "host", rest @ ..] = &words[..] else {
            panic!("{candidate}")
        };
        assert!(ip.parse::<std::net::IpAddr>().is_ok() && *port == "7701", "{candidate}");
        assert_eq!(*protocol == "tcp", rest.starts_with(&["tcptype", "passive"]), "{candidate}");
        let priority: u32 = priority.parse().unwrap();
        assert!(priority < last, "{candidate}");
        last = priority;
        protocols.push(*protocol);
    }
    assert_eq!(protocols, ["udp", "tcp"]);
}

/// Gives how many lines were accepted.
fn check(offer: &str, answer: &str) -> usize {
    let (offered_session, offered) = Section::all(offer);
    let (session, answered) = Section::all(answer);
    assert_eq!(offered.len(), answered.len(), "each line has its answer");
    assert!(session.contains(&"ice-lite"), "{session:?}");
    let group = |of: &[&str]| -> Vec<String> {
        let group = of.iter().find_map(|a| a.strip_prefix("group:BUNDLE ")).unwrap_or_default();
        group.split(' ').map(str::to_owned).collect()
    };
    let (bundle, offered_bundle) = (group(&session), group(&offered_session));
    let mut accepted = 0;
    for (offered, answered) in offered.iter().zip(&answered) {
        assert_eq!((offered.words[0], offered.words[2]), (answered.words[0], answered.words[2]));
        let mid = answered.value("mid");
        assert_eq!(offered.value("mid"), mid);
        if answered.words[1] == "0" {
            assert!(!bundle.iter().any(|b| b == mid), "{mid} is rejected and bundled");
            continue;
        }
        accepted += 1;
        assert!(
            bundle.iter().any(|b| b == mid) && offered_bundle.iter().any(|b| b == mid),
            "{mid} in bundle"
        );
        // Attributes of the transport may stand once for all (RFC 8843, 7.1.3), in the session or in the first line.
        assert!(matches!(answered.value("setup"), "passive" | "active"));
        assert!(answered.value("ice-ufrag").len() >= 4 && answered.value("ice-pwd").len() >= 22);
        assert!(answered.value("fingerprint").starts_with("sha-256 "));
        if answered.words[0] == "application" {
            assert_eq!(answered.value("sctp-port"), "5000");
        } else {
            check_line(offered, answered);
        }
    }
    check_candidates(answered.iter().find(|s| s.words[1] != "0").unwrap());
    accepted
}

#[test]
fn offers_of_browsers_are_answered_by_the_rules() {
    let offers = offers();
    for browser in ["chromium", "firefox", "safari"] {
        for kind in [CLIENT, WHIP, WHEP] {
            let is =
                |(name, k, _): &(String, ParticipantKind, String)| name.starts_with(browser) && *k == kind;
            assert!(offers.iter().any(is), "{browser} {kind:?}");
        }
    }
    for (name, kind, offer) in offers {
        let lines = offer.lines().filter(|l| l.starts_with("m=")).count();
        eprintln!("{name}: {lines} lines");
        assert_eq!(check(&offer, &answer(kind, &offer)), lines, "{name}: all lines are of use");
    }
}

#[test]
fn what_a_browser_adds_one_day_is_answered_too() {
    let safari = include_str!("../data/safari-18-whip.sdp");
    // Names instead of numbers, and an attribute that nobody knows.
    let named = safari
        .replace("BUNDLE 0 1", "BUNDLE audio video")
        .replace("a=mid:0", "a=mid:audio")
        .replace("a=mid:1", "a=mid:video\r\na=from-the-future:1 2;x=\"3\"");
    assert_eq!(check(&named, &answer(WHIP, &named)), 2);
    // A line with codecs that nobody here speaks: it is refused, the others are not.
    let (head, video) = safari.split_at(safari.find("m=video").unwrap());
    let strange = video
        .lines()
        .filter(|l| !["rtpmap", "fmtp", "rtcp-fb", "ssrc"].iter().any(|a| l.starts_with(&format!("a={a}"))))
        .map(|l| match l.starts_with("m=video") {
            true => "m=video 9 UDP/TLS/RTP/SAVPF 104".to_owned(),
            false => l.replace("a=mid:1", "a=mid:2"),
        })
        .chain(["a=rtpmap:104 H265/90000".to_owned()])
        .fold(String::new(), |all, line| all + &line + "\r\n");
    let three = format!("{}{video}{strange}", head.replace("BUNDLE 0 1", "BUNDLE 0 1 2"));
    assert_eq!(check(&three, &answer(CLIENT, &three)), 2);
    // Even as the first, where candidates usually stand.
    let (head, audio) = head.split_at(head.find("m=audio").unwrap());
    let first = format!("{}{strange}{audio}{video}", head.replace("BUNDLE 0 1", "BUNDLE 2 0 1"));
    assert_eq!(check(&first, &answer(CLIENT, &first)), 2);
}
