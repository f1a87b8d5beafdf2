//! What an Opus packet says by its TOC byte (RFC 6716, 3.1 and 3.2).

/// Longest packet: 120 ms (RFC 6716, 3.2.5, R5).
pub const MAX_SAMPLES: u32 = 5760;

/// Samples per channel at 48 kHz. `None` for an empty packet or one longer than [`MAX_SAMPLES`].
pub fn samples_48k(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 0x03 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    let samples = frame * count;
    (samples > 0 && samples <= MAX_SAMPLES).then_some(samples)
}

/// The encoder says "nothing new" (discontinuous transmission): only the TOC, or a frame of at most two bytes
/// (RFC 6716, 2.1.9; RFC 7587, 3.1.3).
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2
}

/// Two channels are coded.
pub fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 0x04 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_toc() {
        assert_eq!(samples_48k(&[]), None);
        assert_eq!(samples_48k(&[0xf8, 0xff, 0xfe]), Some(960)); // CELT FB 20 ms, code 0
        assert_eq!(samples_48k(&[0x78, 1]), Some(960)); // hybrid FB 20 ms
        assert_eq!(samples_48k(&[0x18]), Some(2880)); // SILK NB 60 ms
        assert_eq!(samples_48k(&[0xf9, 0]), Some(1920)); // two frames
        assert_eq!(samples_48k(&[0xfb]), None); // code 3 without its count
        assert_eq!(samples_48k(&[0xfb, 6]), Some(5760));
        assert_eq!(samples_48k(&[0xfb, 7]), None); // 140 ms
        assert_eq!(samples_48k(&[0xfb, 0]), None);
        assert_eq!(samples_48k(&[0xe3, 48]), Some(5760)); // 48 x 2.5 ms
    }

    #[test]
    fn dtx_and_stereo() {
        assert!(is_dtx(&[0x78]) && is_dtx(&[]) && !is_dtx(&[0xf8, 0xff, 0xfe]));
        assert!(is_stereo(&[0xfc, 0xff, 0xfe]) && !is_stereo(&[0xf8, 0xff, 0xfe]));
    }
}
