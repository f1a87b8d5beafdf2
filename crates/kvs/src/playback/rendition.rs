//! A Matroska track as an MP4 track: H.264 (RFC 9559 `V_MPEG4/ISO/AVC`, whose `CodecPrivate` is an `avcC`), H.265
//! (`V_MPEGH/ISO/HEVC`, `hvcC`) and AAC (`A_AAC`, an AudioSpecificConfig of ISO/IEC 14496-3).

use std::num::{NonZeroU16, NonZeroU32};

use antiphon_store::matroska::{Header, Track};
use shiguredo_mp4::boxes::{
    AudioSampleEntryFields, Avc1Box, AvccBox, EsdsBox, Hvc1Box, HvccBox, Mp4aBox, SampleEntry,
    VisualSampleEntryFields,
};
use shiguredo_mp4::descriptors::{
    DecoderConfigDescriptor, DecoderSpecificInfo, EsDescriptor, SlConfigDescriptor,
};
use shiguredo_mp4::{Decode, FixedPointNumber, TrackKind, Uint, bitstream, codec_string};

use super::MediaFault;

/// Ticks per second of pictures, as MPEG has it: every usual frame rate fits.
const VIDEO_TIMESCALE: NonZeroU32 = NonZeroU32::new(90_000).expect("not 0");
/// Samples of one AAC frame.
const AAC_FRAME: u32 = 1024;

/// One track of what is played.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendition {
    /// The track's number in the fragments.
    pub(crate) number: u64,
    pub(crate) kind: TrackKind,
    pub(crate) timescale: NonZeroU32,
    pub(crate) entry: SampleEntry,
    /// RFC 6381.
    pub(crate) codec: String,
    /// Bytes of the lengths before NAL units; `None`: sound.
    pub(crate) nal_length: Option<usize>,
    /// Ticks that every frame lasts, where they are all alike.
    pub(crate) frame_ticks: Option<u32>,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Which tracks may be repacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Pictures, perhaps with sound.
    Pictures,
    /// That, or sound alone.
    Any,
}

/// The tracks of a session, pictures first.
pub(crate) fn renditions(header: &Header, wanted: Wanted) -> Result<Vec<Rendition>, MediaFault> {
    let mut tracks: Vec<&Track> = header.tracks.iter().collect();
    tracks.sort_by_key(|track| track.number);
    let sound_alone = [TrackKind::Audio];
    let kinds: Vec<_> = tracks.iter().map(|track| kind(track)).collect::<Result<_, _>>()?;
    match kinds.as_slice() {
        [TrackKind::Video] | [TrackKind::Video, TrackKind::Audio] => {}
        alone if alone == sound_alone && wanted == Wanted::Any => {}
        _ => return Err(MediaFault::Unsupported),
    }
    tracks.into_iter().map(rendition).collect()
}

fn kind(track: &Track) -> Result<TrackKind, MediaFault> {
    match track.codec.as_str() {
        // The first is what Amazon's documentation calls it.
        "V_MPEG/ISO/AVC" | "V_MPEG4/ISO/AVC" | "V_MPEGH/ISO/HEVC" => Ok(TrackKind::Video),
        codec if codec == "A_AAC" || codec.starts_with("A_AAC/") => Ok(TrackKind::Audio),
        _ => Err(MediaFault::Unsupported),
    }
}

fn rendition(track: &Track) -> Result<Rendition, MediaFault> {
    if track.codec_private.is_empty() {
        return Err(MediaFault::MissingPrivate);
    }
    match track.codec.as_str() {
        "V_MPEGH/ISO/HEVC" => hevc(track),
        codec if codec.starts_with("A_AAC") => aac(track),
        _ => avc(track),
    }
}

/// A box of these four letters with this in it.
fn boxed<T: Decode>(letters: &[u8; 4], content: &[u8]) -> Result<T, MediaFault> {
    let size = u32::try_from(content.len() + 8).map_err(|_| MediaFault::InvalidPrivate)?;
    let bytes = [&size.to_be_bytes()[..], letters, content].concat();
    T::decode(&bytes).map(|(decoded, _)| decoded).map_err(|_| MediaFault::InvalidPrivate)
}

fn visual(width: u16, height: u16) -> VisualSampleEntryFields {
    VisualSampleEntryFields {
        data_reference_index: NonZeroU16::MIN,
        width,
        height,
        horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
        vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
        frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
        compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
        depth: VisualSampleEntryFields::DEFAULT_DEPTH,
    }
}

fn codec(entry: &SampleEntry) -> Result<String, MediaFault> {
    codec_string::from_sample_entry(entry).map_err(|_| MediaFault::InvalidPrivate)
}

/// Width and height as the header says them.
fn said(track: &Track) -> Option<(u16, u16)> {
    let (width, height) = (u16::try_from(track.width).ok()?, u16::try_from(track.height).ok()?);
    (width > 0 && height > 0).then_some((width, height))
}

fn pictures(
    track: &Track,
    entry: SampleEntry,
    size: (u16, u16),
    nal_length: u8,
) -> Result<Rendition, MediaFault> {
    Ok(Rendition {
        number: track.number,
        kind: TrackKind::Video,
        timescale: VIDEO_TIMESCALE,
        codec: codec(&entry)?,
        entry,
        nal_length: Some(usize::from(nal_length) + 1),
        frame_ticks: None,
        width: size.0,
        height: size.1,
    })
}

fn avc(track: &Track) -> Result<Rendition, MediaFault> {
    let avcc_box: AvccBox = boxed(b"avcC", &track.codec_private)?;
    let first = avcc_box.sps_list.first().ok_or(MediaFault::InvalidPrivate)?;
    let sps = bitstream::h264::parse_sps(first).map_err(|_| MediaFault::InvalidPrivate)?;
    if avcc_box.pps_list.is_empty() {
        return Err(MediaFault::InvalidPrivate);
    }
    let size = said(track).unwrap_or((sps.width, sps.height));
    let nal_length = avcc_box.length_size_minus_one.get();
    let visual = visual(size.0, size.1);
    let entry = SampleEntry::Avc1(Avc1Box { visual, avcc_box, unknown_boxes: Vec::new() });
    pictures(track, entry, size, nal_length)
}

fn hevc(track: &Track) -> Result<Rendition, MediaFault> {
    let hvcc_box: HvccBox = boxed(b"hvcC", &track.codec_private)?;
    if hvcc_box.nalu_arrays.is_empty() {
        return Err(MediaFault::InvalidPrivate);
    }
    // Its size is read nowhere else than in the header.
    let size = said(track).ok_or(MediaFault::InvalidPrivate)?;
    let nal_length = hvcc_box.length_size_minus_one.get();
    let visual = visual(size.0, size.1);
    let entry = SampleEntry::Hvc1(Hvc1Box { visual, hvcc_box, unknown_boxes: Vec::new() });
    pictures(track, entry, size, nal_length)
}

/// Sampling frequencies by their index in an AudioSpecificConfig.
const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

fn aac(track: &Track) -> Result<Rendition, MediaFault> {
    let [first, second, ..] = track.codec_private[..] else { return Err(MediaFault::InvalidPrivate) };
    let (object_type, index) = (first >> 3, (first & 7) << 1 | second >> 7);
    let channels = u16::from(second >> 3 & 0x0f);
    let rate = AAC_RATES.get(usize::from(index)).copied().ok_or(MediaFault::InvalidPrivate)?;
    // Main, LC, SSR, LTP, and SBR and PS over them: what has frames of 1024 and these bits.
    if !matches!(object_type, 1..=5 | 29) || channels > 7 {
        return Err(MediaFault::InvalidPrivate);
    }
    let timescale = NonZeroU32::new(rate).ok_or(MediaFault::InvalidPrivate)?;
    let entry = SampleEntry::Mp4a(Mp4aBox {
        audio: AudioSampleEntryFields {
            data_reference_index: NonZeroU16::MIN,
            channelcount: channels.max(1),
            samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
            // What does not fit stands in the descriptor.
            samplerate: FixedPointNumber::new(u16::try_from(rate).unwrap_or_default(), 0),
        },
        esds_box: EsdsBox { es: descriptor(&track.codec_private) },
        unknown_boxes: Vec::new(),
    });
    Ok(Rendition {
        number: track.number,
        kind: TrackKind::Audio,
        timescale,
        codec: codec(&entry)?,
        entry,
        nal_length: None,
        frame_ticks: Some(AAC_FRAME),
        width: 0,
        height: 0,
    })
}

fn descriptor(private: &[u8]) -> EsDescriptor {
    EsDescriptor {
        es_id: EsDescriptor::MIN_ES_ID,
        stream_priority: EsDescriptor::LOWEST_STREAM_PRIORITY,
        depends_on_es_id: None,
        url_string: None,
        ocr_es_id: None,
        dec_config_descr: DecoderConfigDescriptor {
            object_type_indication: DecoderConfigDescriptor::OBJECT_TYPE_INDICATION_AUDIO_ISO_IEC_14496_3,
            stream_type: DecoderConfigDescriptor::STREAM_TYPE_AUDIO,
            up_stream: DecoderConfigDescriptor::UP_STREAM_FALSE,
            buffer_size_db: Uint::new(0),
            max_bitrate: 0,
            avg_bitrate: 0,
            dec_specific_info: Some(DecoderSpecificInfo { payload: private.to_vec() }),
        },
        sl_config_descr: SlConfigDescriptor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(codec: &str, private: &[u8]) -> Track {
        Track { number: 1, codec: codec.into(), codec_private: private.into(), ..Track::default() }
    }

    fn header(tracks: Vec<Track>) -> Header {
        Header { scale_ns: 1_000_000, tracks, tags: Vec::new() }
    }

    #[test]
    fn sound_has_the_rate_of_its_configuration() {
        let all = renditions(&header(vec![track("A_AAC", &[0x11, 0x90])]), Wanted::Any).unwrap();
        assert_eq!((all[0].timescale.get(), all[0].codec.as_str()), (48_000, "mp4a.40.2"));
        let alone = renditions(&header(vec![track("A_AAC", &[0x11, 0x90])]), Wanted::Pictures);
        assert_eq!(alone, Err(MediaFault::Unsupported));
    }

    #[test]
    fn what_is_no_track_of_ours_is_named() {
        let one = |codec: &str, private: &[u8]| {
            renditions(&header(vec![track(codec, private)]), Wanted::Any).unwrap_err()
        };
        assert_eq!(one("A_PCM/INT/LIT", &[1]), MediaFault::Unsupported);
        assert_eq!(one("V_VP8", &[]), MediaFault::Unsupported);
        assert_eq!(one("V_MPEG4/ISO/AVC", &[]), MediaFault::MissingPrivate);
        assert_eq!(one("A_AAC", &[]), MediaFault::MissingPrivate);
        assert_eq!(one("A_AAC", &[0x11]), MediaFault::InvalidPrivate);
        assert_eq!(one("A_AAC", &[0xff, 0xff]), MediaFault::InvalidPrivate);
        for bytes in [&[0, 0, 0, 1, 0x67][..], &[1; 6], &[1, 66, 0, 30, 255, 225, 0, 4, 0x67, 0, 0, 0]] {
            assert_eq!(one("V_MPEG4/ISO/AVC", bytes), MediaFault::InvalidPrivate, "{bytes:?}");
            assert_eq!(one("V_MPEGH/ISO/HEVC", bytes), MediaFault::InvalidPrivate, "{bytes:?}");
        }
    }
}
