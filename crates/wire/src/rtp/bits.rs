//! Readers over bytes from the network: every read is checked, nothing panics.

/// Bytes from the front of a slice; each read is `None` past the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.all.get(self.at..).unwrap_or(&[])
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let byte = *self.all.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.all.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// LEB128 as AV1 writes it (AV1 specification, 4.10.5), up to 32 bit.
    pub(crate) fn leb128(&mut self) -> Option<usize> {
        let mut value = 0u64;
        for i in 0..8 {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok().and_then(|v| usize::try_from(v).ok());
            }
        }
        None
    }
}

/// Bits of an H.264 RBSP, skipping emulation prevention bytes (ITU-T H.264, 7.3.1) on the way, or plain bits.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    byte: usize,
    bit: u8,
    zeros: u8,
    rbsp: bool,
}

impl<'a> Bits<'a> {
    /// `nal` without its header byte.
    pub(crate) fn rbsp(nal: &'a [u8]) -> Self {
        Self { bytes: nal, byte: 0, bit: 0, zeros: 0, rbsp: true }
    }

    /// All bits as they are.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self { rbsp: false, ..Self::rbsp(bytes) }
    }

    /// Bits before the next one.
    pub(crate) fn position(&self) -> usize {
        self.byte * 8 + usize::from(self.bit)
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        if self.rbsp && self.bit == 0 && self.zeros >= 2 && self.bytes.get(self.byte) == Some(&3) {
            self.byte += 1;
            self.zeros = 0;
        }
        let byte = *self.bytes.get(self.byte)?;
        let set = byte & (0x80 >> self.bit) != 0;
        self.bit += 1;
        if self.bit == 8 {
            self.bit = 0;
            self.byte += 1;
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        Some(set)
    }

    /// Up to 32 bits, most significant first.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Unsigned Exp-Golomb code, ue(v).
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        ((1u64 << zeros) - 1 + u64::from(suffix)).try_into().ok()
    }

    /// Signed Exp-Golomb code, se(v).
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 0 { -magnitude } else { magnitude }).ok()
    }
}
