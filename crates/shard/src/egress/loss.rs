//! Shares of loss from which a subscriber's line is helped, and for how long: with voices said again ([`super::redundancy`]) and
//! pictures kept for retransmissions ([`super::playout`]).

/// Below this share there is nothing to help against.
pub(super) const LITTLE: f64 = 0.01;
/// From this share on one more chance is worth its price.
pub(super) const SOME: f64 = 0.03;
/// From this share on two are.
pub(super) const MUCH: f64 = 0.15;
/// Help ends when little was lost for so long: bursts come back.
pub(super) const CALM_US: u64 = 10_000_000;
