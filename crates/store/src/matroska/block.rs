//! A block's head (RFC 9559, section 10.2): which track, when, how.

use super::element::{ElementError, Elements, uint};
use super::id;
use super::vint::{Size, VintError, read_size};

/// Why a block is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Bytes that are no elements.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// A track number that is no vint.
    #[error(transparent)]
    Vint(#[from] VintError),
    /// Shorter than its head.
    #[error("a block shorter than its head")]
    Short,
    /// EBML lacing.
    #[error("a block with EBML lacing")]
    Lacing,
    /// A group without exactly one block.
    #[error("a BlockGroup without exactly one Block")]
    Group,
}

/// One block of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The track's number.
    pub track: u64,
    /// Ticks from the cluster's timecode.
    pub relative: i16,
    /// Bytes of the frame.
    pub len: usize,
    /// Ticks that its group says it lasts.
    pub duration: Option<u64>,
    /// Whether it says that it needs no other frame.
    pub key: bool,
    /// Whether there are several frames in it.
    pub laced: bool,
}

/// The data of a `SimpleBlock` or `Block`.
///
/// # Errors
/// Too short, or laced in EBML's way, which no reader of these streams understands.
pub fn parse(data: &[u8]) -> Result<Block, BlockError> {
    let (Size::Known(track), len) = read_size(data)?.ok_or(BlockError::Short)? else {
        return Err(BlockError::Short);
    };
    let [high, low, flags, frame @ ..] = &data[len..] else { return Err(BlockError::Short) };
    if flags & 0x06 == 0x06 {
        return Err(BlockError::Lacing);
    }
    let (key, laced) = (flags & 0x80 != 0, flags & 0x06 != 0);
    let relative = i16::from_be_bytes([*high, *low]);
    Ok(Block { track, relative, len: frame.len(), duration: None, key, laced })
}

/// The data of a `BlockGroup`.
///
/// # Errors
/// As [`parse`], or a group without exactly one block.
pub fn parse_group(data: &[u8]) -> Result<Block, BlockError> {
    let (mut block, mut duration, mut key) = (None, None, true);
    for element in Elements::new(data) {
        let element = element?;
        match element.id {
            id::BLOCK if block.is_some() => return Err(BlockError::Group),
            id::BLOCK => block = Some(parse(element.data)?),
            id::BLOCK_DURATION => duration = uint(element.data),
            id::REFERENCE_BLOCK => key = false,
            _ => {}
        }
    }
    Ok(Block { duration, key, ..block.ok_or(BlockError::Group)? })
}
