//! The parser with our own writer, with other people's shapes, and with anything at all.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::write::{self, PcmLabel, PcmTrack, Writer};
use super::*;

const BOUNDS: Bounds = Bounds { header_bytes: 64 << 10, fragment_bytes: 1 << 20 };

fn track(number: u64) -> PcmTrack {
    PcmTrack { number, name: format!("TRACK_{number}"), rate_hz: 8000, label: PcmLabel::Pcm }
}

fn header() -> Vec<u8> {
    write::pcm_header("t", &[track(1), track(2)], &[("ContactId", "c-1")])
}

/// A cluster of known or unknown size, with a block that contains an EBML head.
fn cluster(timecode: u64, known: bool) -> Vec<u8> {
    let frame = [&[0x1a, 0x45, 0xdf, 0xa3, 0x1f, 0x43, 0xb6, 0x75][..], &[7; 24]].concat();
    let mut inside = Writer::new();
    inside.uint(id::TIMECODE, timecode);
    let mut inside = inside.into_bytes();
    inside.extend(write::simple_block(1, 0, &frame));
    let mut group = Writer::new();
    group.master(id::BLOCK_GROUP, |w| {
        w.binary(id::BLOCK, &[0x82, 0, 2, 0, 9, 9]).uint(id::BLOCK_DURATION, 2);
    });
    inside.extend(group.into_bytes());
    if known {
        let mut all = Writer::new();
        all.binary(id::CLUSTER, &inside);
        return all.into_bytes();
    }
    [write::live_cluster_head(), inside].concat()
}

fn document() -> Vec<u8> {
    [
        header(),
        cluster(1000, false),
        cluster(1004, true),
        write::tags(&[("ContactId", "c-2")]),
        cluster(1008, false),
    ]
    .concat()
}

fn parse(pieces: &[&[u8]]) -> Result<Vec<Item>, ParseError> {
    let mut parser = Parser::new(BOUNDS);
    let mut items = Vec::new();
    for piece in pieces {
        parser.push(piece);
        while let Some(item) = parser.next_item()? {
            items.push(item);
        }
    }
    assert!(parser.may_end(), "{} bytes left", parser.buffered());
    Ok(items)
}

fn bytes_of(items: &[Item]) -> Vec<u8> {
    let bytes = |item: &Item| match item {
        Item::Header { bytes, .. }
        | Item::ClusterStart { bytes, .. }
        | Item::Timecode { bytes, .. }
        | Item::Block { bytes, .. }
        | Item::Other { bytes }
        | Item::Trailing { bytes, .. } => bytes.clone(),
        Item::ClusterEnd => Bytes::new(),
    };
    items.iter().flat_map(|i| bytes(i).to_vec()).collect()
}

#[test]
fn a_document_comes_back_byte_for_byte_wherever_it_is_cut() {
    let document = document();
    let whole = parse(&[&document]).unwrap();
    assert_eq!(bytes_of(&whole), document);
    for cut in 0..document.len() {
        let (a, b) = document.split_at(cut);
        assert_eq!(parse(&[a, b]).unwrap(), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = document.chunks(1).collect();
    assert_eq!(parse(&single).unwrap(), whole);
}

/// In the segment's head, in clusters of both kinds, behind them: it is passed on as it is, and all else is understood.
#[test]
fn what_nobody_knows_is_passed_on() {
    let [two, four] =
        [&[0x5a, 0xbc][..], &[0x1a, 0xbc, 0xde, 0xf1]].map(|id| [id, &[0x83, 1, 2, 3]].concat());
    let head = write::document_head();
    let mut known = Writer::new();
    known.binary(id::CLUSTER, &[&cluster(1000, false)[12..], &two].concat());
    let document = [
        &head[..],
        &two,
        &header()[head.len()..],
        &four,
        &known.into_bytes(),
        &four,
        &two,
        &cluster(1004, false),
        &two,
        &write::tags(&[("ContactId", "c-2")]),
    ]
    .concat();
    let items = parse(&[&document]).unwrap();
    assert_eq!(bytes_of(&items), document);
    for cut in 0..document.len() {
        let (a, b) = document.split_at(cut);
        assert_eq!(parse(&[a, b]).unwrap(), items, "cut at {cut}");
    }
    let Item::Header { header, .. } = &items[0] else { panic!("{:?}", items[0]) };
    assert_eq!((header.tracks.len(), header.tag("ContactId")), (2, Some("c-1")));
    let count = |is: fn(&Item) -> bool| items.iter().filter(|item| is(item)).count();
    assert_eq!(count(|i| matches!(i, Item::Block { .. })), 4);
    assert_eq!(count(|i| matches!(i, Item::Other { .. })), 2);
    assert_eq!(count(|i| matches!(i, Item::Trailing { .. })), 3);
    // What is known to stand elsewhere is still refused.
    let behind = [&self::header()[..], &cluster(1000, true)].concat();
    for misplaced in [write::simple_block(1, 0, &[0; 4]), self::header()[head.len()..].to_vec()] {
        let refused = parse(&[&behind, &misplaced]);
        assert!(matches!(refused, Err(ParseError { kind: ParseErrorKind::Misplaced(_), .. })), "{refused:?}");
    }
}

#[test]
fn what_a_document_says_is_understood() {
    let items = parse(&[&document()]).unwrap();
    let Item::Header { header, .. } = &items[0] else { panic!("{:?}", items[0]) };
    assert_eq!(header.scale_ns, 1_000_000);
    assert_eq!(header.tag("ContactId"), Some("c-1"));
    let names: Vec<_> = header.tracks.iter().map(|t| (t.number, t.name.as_str(), t.rate_hz)).collect();
    assert_eq!(names, [(1, "TRACK_1", 8000.0), (2, "TRACK_2", 8000.0)]);
    assert_eq!(header.tracks[0].pcm_ms(1024), Some(64.0));
    let ticks: Vec<_> = items
        .iter()
        .filter_map(|i| if let Item::Timecode { ticks, .. } = i { Some(*ticks) } else { None })
        .collect();
    assert_eq!(ticks, [1000, 1004, 1008]);
    let blocks: Vec<_> = items
        .iter()
        .filter_map(|i| if let Item::Block { block, .. } = i { Some(*block) } else { None })
        .take(2)
        .collect();
    let first = Block { track: 1, relative: 0, len: 32, duration: None, key: true, laced: false };
    assert_eq!(blocks[0], first);
    assert_eq!(blocks[1], Block { track: 2, relative: 2, len: 2, duration: Some(2), ..first });
    assert!(items.iter().any(|i| matches!(i, Item::Trailing { tags, .. } if tags[0].value == "c-2")));
}

#[test]
fn eight_byte_sizes_and_padded_strings_as_the_producer_sdk_writes_them() {
    // EBML head and segment; Info and Tracks with sizes of 8 bytes, strings with trailing NUL.
    let wide = |id: &[u8], data: &[u8]| {
        let mut size = (data.len() as u64).to_be_bytes();
        size[0] = 1;
        [id, &size, data].concat()
    };
    let entry =
        [wide(&[0xd7], &[1]), wide(&[0x86], b"V_MPEG4/ISO/AVC\0\0"), wide(&[0x53, 0x6e], b"cam\0")].concat();
    let tracks = wide(&[0x16, 0x54, 0xae, 0x6b], &wide(&[0xae], &entry));
    let cluster = [
        vec![0x1f, 0x43, 0xb6, 0x75, 0xff],
        wide(&[0xe7], &1_700_000_000_000u64.to_be_bytes()),
        wide(&[0xa3], &[0x81, 0, 0, 0x80, 1, 2, 3]),
    ]
    .concat();
    let document = [write::document_head(), tracks, cluster].concat();
    let items = parse(&[&document]).unwrap();
    let Item::Header { header, .. } = &items[0] else { panic!("{:?}", items[0]) };
    assert_eq!((header.tracks[0].codec.as_str(), header.tracks[0].name.as_str()), ("V_MPEG4/ISO/AVC", "cam"));
    assert!(matches!(items[2], Item::Timecode { ticks: 1_700_000_000_000, .. }));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let good = header();
    let at = good.len() as u64;
    let check = |document: &[u8], kind: ParseErrorKind, offset: u64| {
        assert_eq!(parse(&[document]), Err(ParseError { kind, offset }), "{kind}");
    };
    check(b"RIFF", ParseErrorKind::NotMatroska, 0);
    check(&[header(), header()].concat(), ParseErrorKind::Misplaced(id::EBML), at);
    check(
        &[write::document_head(), write::live_cluster_head()].concat(),
        header::HeaderError::NoTracks.into(),
        write::document_head().len() as u64,
    );
    let block = |data: &[u8]| {
        let mut w = Writer::new();
        w.binary(id::SIMPLE_BLOCK, data);
        [good.clone(), write::cluster_start(0), w.into_bytes()].concat()
    };
    let in_cluster = at + write::cluster_start(0).len() as u64;
    check(&block(&[0x81, 0, 0]), block::BlockError::Short.into(), in_cluster);
    check(&block(&[0x81, 0, 0, 0x06, 1]), block::BlockError::Lacing.into(), in_cluster);
    let bomb = [&good[..], &[0x1f, 0x43, 0xb6, 0x75, 0x08, 0x7f, 0xff, 0xff, 0xff]].concat();
    check(&bomb, ParseErrorKind::FragmentTooLarge, at);
    let nested = [&good[..], &write::live_cluster_head(), &[0xa0, 0xff]].concat();
    check(&nested, element::ElementError::UnknownSize.into(), at + 12);
    let past = [&good[..], &[0x1f, 0x43, 0xb6, 0x75, 0x83, 0xa3, 0x8f]].concat();
    check(&past, element::ElementError::PastParent.into(), at + 5);
    let long = [write::document_head(), vec![0xec, 0x10, 0x01, 0, 0]].concat();
    check(&long, ParseErrorKind::HeaderTooLarge, write::document_head().len() as u64);
}

#[test]
fn a_cut_in_an_element_is_no_end() {
    let document = document();
    let mut parser = Parser::new(BOUNDS);
    parser.push(&document[..document.len() - 1]);
    while parser.next_item().unwrap().is_some() {}
    assert!(!parser.may_end());
    assert!(parser.in_cluster());
    parser.drop_rest();
    assert!(parser.may_end(), "an unknown size ends at the end");
}

/// Seeded: changed, cut and doubled documents never panic, never hand out more than came in, and what is handed out
/// is what came in.
#[test]
fn anything_at_all_is_taken_calmly() {
    for seed in 0..4000u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut document = document();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..document.len());
            match rng.random_range(0..4) {
                0 => document[at] = rng.random(),
                1 => document.truncate(at.max(1)),
                2 => document.insert(at, rng.random()),
                _ => document.extend_from_within(at..),
            }
        }
        feed(&document, &mut rng);
    }
}

fn feed(document: &[u8], rng: &mut SmallRng) {
    let mut parser = Parser::new(Bounds { header_bytes: 2048, fragment_bytes: 2048 });
    let (mut items, mut rest) = (Vec::new(), document);
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rng.random_range(1..=rest.len()));
        rest = later;
        parser.push(piece);
        loop {
            match parser.next_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(e) => {
                    assert!(e.offset <= document.len() as u64);
                    return;
                }
            }
        }
    }
    let out = bytes_of(&items);
    assert_eq!(out, document[..out.len()]);
    assert_eq!(out.len() + parser.buffered(), document.len());
}
