//! Sources made of nothing, for tests, benches and the built-in demo bot: tones, pictures with a number in them,
//! level meters and text.

mod draw;
mod number;
mod tone;

pub use draw::{BLACK, Canvas, Colour, GREEN, GREY, RED, WHITE, YELLOW};
pub use number::{NUMBER_BITS, draw_frame_number, read_frame_number};
pub use tone::{Tone, frequency};
