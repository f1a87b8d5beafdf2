//! Sources made of nothing, for tests, benches and the built-in demo bot: tones, pictures with a number in them.

mod tone;

pub use tone::Tone;
