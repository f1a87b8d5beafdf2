//! The element ids that the store reads or writes (RFC 9559, section 5), with their marker bits.

/// Level 0 and global elements.
pub const EBML: u32 = 0x1A45_DFA3;
/// DocType, a string.
pub const DOC_TYPE: u32 = 0x4282;
/// All that is not the EBML head.
pub const SEGMENT: u32 = 0x1853_8067;
/// Padding.
pub const VOID: u32 = 0xEC;
/// A checksum of its parent.
pub const CRC_32: u32 = 0xBF;

/// Where the other level-1 elements are.
pub const SEEK_HEAD: u32 = 0x114D_9B74;
/// Title, scale, programs.
pub const INFO: u32 = 0x1549_A966;
/// Nanoseconds of one tick; 1 000 000 if absent.
pub const TIMECODE_SCALE: u32 = 0x2A_D7B1;
/// Ticks of the whole, a float.
pub const DURATION: u32 = 0x4489;
/// Name of the whole.
pub const TITLE: u32 = 0x7BA9;
/// Program that wrote the container.
pub const MUXING_APP: u32 = 0x4D80;
/// Program that asked for it.
pub const WRITING_APP: u32 = 0x5741;
/// The list of tracks.
pub const TRACKS: u32 = 0x1654_AE6B;
/// One track.
pub const TRACK_ENTRY: u32 = 0xAE;
/// The number that blocks name it by.
pub const TRACK_NUMBER: u32 = 0xD7;
/// Unique over files.
pub const TRACK_UID: u32 = 0x73C5;
/// 1 video, 2 audio, 17 subtitle.
pub const TRACK_TYPE: u32 = 0x83;
/// Its name for people.
pub const TRACK_NAME: u32 = 0x536E;
/// `A_PCM/INT/LIT`, `V_MPEG4/ISO/AVC`, …
pub const CODEC_ID: u32 = 0x86;
/// What the decoder needs first.
pub const CODEC_PRIVATE: u32 = 0x63A2;
/// Nanoseconds of a frame.
pub const DEFAULT_DURATION: u32 = 0x23_E383;
/// Settings of an audio track.
pub const AUDIO: u32 = 0xE1;
/// Hertz, a float.
pub const SAMPLING_FREQUENCY: u32 = 0xB5;
/// How many channels.
pub const CHANNELS: u32 = 0x9F;
/// Bits of a sample.
pub const BIT_DEPTH: u32 = 0x6264;
/// Settings of a video track.
pub const VIDEO: u32 = 0xE0;
/// Encoded width.
pub const PIXEL_WIDTH: u32 = 0xB0;
/// Encoded height.
pub const PIXEL_HEIGHT: u32 = 0xBA;

/// Frames of some seconds.
pub const CLUSTER: u32 = 0x1F43_B675;
/// Ticks at which the cluster begins.
pub const TIMECODE: u32 = 0xE7;
/// Where the cluster stands in the segment; 0 in a live stream.
pub const POSITION: u32 = 0xA7;
/// Size of the cluster before.
pub const PREV_SIZE: u32 = 0xAB;
/// A frame.
pub const SIMPLE_BLOCK: u32 = 0xA3;
/// A frame with more said about it.
pub const BLOCK_GROUP: u32 = 0xA0;
/// The frame in a group.
pub const BLOCK: u32 = 0xA1;
/// Ticks it lasts.
pub const BLOCK_DURATION: u32 = 0x9B;
/// Another frame that it needs.
pub const REFERENCE_BLOCK: u32 = 0xFB;

/// The seek index.
pub const CUES: u32 = 0x1C53_BB6B;
/// Files beside the media.
pub const ATTACHMENTS: u32 = 0x1941_A469;
/// Named times.
pub const CHAPTERS: u32 = 0x1043_A770;
/// Metadata.
pub const TAGS: u32 = 0x1254_C367;
/// Metadata about one target.
pub const TAG: u32 = 0x7373;
/// A name and a value.
pub const SIMPLE_TAG: u32 = 0x67C8;
/// The name.
pub const TAG_NAME: u32 = 0x45A3;
/// The value, as text.
pub const TAG_STRING: u32 = 0x4487;

/// Whether the element stands directly below the segment: what ends a cluster of unknown size.
pub fn is_level_1(id: u32) -> bool {
    matches!(id, SEEK_HEAD | INFO | TRACKS | CLUSTER | CUES | ATTACHMENTS | CHAPTERS | TAGS)
}

/// Whether the element cannot stand below the segment behind a cluster. What nobody knows can (RFC 8794, section 6.2): it is passed on.
pub fn is_misplaced_behind_cluster(id: u32) -> bool {
    matches!(id, EBML | SEGMENT | INFO | TRACKS | TIMECODE | SIMPLE_BLOCK | BLOCK_GROUP | BLOCK)
}
