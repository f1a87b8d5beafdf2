use super::*;

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

/// Our side and the peer's.
fn pair(profile: SrtpProfile) -> ((Sealer, Opener), (Sealer, Opener)) {
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| u8::try_from(i).unwrap()).collect();
    let side = |active| contexts(&Keys { profile, material: material.clone(), active }).unwrap();
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
    let (mut cipher, mut auth, mut salt) = ([0; 16], [0; 20], [0; 14]);
    master.derive(LABEL_KEY, &mut cipher).unwrap();
    master.derive(LABEL_SALT, &mut salt).unwrap();
    master.derive(LABEL_AUTH, &mut auth).unwrap();
    let wanted =
        [0xc6, 0x1e, 0x7a, 0x93, 0x74, 0x4f, 0x39, 0xee, 0x10, 0x73, 0x4a, 0xfe, 0x3f, 0xf7, 0xa0, 0x87];
    assert_eq!(cipher, wanted);
    assert_eq!(salt, [0x30, 0xcb, 0xbc, 0x08, 0x86, 0x3d, 0x8c, 0x85, 0xd4, 0x9d, 0xb3, 0x4a, 0x9a, 0xe1]);
    assert_eq!(auth[..8], [0xce, 0xbe, 0x32, 0x1f, 0x6f, 0xf7, 0x71, 0x6b]);
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
