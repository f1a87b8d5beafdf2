//! Fragment numbers: 47 decimal digits that sort in time, laid out as Amazon's are.
//!
//! `1<<156 | counter:64 << 92 | 0:16 << 76 | server_ms:48 << 28 | random:28`. All have 47 digits, so text and number
//! sort alike, as long as the counter is below 2^60.

use std::fmt;
use std::str::FromStr;

/// Decimal digits of every number.
pub(crate) const DIGITS: usize = 47;
/// AfterFragmentNumber and the like take at most this many digits.
const MAX_INPUT_DIGITS: usize = 128;
const TOP: u32 = 1 << 28;
const SERVER_MS_MASK: u128 = (1 << 48) - 1;

/// A number of up to 160 bits: one of ours, or a position between ours that a client made up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentNumber {
    /// Bits 128 and up.
    high: u32,
    low: u128,
}

/// Not a fragment number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fragment number has 1 to 128 decimal digits")]
pub struct NumberError;

impl FragmentNumber {
    /// Before every fragment.
    pub const MIN: Self = Self { high: 0, low: 0 };
    /// Behind every fragment.
    pub const MAX: Self = Self { high: u32::MAX, low: u128::MAX };

    /// The `counter`-th number of a stream; `random` gives its low 28 bits.
    pub fn new(counter: u64, server_ms: u64, random: u32) -> Self {
        let high = TOP | u32::try_from(counter >> 36).expect("28 bits");
        let low = u128::from(counter & ((1 << 36) - 1)) << 92
            | (u128::from(server_ms) & SERVER_MS_MASK) << 28
            | u128::from(random & 0x0fff_ffff);
        Self { high, low }
    }

    /// Its place in the stream's sequence.
    pub fn counter(self) -> u64 {
        let low = u64::try_from(self.low >> 92).expect("36 bits");
        u64::from(self.high & (TOP - 1)) << 36 | low
    }

    /// When its first byte was received, in milliseconds since 1970.
    pub fn server_ms(self) -> u64 {
        u64::try_from(self.low >> 28 & SERVER_MS_MASK).expect("48 bits")
    }

    /// The position just before this one.
    pub fn before(self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(1);
        Self { high: self.high.saturating_sub(u32::from(borrow)), low }
    }

    /// The bits from 128 up, and those below.
    pub(crate) fn parts(self) -> (u32, u128) {
        (self.high, self.low)
    }

    /// From what [`Self::parts`] gave.
    pub(crate) fn from_parts(high: u32, low: u128) -> Self {
        Self { high, low }
    }

    fn limbs(self) -> [u32; 5] {
        let limb = |shift: u32| u32::try_from(self.low >> shift & 0xffff_ffff).expect("32 bits");
        [self.high, limb(96), limb(64), limb(32), limb(0)]
    }
}

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.limbs();
        let mut groups = Vec::new();
        while limbs.iter().any(|l| *l != 0) {
            let mut rest = 0u64;
            for limb in &mut limbs {
                let value = rest << 32 | u64::from(*limb);
                *limb =
                    u32::try_from(value / 1_000_000_000).expect("below 2^32, as rest is below the divisor");
                rest = value % 1_000_000_000;
            }
            groups.push(rest);
        }
        write!(f, "{}", groups.pop().unwrap_or(0))?;
        groups.iter().rev().try_for_each(|group| write!(f, "{group:09}"))
    }
}

impl fmt::Debug for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}@{}", self.counter(), self.server_ms())
    }
}

impl FromStr for FragmentNumber {
    type Err = NumberError;

    /// Numbers too large for us are behind every fragment.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        if text.is_empty() || text.len() > MAX_INPUT_DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NumberError);
        }
        let mut limbs = [0u32; 5];
        // Nine digits at a time, the first ones fewer: a limb times 10^9 and a carry are below 2^64.
        let (first, rest) = text.as_bytes().split_at(text.len() % 9);
        for group in std::iter::once(first).chain(rest.chunks(9)) {
            let mut carry = group.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            for limb in limbs.iter_mut().rev() {
                let value = u64::from(*limb) * 1_000_000_000 + carry;
                *limb = u32::try_from(value & 0xffff_ffff).expect("32 bits");
                carry = value >> 32;
            }
            if carry != 0 {
                return Ok(Self::MAX);
            }
        }
        let low = limbs[1..].iter().fold(0u128, |low, limb| low << 32 | u128::from(*limb));
        Ok(Self { high: limbs[0], low })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_number_of_amazon_reads_as_documented() {
        // From the documentation of GetMedia; its time is that of the example's server timestamp.
        let text = "91343852333181432392682062607743920146159169392";
        let number: FragmentNumber = text.parse().unwrap();
        assert_eq!(number.to_string(), text);
        assert_eq!(number.counter(), 1);
        let year_ms = 31_557_600_000u64;
        let year = 1970 + number.server_ms() / year_ms;
        assert!((2017..2026).contains(&year), "{year}");
    }

    #[test]
    fn numbers_have_47_digits_and_sort_as_text() {
        let mut last = FragmentNumber::new(0, 0, 0);
        for counter in [0, 1, 2, 1 << 35, 1 << 36, (1 << 60) - 1] {
            let number = FragmentNumber::new(counter, 1_700_000_000_123, 0x0fff_ffff);
            assert_eq!((number.counter(), number.server_ms()), (counter, 1_700_000_000_123));
            let text = number.to_string();
            assert_eq!(text.len(), DIGITS);
            assert_eq!(text.parse(), Ok(number));
            assert!(text > last.to_string() && number > last);
            last = number;
        }
    }

    #[test]
    fn clients_may_give_any_number() {
        for bad in ["", "1.5", "-1", "+1", "1e3", " 1", &"1".repeat(129)] {
            assert_eq!(bad.parse::<FragmentNumber>(), Err(NumberError), "{bad}");
        }
        assert_eq!("0".parse(), Ok(FragmentNumber::MIN));
        assert_eq!("9".repeat(128).parse(), Ok(FragmentNumber::MAX));
        let ours = FragmentNumber::new(1, 1, 1);
        assert!("12".parse::<FragmentNumber>().unwrap() < ours);
        assert!("9".repeat(48).parse::<FragmentNumber>().unwrap() > ours);
        assert_eq!("000000001000000000".parse::<FragmentNumber>().unwrap().to_string(), "1000000000");
    }
}
