//! Which times a request is about, and which fragment has them.

use antiphon_store::{Clock, FragmentInfo, Range};
use data_encoding::BASE64;
use serde_json::Value;

use super::Shape;
use crate::error::KvsError;
use crate::model::GetImages;
use crate::time;

/// As Amazon has it.
const MAX_RANGE_MS: u64 = 300_000;
/// As Amazon has it.
const STEP_MS: std::ops::RangeInclusive<u64> = 200..=20_000;
const DEFAULT_STEP_MS: u64 = 3_000;
/// As Amazon has it: more is asked for in vain.
const MAX_IMAGES: usize = 25;
const DEFAULT_QUALITY: u8 = 80;
/// As Amazon has it.
const MAX_WIDTH: u32 = 3_840;
const MAX_HEIGHT: u32 = 2_160;
/// A fragment that began so long before a time may still cover it; a longer one is found by its beginning only.
const LOOK_BACK_MS: u64 = 60_000;

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampling {
    pub(super) clock: Clock,
    /// Of this page.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) step_ms: u64,
    pub(super) max: usize,
    pub(super) shape: Shape,
}

impl Sampling {
    pub(super) fn of(get: &GetImages) -> Result<Self, KvsError> {
        let bad = |text: &str| Err(KvsError::invalid(text.to_owned()));
        let at = |value: &Value, field: &str| {
            time::from_json(value).ok_or_else(|| KvsError::invalid(format!("{field}: not a time.")))
        };
        let clock = crate::playback::clock(&get.image_selector_type)
            .map_err(|_| KvsError::invalid("ImageSelectorType: no such type."))?;
        let (start, last) =
            (at(&get.start_timestamp, "StartTimestamp")?, at(&get.end_timestamp, "EndTimestamp")?);
        if start > last || last - start > MAX_RANGE_MS {
            return bad("EndTimestamp: before StartTimestamp, or more than 300 s after it.");
        }
        let step_ms = get.sampling_interval.unwrap_or(DEFAULT_STEP_MS);
        if !STEP_MS.contains(&step_ms) {
            return bad("SamplingInterval: 200 to 20000 ms.");
        }
        let first = match &get.next_token {
            None => start,
            Some(token) => position(token, start, last, step_ms)
                .ok_or_else(|| KvsError::invalid("NextToken: not one of this request."))?,
        };
        let max = match get.max_results.unwrap_or(MAX_IMAGES) {
            0 => return bad("MaxResults: at least 1."),
            max => max.min(MAX_IMAGES),
        };
        Ok(Self { clock, first, last, step_ms, max, shape: shape(get)? })
    }

    /// Where to look for fragments.
    pub(super) fn fragments(&self) -> Range {
        Range { clock: self.clock, start_ms: self.first.saturating_sub(LOOK_BACK_MS), end_ms: self.last }
    }
}

/// A time of the request's own.
fn position(token: &str, start: u64, last: u64, step_ms: u64) -> Option<u64> {
    let bytes = BASE64.decode(token.as_bytes()).ok()?;
    let at: u64 = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
    ((start..=last).contains(&at) && (at - start).is_multiple_of(step_ms)).then_some(at)
}

fn shape(get: &GetImages) -> Result<Shape, KvsError> {
    let quality = get.format_config.iter().flatten().map(|(key, value)| match key.as_str() {
        "JPEGQuality" => value.parse().ok().filter(|quality| (1..=100).contains(quality)),
        _ => None,
    });
    let quality: Option<u8> = quality
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| KvsError::invalid("FormatConfig: JPEGQuality, 1 to 100."))?
        .pop();
    let jpeg = match get.format.as_str() {
        "JPEG" => Some(quality.unwrap_or(DEFAULT_QUALITY)),
        "PNG" if quality.is_none() => None,
        _ => return Err(KvsError::invalid("Format: JPEG or PNG, and FormatConfig with JPEG only.")),
    };
    let within = |given: Option<u32>, max: u32| given.is_none_or(|n| (1..=max).contains(&n));
    let (width, height) = (get.width_pixels, get.height_pixels);
    if !within(width, MAX_WIDTH) || !within(height, MAX_HEIGHT) || (width.is_some() && height.is_none()) {
        let message = "WidthPixels: 1 to 3840, with HeightPixels only; HeightPixels: 1 to 2160.";
        return Err(KvsError::invalid(message));
    }
    Ok(Shape { jpeg, width, height })
}

/// When a fragment begins.
pub(super) fn time_ms(fragment: &FragmentInfo, clock: Clock) -> u64 {
    match clock {
        Clock::Producer => fragment.producer_ms,
        Clock::Server => fragment.server_ms,
    }
}

/// The fragment that has a time: of several, the one that began last. They are in the order of the clock.
pub(super) fn covering(found: &[FragmentInfo], clock: Clock, at_ms: u64) -> Option<&FragmentInfo> {
    let begun = found.partition_point(|f| time_ms(f, clock) <= at_ms);
    let last = found.get(begun.checked_sub(1)?)?;
    (at_ms < time_ms(last, clock) + last.duration_ms.max(1)).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(change: &[(&str, Value)]) -> Result<Sampling, KvsError> {
        let mut get = json!({
            "StreamName": "s", "ImageSelectorType": "PRODUCER_TIMESTAMP", "Format": "JPEG",
            "StartTimestamp": 100.0, "EndTimestamp": 110.0,
        });
        change.iter().for_each(|(key, value)| get[*key] = value.clone());
        Sampling::of(&serde_json::from_value(get).unwrap())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let shape = Shape { jpeg: Some(80), width: None, height: None };
        let expected = Sampling {
            clock: Clock::Producer,
            first: 100_000,
            last: 110_000,
            step_ms: 3_000,
            max: 25,
            shape,
        };
        assert_eq!(of(&[]).unwrap(), expected);
        let shape = Shape { jpeg: None, width: Some(10), height: Some(20) };
        let asked = of(&[
            ("Format", json!("PNG")),
            ("WidthPixels", json!(10)),
            ("HeightPixels", json!(20)),
            ("SamplingInterval", json!(200)),
            ("MaxResults", json!(100)),
            ("NextToken", json!(BASE64.encode(b"100600"))),
        ]);
        assert_eq!(asked.unwrap(), Sampling { first: 100_600, step_ms: 200, shape, ..expected });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for change in [
            ("ImageSelectorType", json!("NOW")),
            ("EndTimestamp", json!(99.0)),
            ("EndTimestamp", json!(401.0)),
            ("StartTimestamp", json!("yesterday")),
            ("SamplingInterval", json!(199)),
            ("SamplingInterval", json!(20_001)),
            ("MaxResults", json!(0)),
            ("Format", json!("GIF")),
            ("WidthPixels", json!(10)),
            ("HeightPixels", json!(0)),
            ("HeightPixels", json!(2_161)),
            ("FormatConfig", json!({ "JPEGQuality": "0" })),
            ("FormatConfig", json!({ "Depth": "8" })),
            ("NextToken", json!("####")),
            ("NextToken", json!(BASE64.encode(b"100001"))),
            ("NextToken", json!(BASE64.encode(b"113000"))),
        ] {
            assert!(of(std::slice::from_ref(&change)).is_err(), "{change:?}");
        }
        assert!(of(&[("Format", json!("PNG")), ("FormatConfig", json!({ "JPEGQuality": "9" }))]).is_err());
    }
}
