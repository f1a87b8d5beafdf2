//! EBML's variable-size integers (RFC 8794, sections 4 and 5): element ids and sizes.

/// The most bytes of an element's head: 4 of its id, 8 of its size.
pub const MAX_HEAD_BYTES: usize = 12;
/// The largest size that our own writer spends 4 bytes on: 28 bits, all ones excluded.
pub const MAX_SIZE_4: usize = (1 << 28) - 2;

/// Why bytes are no element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VintError {
    /// An id of more than 4 bytes: EBMLMaxIDLength is 4 in Matroska.
    #[error("an element id of more than 4 bytes")]
    Id,
    /// A size of more than 8 bytes.
    #[error("an element size of more than 8 bytes")]
    Size,
}

/// The size an element says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Bytes of its data.
    Known(u64),
    /// Up to the next element that cannot be inside it, or the end.
    Unknown,
}

/// The id with its marker bits and its length, `None` if bytes are missing.
///
/// # Errors
/// The first byte announces more than 4 bytes.
pub fn read_id(bytes: &[u8]) -> Result<Option<(u32, usize)>, VintError> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let len = first.leading_zeros() as usize + 1;
    if len > 4 {
        return Err(VintError::Id);
    }
    let Some(id) = bytes.get(..len) else { return Ok(None) };
    Ok(Some((id.iter().fold(0, |id, b| id << 8 | u32::from(*b)), len)))
}

/// The size and how many bytes it took, `None` if bytes are missing.
///
/// # Errors
/// The first byte announces more than 8 bytes.
pub fn read_size(bytes: &[u8]) -> Result<Option<(Size, usize)>, VintError> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Err(VintError::Size);
    }
    let Some(all) = bytes.get(..len) else { return Ok(None) };
    let mask = (1u64 << (7 * len)) - 1;
    let value = all.iter().fold(0u64, |v, b| v << 8 | u64::from(*b)) & mask;
    Ok(Some((if value == mask { Size::Unknown } else { Size::Known(value) }, len)))
}

/// Appends an id as it stands in the constants, marker bits included.
pub(super) fn write_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    out.extend_from_slice(&bytes[skip..]);
}

/// Four bytes of size, as Amazon's writer has them. `size` is at most [`MAX_SIZE_4`].
pub(super) fn size_4(size: usize) -> [u8; 4] {
    let size = u32::try_from(size.min(MAX_SIZE_4)).expect("28 bits");
    (size | 1 << 28).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_marker() {
        assert_eq!(read_id(&[0x1a, 0x45, 0xdf, 0xa3]), Ok(Some((0x1a45_dfa3, 4))));
        assert_eq!(read_id(&[0xa3]), Ok(Some((0xa3, 1))));
        assert_eq!(read_id(&[0x1a, 0x45]), Ok(None));
        assert_eq!(read_id(&[0x08, 0, 0, 0, 0]), Err(VintError::Id));
        assert_eq!(read_id(&[]), Ok(None));
        for id in [0xa3, 0x4286, 0x2a_d7b1, 0x1a45_dfa3] {
            let mut out = Vec::new();
            write_id(&mut out, id);
            assert_eq!(read_id(&out), Ok(Some((id, out.len()))));
        }
    }

    #[test]
    fn sizes_of_each_width_and_unknown() {
        for width in 1..=8usize {
            let mut bytes = vec![0; width];
            bytes[0] = 0x80 >> (width - 1);
            bytes[width - 1] |= 5;
            assert_eq!(read_size(&bytes), Ok(Some((Size::Known(5), width))), "{bytes:x?}");
            assert_eq!(read_size(&bytes[..width - 1]), Ok(None));
            let mut unknown = vec![0xff; width];
            unknown[0] = 0xff >> (width - 1);
            assert_eq!(read_size(&unknown), Ok(Some((Size::Unknown, width))));
        }
        assert_eq!(read_size(&[0]), Err(VintError::Size));
        assert_eq!(read_size(&size_4(300)), Ok(Some((Size::Known(300), 4))));
    }
}
