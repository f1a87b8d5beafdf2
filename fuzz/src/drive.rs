//! Feeds a target with inputs made from a seed: kept ones, changed, joined and cut; and says which one it fails on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Target;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`; 0 if that is 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max + 1)).map(|_| self.byte()).collect()
    }
}

/// An input on which a target panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which of the inputs of this seed.
    pub number: u64,
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

/// Values at which lengths and counts go wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x10, b'0', b'\n'];

/// One change of an input.
fn change(random: &mut Random, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = random.below(input.len());
    let length = (1 + random.below(16)).min(input.len().saturating_sub(at));
    match random.below(9) {
        0 => input.truncate(at),
        1 => input.insert(at, random.byte()),
        2 => drop(input.drain(at..at + length)),
        // A piece of itself, or of another input, in another place.
        3 => {
            let piece = input[at..at + length].to_vec();
            let to = random.below(input.len());
            input.splice(to..to, piece);
        }
        4 if !others.is_empty() => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len());
            let upto = (from + 1 + random.below(64)).min(other.len());
            input.splice(at..at, other[from..upto].iter().copied());
        }
        5 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        6 if !input.is_empty() => input[at] = EDGES[random.below(EDGES.len())],
        7 if !input.is_empty() => {
            input[at] = input[at].wrapping_add(if random.below(2) == 0 { 1 } else { 255 })
        }
        _ if !input.is_empty() => input[at] = random.byte(),
        _ => input.extend(random.bytes(64)),
    }
}

/// The input of that number: every fiftieth is nothing but random bytes.
fn make(target: &Target, corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if corpus.is_empty() || random.below(50) == 0 {
        return random.bytes(target.max_bytes.min(256));
    }
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(8) {
        change(random, &mut input, corpus);
    }
    input.truncate(target.max_bytes);
    input
}

/// Runs a target on the whole corpus, then on `count` inputs made from `seed`.
///
/// # Errors
/// The first input on which it panicked.
pub fn drive(target: &Target, corpus: &[Vec<u8>], seed: u64, count: u64) -> Result<(), Box<Failure>> {
    let mut random = Random(seed);
    let kept = corpus.iter().cloned().zip(0..);
    let made = (0..count).map(|number| (make(target, corpus, &mut random), number));
    for (input, number) in kept.chain(made) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            let text = panic.downcast_ref::<String>().cloned();
            let message = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            return Err(Box::new(Failure { number, input, message: message.unwrap_or_default() }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics_on_a_long_run(bytes: &[u8]) {
        assert!(!bytes.windows(3).any(|w| w == [0xff; 3]), "three in a row");
    }

    #[test]
    fn a_fault_is_found_and_told_with_its_input() {
        let target = Target { name: "t", run: panics_on_a_long_run, max_bytes: 64 };
        let failure = drive(&target, &[vec![0xff, 0xff, 0, 1, 2]], 1, 100_000).unwrap_err();
        assert_eq!(failure.message, "three in a row");
        assert!(failure.input.windows(3).any(|w| w == [0xff; 3]) && failure.input.len() <= 64);
        assert_eq!(drive(&target, &[vec![0xff, 0xff, 0, 1, 2]], 1, 100_000), Err(failure));
    }

    #[test]
    fn inputs_differ_and_stay_within_the_limit() {
        let target = Target { name: "t", run: |_| (), max_bytes: 40 };
        let corpus = [vec![7; 40], vec![9; 20]];
        let mut random = Random(3);
        let all: std::collections::BTreeSet<_> =
            (0..10_000).map(|_| make(&target, &corpus, &mut random)).collect();
        assert!(all.len() > 5_000, "{}", all.len());
        assert!(all.iter().all(|i| i.len() <= 40));
    }
}
