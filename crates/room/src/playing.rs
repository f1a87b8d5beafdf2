//! What a player (WHEP) is shown of what is published: the layers of a track as its extensions name them.

use antiphon_base::ErrorKind;
use antiphon_wire::whep::{Encoding, Layer, MediaLayers, Selection};

use crate::output::MAX_LAYERS;
use crate::participant::{Media, SourceState};
use crate::rates::{Rates, stacked};

/// What one player sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Playing {
    /// Something is published that it may be shown.
    pub active: bool,
    /// Its video slots by their mids, with the layers of what they show, or shall show; empty: nothing.
    pub media: Vec<(String, MediaLayers)>,
}

/// Why a layer could not be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// More often than a participant may ask for anything.
    #[error("too many requests; wait a second")]
    TooOften,
    /// It is not in the room.
    #[error("this player is not in the room any more")]
    Gone,
    /// No such line, or not a video line.
    #[error("there is no such video line: `mediaId` is the index of an m-line with video")]
    UnknownMedia,
    /// The line shows nothing.
    #[error("nothing is published for this line now; select again when it is")]
    NothingShown,
    /// What it shows has no such encoding.
    #[error("what this line shows has no encoding of that name; the event `layers` lists them")]
    UnknownEncoding,
    /// Nor such a layer.
    #[error("what this line shows has no such spatial or temporal layer; the event `layers` lists them")]
    UnknownLayer,
}

impl SelectError {
    /// The kind of error, as in the API.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::TooOften => ErrorKind::RateLimited,
            Self::Gone | Self::UnknownMedia => ErrorKind::NotFound,
            Self::NothingShown => ErrorKind::Conflict,
            Self::UnknownEncoding | Self::UnknownLayer => ErrorKind::BadRequest,
        }
    }
}

/// Whether this can be had of a track. Beyond the highest layer a maximum is no error.
pub(crate) fn check(state: &SourceState, selection: &Selection) -> Result<(), SelectError> {
    let media = state.media.as_ref().ok_or(SelectError::NothingShown)?;
    let encoding = match selection.encoding_id.as_deref() {
        Some(name) => {
            let found = state.names.iter().position(|n| n == name);
            Some(found.ok_or(SelectError::UnknownEncoding)?)
        }
        None => None,
    };
    let spatial_layers = if media.nested { media.available().count_ones() } else { 1 };
    if selection.spatial_layer_id.is_some_and(|id| u32::from(id) >= spatial_layers) {
        return Err(SelectError::UnknownLayer);
    }
    // How many temporal layers there are is known when they were measured.
    let measured = |r: &&Rates| r.known();
    let rates = encoding.map_or(&media.rates[..], |at| media.rates.get(at..=at).unwrap_or_default());
    let temporal_layers = rates.iter().filter(measured).map(Rates::temporal_layers).max();
    match (selection.temporal_layer_id, temporal_layers) {
        (Some(id), Some(count)) if id >= count => Err(SelectError::UnknownLayer),
        _ => Ok(()),
    }
}

/// The layers of a track, the highest first.
pub(crate) fn layers(state: &SourceState) -> MediaLayers {
    let mut all = MediaLayers::default();
    let Some(media) = state.media.as_ref() else { return all };
    if media.nested {
        nested(media, state.names.first(), &mut all);
        return all;
    }
    let seen = u8::try_from(u8::BITS - media.available().leading_zeros()).unwrap_or(MAX_LAYERS);
    let named = u8::try_from(state.names.len()).unwrap_or(MAX_LAYERS);
    for layer in (0..seen.max(named).min(MAX_LAYERS)).rev() {
        let at = usize::from(layer);
        let (id, rates) = (state.names.get(at).cloned(), &media.rates[at]);
        let flows = media.layers & (1 << layer) != 0;
        let (width, height) = (media.widths[at], media.heights[at]);
        let bitrate = |temporal: u8| Some(rates.latest(temporal)).filter(|bps| flows && *bps > 0);
        let encoding =
            Encoding { id: id.clone(), simulcast_idx: layer, bitrate: bitrate(u8::MAX), width, height };
        if flows { &mut all.active } else { &mut all.inactive }.push(encoding);
        if media.available() & (1 << layer) != 0 {
            all.layers.extend((0..rates.temporal_layers()).rev().map(|temporal| Layer {
                encoding_id: id.clone(),
                simulcast_idx: layer,
                spatial_layer_id: 0,
                temporal_layer_id: temporal,
                bitrate: bitrate(temporal),
                width,
                height,
            }));
        }
    }
    all
}

/// Spatial layers of one stream.
fn nested(media: &Media, name: Option<&String>, all: &mut MediaLayers) {
    let rates = stacked(media.rates);
    let known =
        |layer: u8, temporal: u8| Some(rates[usize::from(layer)].latest(temporal)).filter(|bps| *bps > 0);
    let there = |layer: &u8| media.available() & (1 << layer) != 0;
    let Some(top) = (0..MAX_LAYERS).rev().find(there) else { return };
    all.active.push(Encoding {
        id: name.cloned(),
        simulcast_idx: 0,
        bitrate: known(top, u8::MAX),
        width: None,
        height: media.heights[usize::from(top)],
    });
    for layer in (0..=top).rev().filter(there) {
        let temporal_layers = rates[usize::from(layer)].temporal_layers();
        all.layers.extend((0..temporal_layers).rev().map(|temporal| Layer {
            encoding_id: name.cloned(),
            simulcast_idx: 0,
            spatial_layer_id: layer,
            temporal_layer_id: temporal,
            bitrate: known(layer, temporal),
            width: None,
            height: media.heights[usize::from(layer)],
        }));
    }
}
