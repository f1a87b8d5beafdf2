//! Walking over whole elements in a slice: for heads and tags that have been received completely.

use super::vint::{Size, VintError, read_id, read_size};

/// Why a slice is no list of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// An id or a size that cannot be.
    #[error(transparent)]
    Vint(#[from] VintError),
    /// An element reaches past its parent.
    #[error("an element reaches past its parent")]
    PastParent,
    /// Unknown size where only the segment and clusters may have it.
    #[error("an unknown size where it may not be")]
    UnknownSize,
}

/// One whole element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its id with marker bits.
    pub id: u32,
    /// Its data, without the head.
    pub data: &'a [u8],
}

/// The elements of a master element's data. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Over the data of a master element.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    fn read(&mut self) -> Result<Element<'a>, ElementError> {
        let (id, id_len) = read_id(self.0)?.ok_or(ElementError::PastParent)?;
        let (size, size_len) = read_size(&self.0[id_len..])?.ok_or(ElementError::PastParent)?;
        let Size::Known(size) = size else { return Err(ElementError::UnknownSize) };
        let start = id_len + size_len;
        let end = usize::try_from(size).ok().and_then(|s| start.checked_add(s));
        let data = end.and_then(|end| self.0.get(start..end)).ok_or(ElementError::PastParent)?;
        self.0 = &self.0[start + data.len()..];
        Ok(Element { id, data })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, ElementError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

/// An unsigned integer of 0 to 8 bytes; longer ones are `None`.
pub fn uint(data: &[u8]) -> Option<u64> {
    (data.len() <= 8).then(|| data.iter().fold(0, |v, b| v << 8 | u64::from(*b)))
}

/// A float of 0, 4 or 8 bytes.
pub fn float(data: &[u8]) -> Option<f64> {
    match data.len() {
        0 => Some(0.0),
        4 => Some(f64::from(f32::from_be_bytes(data.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(data.try_into().ok()?)),
        _ => None,
    }
}

/// Text without the NUL bytes that some producers pad with; what is not UTF-8 is replaced.
pub fn text(data: &[u8]) -> String {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}
