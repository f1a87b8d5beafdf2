//! Doors for the fuzz targets to what reads requests, and to what repacks what producers sent.

use antiphon_store::Frame;
use antiphon_store::matroska::{Header, Track};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::model::{GetMedia, ListFragments};
use crate::playback;
use crate::sigv4::{self, Credentials, Payload, Refusal, Request};
use crate::tokens::Tokens;

/// Lines: a query, a JSON body, then headers as `Name: value`. Nobody guesses a signature.
pub fn request(bytes: &[u8]) {
    let mut lines = bytes.split(|b| *b == b'\n');
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let (query, body) = (text(), text());
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    let key = |id: &str, _: Option<&str>| {
        let who = Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: "nobody knows".into(),
            session_token: None,
        };
        Ok::<_, Refusal>((who, ()))
    };
    let request = Request { method: "POST", path: "/kvs/getMedia", query, headers: &headers };
    for payload in [Payload::Signed(body.as_bytes()), Payload::Stream { unsigned: true }] {
        assert!(sigv4::verify(request, payload, &key, 1_700_000_000, 300).is_err());
    }
    let tokens = Tokens::new(&[1; 32]);
    assert!(tokens.read(query, 0).is_err(), "nobody guesses a signature");
    assert!(!tokens.playback().opens(query), "nobody guesses a tag");
    if let Ok(get) = serde_json::from_str::<GetMedia>(body) {
        let _ = crate::get::start(&get.start_selector);
        let _ = get.stream.find();
    }
    if let Ok(list) = serde_json::from_str::<ListFragments>(body) {
        let _ = list.stream.find();
    }
}

/// Numbers and bytes from the front of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Tracks and frames as a producer may have sent them, made into segments, a clip, and what decoders are given.
pub fn repack(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut tracks = Vec::new();
    for number in 1..=u64::from(input.byte() % 3) + 1 {
        let codec = match input.byte() % 5 {
            0 => "V_MPEG4/ISO/AVC",
            1 => "V_MPEGH/ISO/HEVC",
            2 | 3 => "A_AAC",
            _ => "V_VP8",
        };
        let (width, height) = (u64::from(input.byte()) << 2, u64::from(input.byte()) << 2);
        let codec_private = input.bytes().to_vec();
        tracks.push(Track { number, codec: codec.into(), codec_private, width, height, ..Track::default() });
    }
    let header = Header { scale_ns: 1_000_000, tracks, tags: Vec::new() };
    let mut frames = Vec::new();
    while !input.0.is_empty() {
        let head = input.byte();
        frames.push(Frame {
            track: u64::from(head & 3),
            at_ns: (i64::from(input.byte()) << 8 | i64::from(input.byte())) * 1_000_000 - 32_768_000_000,
            duration_ns: (head & 4 != 0).then(|| u64::from(input.byte()) << 40),
            key: head & 8 != 0,
            data: Bytes::copy_from_slice(input.bytes()),
        });
    }
    playback::repack(&header, &frames);
}
