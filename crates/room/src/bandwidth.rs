//! What is known of a subscriber's line.

/// What a subscriber can receive, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bandwidth {
    /// Until something is known. Layers are chosen by it, and nothing is shed for it.
    Assumed(u64),
    /// As estimated by what arrives, or as the subscriber tells (REMB).
    Measured(u64),
}

impl Bandwidth {
    /// Bits per second.
    pub fn bps(self) -> u64 {
        match self {
            Self::Assumed(bps) | Self::Measured(bps) => bps,
        }
    }

    /// Something is known.
    pub fn is_measured(self) -> bool {
        matches!(self, Self::Measured(_))
    }
}
