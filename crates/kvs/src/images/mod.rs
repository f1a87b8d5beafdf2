//! GetImages: stored pictures as JPEG or PNG, one for each step of a time range.
//!
//! What decodes is not in reach of this crate: `server` hands in an [`Imager`], which is called off the async threads. A page is
//! bounded in images, in frames that have to be decoded for it, and in bytes; what does not fit is for the next page.

mod sampling;
mod units;

use antiphon_base::VideoCodec;
use antiphon_store::{FragmentInfo, Media};
use axum::extract::{Request, State};
use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::Kvs;
use crate::control::{Answer, answer, read};
use crate::error::KvsError;
use crate::model::GetImages;

use sampling::{Sampling, covering};
pub(crate) use units::prepared;
use units::{Group, groups};

/// Requests that decode at a time: each takes a core. More wait.
pub(crate) const MAX_AT_ONCE: usize = 2;
/// Frames that are decoded for one page: of 720p, some five seconds of a core. At least one image comes whatever it takes.
const MAX_FRAMES: usize = 2_000;
/// The largest image, as the API has it: 6 MiB in base64.
const MAX_IMAGE_BYTES: usize = 6_291_456 / 4 * 3;
/// Images of one page: as much as the answer may hold in memory.
const MAX_PAGE_BYTES: usize = 32 << 20;

/// An image's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// A JPEG of this quality, 1 to 100; else a PNG.
    pub jpeg: Option<u8>,
    /// Pixels across, if it shall be stretched.
    pub width: Option<u32>,
    /// Pixels down.
    pub height: Option<u32>,
}

/// What shall become images.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What the units are of.
    pub codec: VideoCodec,
    /// Access units in the order of decoding, the first a key frame.
    pub units: Vec<Bytes>,
    /// Of which of these units the pictures are wanted, ascending.
    pub pictures: Vec<usize>,
    /// What they become.
    pub shape: Shape,
}

/// Decodes and encodes.
pub trait Imager: std::fmt::Debug + Send + Sync {
    /// An image for each wanted picture, or `None` for one that could not be made. Takes its time: called where that is no harm.
    fn images(&self, wanted: &Wanted) -> Vec<Option<Vec<u8>>>;
}

pub(crate) async fn get_images(State(kvs): State<Kvs>, request: Request) -> Answer {
    let (caller, get): (_, GetImages) = read(&kvs, "GetImages", request).await?;
    let Some(imager) = kvs.config().images.clone() else {
        return Err(KvsError::not_implemented("GetImages"));
    };
    let sampling = Sampling::of(&get)?;
    let (stream, now) = (caller.check(get.stream.find()?)?, kvs.now_ms());
    let found = crate::playback::range(&kvs, &stream, sampling.fragments(), now)?;
    kvs.unlock(&stream, &found).await?;
    let _place = kvs.image_place().await;
    let mut page = Page::default();
    let mut at = sampling.first;
    while at <= sampling.last && page.has_room(sampling.max) {
        let Some(fragment) = covering(&found, sampling.clock, at) else {
            page.add(at, None, "NO_MEDIA");
            at += sampling.step_ms;
            continue;
        };
        // All that are wanted of this fragment.
        let mut times = vec![at];
        while times.len() < sampling.max - page.images.len() {
            let next = times[times.len() - 1] + sampling.step_ms;
            if next > sampling.last || covering(&found, sampling.clock, next) != Some(fragment) {
                break;
            }
            times.push(next);
        }
        let media = kvs.store().media(&stream, fragment.number, now).await;
        match media {
            Ok(Some(media)) => {
                let imager = imager.clone();
                let (offsets, shape) = (offsets(fragment, sampling, &times), sampling.shape);
                let made =
                    tokio::task::spawn_blocking(move || images(&*imager, &media, &offsets, shape)).await;
                let Made { images, frames } = made.unwrap_or_default();
                page.frames += frames;
                for (i, time) in
                    times.iter().enumerate().take_while(|(i, _)| *i == 0 || *i < images.len().max(1))
                {
                    let image = images.get(i).cloned().flatten();
                    kvs.imaged(image.is_some());
                    page.add(*time, image, "MEDIA_ERROR");
                    at = time + sampling.step_ms;
                }
            }
            Ok(None) => {
                page.add(at, None, "NO_MEDIA");
                at += sampling.step_ms;
            }
            Err(antiphon_store::Error::Damaged { .. }) => {
                page.add(at, None, "MEDIA_ERROR");
                at += sampling.step_ms;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut body = json!({ "Images": page.images });
    if at <= sampling.last {
        body["NextToken"] = BASE64.encode(at.to_string().as_bytes()).into();
    }
    Ok(answer(&body))
}

/// Milliseconds into the fragment.
fn offsets(fragment: &FragmentInfo, sampling: Sampling, times: &[u64]) -> Vec<u64> {
    let begin = sampling::time_ms(fragment, sampling.clock);
    times.iter().map(|at| at - begin).collect()
}

#[derive(Default)]
struct Page {
    images: Vec<Value>,
    frames: usize,
    bytes: usize,
}

impl Page {
    fn has_room(&self, max: usize) -> bool {
        let within = self.frames < MAX_FRAMES && self.bytes < MAX_PAGE_BYTES;
        self.images.len() < max && (within || self.images.is_empty())
    }

    fn add(&mut self, at_ms: u64, image: Option<Vec<u8>>, error: &str) {
        let time = crate::model::seconds(at_ms);
        self.images.push(match image.filter(|image| image.len() <= MAX_IMAGE_BYTES) {
            Some(image) => {
                self.bytes += image.len();
                json!({ "TimeStamp": time, "ImageContent": BASE64.encode(&image) })
            }
            None => json!({ "TimeStamp": time, "Error": error }),
        });
    }
}

/// What came of one fragment.
#[derive(Default)]
struct Made {
    /// For each time; ends early where the bound of frames did.
    images: Vec<Option<Vec<u8>>>,
    frames: usize,
}

/// The images of a fragment at these milliseconds into it. Takes its time.
fn images(imager: &dyn Imager, media: &Media, offsets_ms: &[u64], shape: Shape) -> Made {
    let mut made = Made { images: Vec::new(), frames: 0 };
    let Some(prepared) = prepared(&media.header, &media.frames) else {
        made.images.resize(offsets_ms.len(), None);
        return made;
    };
    for Group { units, pictures } in groups(&prepared, offsets_ms) {
        if made.frames > 0 && made.frames + units.len() > MAX_FRAMES {
            return made;
        }
        made.frames += units.len();
        let count = pictures.len();
        // Of the same picture one image is enough.
        let mut distinct = pictures.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let wanted = Wanted { codec: prepared.codec, units, pictures: distinct.clone(), shape };
        let images = if wanted.units.is_empty() { Vec::new() } else { imager.images(&wanted) };
        made.images.extend((0..count).map(|i| {
            let which = distinct.binary_search(pictures.get(i)?).ok()?;
            images.get(which).cloned().flatten()
        }));
    }
    made
}
