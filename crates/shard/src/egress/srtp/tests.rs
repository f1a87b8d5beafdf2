use super::*;

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

/// Our side and the peer's.
fn pair(profile: SrtpProfile) -> ((Sealer, Opener), (Sealer, Opener)) {
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| u8::try_from(i).unwrap()).collect();
    let side =
        |active| contexts(&Keys { profile, material: material.clone(), active, listens: false }).unwrap();
    (side(false), side(true))
}

fn rtp(seq: u16) -> Vec<u8> {
    let mut packet = vec![0x90, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 0x10, 5, 0, 0]);
    packet.extend(b"payload");
    packet
}

/// RFC 3711, B.3: session keys from a master key and salt.
#[test]
fn keys_derive_as_in_the_rfc() {
    let key =
        [0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39];
    let salt = [0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6];
    let master = Master { key: &key, salt: &salt };
    let (mut cipher, mut auth, mut salt) = ([0; 16], [0; 94], [0; 14]);
    master.derive(LABEL_KEY, &mut cipher).unwrap();
    master.derive(LABEL_SALT, &mut salt).unwrap();
    // The RFC goes on past the key, to show more of the key stream.
    master.derive(LABEL_AUTH, &mut auth).unwrap();
    assert_eq!(hex(&cipher), "c61e7a93744f39ee10734afe3ff7a087");
    assert_eq!(hex(&salt), "30cbbc08863d8c85d49db34a9ae1");
    assert_eq!(
        hex(&auth),
        "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef7227098\
         6371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2"
    );
}

/// RFC 3711, B.2: the key stream of AES-CM, of SSRC 0 and index 0.
#[test]
fn the_key_stream_is_as_in_the_rfc() {
    let key =
        [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
    let salt = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd];
    let mut stream = vec![0; 0xff02 * 16];
    let cipher = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
    cipher.less_safe_encrypt(&mut stream, cm_iv(&salt, 0, 0)).unwrap();
    for (block, wanted) in [
        (0, "e03ead0935c95e80e166b16dd92b4eb4"),
        (1, "d23513162b02d0f72a43a2fe4a5f97ab"),
        (2, "41e95b3bb0a2e8dd477901e4fca894c0"),
        (0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
        (0xff00, "362b7c3c6773516318a077d7fc5073ae"),
        (0xff01, "6a2cc3787889374fbeb4c81b17ba6c44"),
    ] {
        assert_eq!(hex(&stream[block * 16..][..16]), wanted, "block {block:x}");
    }
    // SSRC and index go into the initial value as RFC 3711, 4.1.1 has it: 16 bits, salt and SSRC, 48 bits of index, 16 of count.
    let EncryptionContext::Iv128(iv) = cm_iv(&salt, 0x0102_0304, 0x0506_0708_090a) else {
        panic!("another size")
    };
    assert_eq!(hex(iv.as_ref()), "f0f1f2f3f5f7f5f3fdfffdf3f5f70000");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn what_one_side_seals_the_other_finds_genuine() {
    for profile in PROFILES {
        let ((ours, _), (_, theirs)) = pair(profile);
        for (index, genuine) in [(5, true), (65_536 + 5, true), (2 * 65_536 + 5, false)] {
            let mut packet = vec![9; 3];
            packet.extend(rtp(5));
            ours.seal_rtp(&mut packet, 3, 20, 7, index).unwrap();
            assert_eq!(theirs.is_genuine_rtp(&packet[3..]), genuine, "{profile} {index}");
            assert_eq!(packet[..3], [9; 3]);
            for at in 3..packet.len() {
                packet[at] ^= 1;
                assert!(!theirs.is_genuine_rtp(&packet[3..]), "{profile}: byte {at} was changed");
                packet[at] ^= 1;
            }
        }
        for length in 0..rtp(5).len() {
            assert!(!theirs.is_genuine_rtp(&rtp(5)[..length]));
        }
    }
}

#[test]
fn rtcp_opens_once_and_only_unchanged() {
    let compound = [0x80, 200, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4];
    for profile in PROFILES {
        let ((mut ours, _), (_, mut theirs)) = pair(profile);
        let mut packet = compound.to_vec();
        ours.seal_rtcp(&mut packet, 0).unwrap();
        let mut opened = Vec::new();
        for at in 0..packet.len() {
            packet[at] ^= 1;
            assert_eq!(theirs.open_rtcp(&packet, &mut opened), None, "{profile}: byte {at} was changed");
            packet[at] ^= 1;
            assert_eq!(theirs.open_rtcp(&packet[..at], &mut opened), None);
        }
        assert_eq!(theirs.open_rtcp(&packet, &mut opened), Some(compound.as_slice()), "{profile}");
        assert_eq!(theirs.open_rtcp(&packet, &mut opened), None, "{profile}: twice");
    }
}

#[test]
fn late_rtcp_is_taken_within_the_window() {
    let mut replay = Replay { newest: 100, seen: 0 };
    let taken: Vec<bool> =
        [100, 100, 101, 99, 99, 200, 137, 136, 201, 137].into_iter().map(|i| replay.take(i)).collect();
    assert_eq!(taken, [true, false, true, true, false, true, true, false, true, false]);
}

#[test]
fn the_indices_of_a_key_end() {
    let ((mut ours, _), _) = pair(SrtpProfile::AEAD_AES_128_GCM);
    ours.next_index = ENCRYPTED - 1;
    let mut packet = vec![0x80, 200, 0, 1, 0, 0, 0, 7];
    assert!(ours.seal_rtcp(&mut packet, 0).is_ok());
    assert!(ours.seal_rtcp(&mut packet, 0).is_err());
}

#[test]
fn of_who_sends_no_media_rtcp_alone_is_opened() {
    for profile in PROFILES {
        let material = vec![7; profile.keying_material_len()];
        let side = |active, listens| {
            contexts(&Keys { profile, material: material.clone(), active, listens }).unwrap()
        };
        let ((_, mut ours), (mut theirs, _)) = (side(false, true), side(true, false));
        let mut report = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        theirs.seal_rtcp(&mut report, 0).unwrap();
        assert!(ours.open_rtcp(&report, &mut Vec::new()).is_some(), "{profile}");
        let mut packet = rtp(5);
        theirs.seal_rtp(&mut packet, 0, 20, 7, 5).unwrap();
        assert!(!ours.is_genuine_rtp(&packet), "{profile}");
        assert!(side(false, false).1.is_genuine_rtp(&packet), "{profile}");
    }
}
