//! The demo bot's picture: its name, a greeting, and a level meter per participant.

use std::collections::BTreeMap;

use antiphon_base::ParticipantKey;
use antiphon_media::picture::Picture;
use antiphon_media::synth::{Canvas, Colour};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
/// Rows of meters; more participants are counted in words.
const ROWS: usize = 5;
const ROW_HEIGHT: u32 = 36;
const FIRST_ROW: u32 = 156;
/// Blocks of a meter, from -60 dBov to 0.
const BLOCKS: u32 = 30;
const METER_X: u32 = 260;
const MARGIN: u32 = 40;
/// Letters of a name that fit before its meter.
const NAME_LETTERS: usize = 17;
/// How far a meter falls per picture, in dB: slow enough for the eye.
const FALL: u8 = 4;

const PAPER: Colour = Colour { y: 236 - 4, u: 124, v: 132 };
const MUTED: Colour = Colour { y: 140, u: 136, v: 122 };
const ACCENT: Colour = Colour { y: 150, u: 112, v: 82 };
const WARM: Colour = Colour { y: 190, u: 62, v: 152 };
const HOT: Colour = Colour { y: 125, u: 92, v: 198 };
const UNLIT: Colour = Colour { y: 52, u: 136, v: 122 };

/// One participant in the picture.
pub(super) struct Meter<'a> {
    pub(super) key: ParticipantKey,
    pub(super) name: &'a str,
    /// -dBov.
    pub(super) level: u8,
}

/// Draws the pictures; meters fall slowly from one to the next.
pub(super) struct Face {
    picture: Picture,
    shown: BTreeMap<ParticipantKey, u8>,
    number: u32,
}

impl Default for Face {
    fn default() -> Self {
        let picture = Picture::black(WIDTH, HEIGHT).expect("the size is within limits");
        Self { picture, shown: BTreeMap::new(), number: 0 }
    }
}

impl Face {
    /// The next picture.
    pub(super) fn draw(&mut self, greeting: Option<&str>, meters: &[Meter<'_>]) -> &Picture {
        self.number = self.number.wrapping_add(1);
        let loudest = self.settle(meters);
        let mut canvas = Canvas::new(&mut self.picture);
        ground(&mut canvas);
        title(&mut canvas, greeting);
        pulse(&mut canvas, loudest, self.number);
        for (row, meter) in (0u32..).zip(meters.iter().take(ROWS)) {
            let y = FIRST_ROW + row * ROW_HEIGHT;
            canvas.text((MARGIN, y + 3), 2, PAPER, &shortened(meter.name));
            let level = self.shown.get(&meter.key).copied().unwrap_or(127);
            bar(&mut canvas, y, level);
        }
        if meters.len() > ROWS {
            let more = format!("AND {} MORE", meters.len() - ROWS);
            canvas.text((MARGIN, HEIGHT - 20), 1, MUTED, &more);
        }
        &self.picture
    }

    /// Lets the meters rise at once and fall slowly; the loudest.
    fn settle(&mut self, meters: &[Meter<'_>]) -> u8 {
        self.shown.retain(|key, _| meters.iter().any(|m| m.key == *key));
        for meter in meters {
            let shown = self.shown.entry(meter.key).or_insert(127);
            *shown = meter.level.min(shown.saturating_add(FALL)).min(127);
        }
        self.shown.values().copied().min().unwrap_or(127)
    }
}

/// A dark ground, a little lighter towards the top.
fn ground(canvas: &mut Canvas<'_>) {
    const STEP: u32 = 12;
    for band in 0..HEIGHT / STEP {
        let y = u8::try_from(44 - band * 22 / (HEIGHT / STEP)).unwrap_or(30);
        canvas.fill((0, band * STEP), (WIDTH, STEP), Colour { y, u: 140, v: 122 });
    }
    canvas.fill((MARGIN, 132), (WIDTH - 2 * MARGIN, 2), UNLIT);
}

fn title(canvas: &mut Canvas<'_>, greeting: Option<&str>) {
    let (title, line) = match greeting {
        Some(name) if !name.is_empty() => {
            (format!("HELLO {}!", shortened(name)), "NICE TO HEAR YOU. SAY SOMETHING.")
        }
        Some(_) => ("HELLO!".into(), "NICE TO HEAR YOU. SAY SOMETHING."),
        None => ("ANTIPHON".into(), "I SAY IT BACK, ONE SECOND LATER."),
    };
    let scale = if Canvas::text_width(5, &title) <= WIDTH - 2 * MARGIN - 90 { 5 } else { 3 };
    canvas.text((MARGIN, 42), scale, PAPER, &title);
    canvas.text((MARGIN, 98), 2, MUTED, line);
}

/// Four bars at the upper right that move with the loudest voice: call and response.
fn pulse(canvas: &mut Canvas<'_>, loudest: u8, number: u32) {
    let loud = 60 - u32::from(loudest.min(60));
    for bar in 0..4 {
        // A slow wave while nobody speaks.
        let phase = (number + bar * 4) % 20;
        let idle = if phase < 10 { phase } else { 20 - phase } / 2;
        let shape = [3, 5, 4, 2][bar as usize];
        let height = (6 + idle + loud * shape / 6).min(56);
        let colour = if loud > 0 { ACCENT } else { MUTED };
        canvas.fill((WIDTH - MARGIN - 62 + bar * 16, 70 - height / 2), (10, height), colour);
    }
}

fn bar(canvas: &mut Canvas<'_>, y: u32, level: u8) {
    let width = (WIDTH - MARGIN - METER_X) / BLOCKS;
    let lit = (60 - u32::from(level.min(60))) * BLOCKS / 60;
    for block in 0..BLOCKS {
        let colour = match block {
            _ if block >= lit => UNLIT,
            0..20 => ACCENT,
            20..26 => WARM,
            _ => HOT,
        };
        canvas.fill((METER_X + block * width, y), (width - 3, 20), colour);
    }
}

/// A name that fits before its meter.
fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS {
        return name.into();
    }
    let mut short: String = name.chars().take(NAME_LETTERS - 2).collect();
    short.push_str("..");
    short
}
