//! What payload types stand for in an offer: one thing each, in all its lines (RFC 8843, 10.1.2: the same in all lines of a
//! bundle). str0m negotiates them for the whole connection, and panics where two of its codecs find theirs under one number.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Formats of all lines together: a browser's line has about 50.
const MAX_FORMATS: usize = 4_096;

/// What a payload type stands for: its mapping, and that of its parameters by which codecs are told apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    map: String,
    parameters: BTreeMap<&'static str, String>,
}

/// `Err`: why it cannot be answered.
pub(crate) fn check_payload_types(offer: &str) -> Result<(), String> {
    let mut known: BTreeMap<u8, Meaning> = BTreeMap::new();
    let mut count = 0;
    let mut lines = offer.lines().skip_while(|l| !l.starts_with("m=")).peekable();
    while let Some(first) = lines.next() {
        let mut here: BTreeMap<u8, Meaning> = formats(first).map(|pt| (pt, Meaning::default())).collect();
        count += here.len();
        while let Some(line) = lines.next_if(|l| !l.starts_with("m=")) {
            count += usize::from(read(&mut here, line)?);
        }
        if count > MAX_FORMATS {
            return Err(format!("it has more than {MAX_FORMATS} payload formats"));
        }
        for (pt, mut meaning) in here {
            if meaning.map.is_empty() {
                meaning.map = fixed(pt).into();
            }
            match known.entry(pt) {
                Entry::Vacant(new) => drop(new.insert(meaning)),
                Entry::Occupied(old) if *old.get() != meaning => return Err(two(pt)),
                Entry::Occupied(_) => {}
            }
        }
    }
    Ok(())
}

/// What stands for itself (RFC 3551, 6).
fn fixed(pt: u8) -> &'static str {
    match pt {
        0 => "pcmu/8000",
        8 => "pcma/8000",
        9 => "g722/8000",
        13 => "cn/8000",
        _ => "",
    }
}

fn two(pt: u8) -> String {
    format!("payload type {pt} stands for two things (RFC 8843, 10.1.2)")
}

/// Payload types that an m-line lists; of data channels there are none.
fn formats(line: &str) -> impl Iterator<Item = u8> {
    line.split_ascii_whitespace().skip(3).filter_map(|format| format.parse().ok())
}

/// Takes an attribute in, if it is one of these. `true`: it is.
fn read(here: &mut BTreeMap<u8, Meaning>, line: &str) -> Result<bool, String> {
    let (attribute, is_map) = match (line.strip_prefix("a=rtpmap:"), line.strip_prefix("a=fmtp:")) {
        (Some(attribute), _) => (attribute, true),
        (None, Some(attribute)) => (attribute, false),
        (None, None) => return Ok(false),
    };
    let Some((pt, rest)) = attribute.trim_start().split_once(' ') else { return Ok(true) };
    let Ok(pt) = pt.trim().parse::<u8>() else { return Ok(true) };
    let meaning = here.entry(pt).or_default();
    if is_map {
        let map = rest.trim().to_ascii_lowercase();
        // One channel is what there is unless something else is said (RFC 8866, 6.6).
        let map = map.strip_suffix("/1").unwrap_or(&map).to_owned();
        if !meaning.map.is_empty() && meaning.map != map {
            return Err(two(pt));
        }
        meaning.map = map;
        return Ok(true);
    }
    for (name, value) in rest.split(';').filter_map(telling) {
        if meaning.parameters.insert(name, value.clone()).is_some_and(|old| old != value) {
            return Err(two(pt));
        }
    }
    Ok(true)
}

/// A parameter by which codecs of one name are told apart, or formats that carry others.
fn telling(parameter: &str) -> Option<(&'static str, String)> {
    let parameter = parameter.trim().to_ascii_lowercase();
    let Some((name, value)) = parameter.split_once('=') else {
        // RED lists what it carries (RFC 2198, 5).
        return parameter.contains('/').then_some(("red", parameter));
    };
    let value = value.trim();
    match name.trim() {
        "apt" => Some(("apt", value.to_owned())),
        "packetization-mode" => Some(("packetization-mode", value.to_owned())),
        "profile-id" => Some(("profile-id", value.to_owned())),
        "profile" => Some(("profile", value.to_owned())),
        "tier" => Some(("tier", value.to_owned())),
        // The level behind the profile may differ (RFC 6184, 8.2.2).
        "profile-level-id" => Some(("profile-level-id", value.chars().take(4).collect())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&str]) -> String {
        format!("v=0\r\ns=-\r\na=rtpmap:1 above/1\r\n{}\r\n", lines.join("\r\n"))
    }

    #[test]
    fn what_stands_for_one_thing_is_taken() {
        let video = "m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42001f\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102";
        let higher = video.replace("42001f", "420028");
        let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 0 111\r\na=rtpmap:0 PCMU/8000/1\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10";
        let stereo =
            audio.replace("minptime=10", "minptime=10;stereo=1").replace("a=rtpmap:0 PCMU/8000/1\r\n", "");
        let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel";
        assert_eq!(check_payload_types(&offer(&[audio, video, &higher, &stereo, data])), Ok(()));
    }

    #[test]
    fn what_stands_for_two_is_not() {
        let refused = |lines: &[&str], pt: u8| {
            assert_eq!(check_payload_types(&offer(lines)), Err(two(pt)), "{lines:?}");
        };
        let h264 = "m=video 9 X 102\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42001f";
        refused(&[h264, &h264.replace("mode=1", "mode=0")], 102);
        refused(&[h264, &h264.replace("42001f", "42e01f")], 102);
        refused(&[h264, "m=audio 9 X 111\r\na=rtpmap:102 H264/90000"], 102);
        refused(&["m=audio 9 X 0", "m=video 9 X 0\r\na=rtpmap:0 VP8/90000"], 0);
        refused(&["m=video 9 X 96\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:96 VP9/90000"], 96);
        refused(&["m=video 9 X 97\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=fmtp:97 apt=98"], 97);
        refused(&["m=audio 9 X 63\r\na=fmtp:63 111/111", "m=audio 9 X 63\r\na=fmtp:63 0/0"], 63);
    }
}
