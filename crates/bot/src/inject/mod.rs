//! What a bot speaks and shows: paced sound ([`player`]), pictures and access units ([`picture`]), numbered packets
//! ([`track`]).

pub(crate) mod picture;
pub(crate) mod player;
pub(crate) mod track;
