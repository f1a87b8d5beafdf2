//! Images of stored pictures: the decoders and encoders of `media`, handed to `kvs`.

use antiphon_kvs::{Imager, Wanted};
use antiphon_media::image::{Format, Size, encode};
use antiphon_media::picture::I420;
use antiphon_media::video::Decoders;

/// Decodes in this process, or in a codec worker where bots' pictures are decoded in one.
#[derive(Debug)]
pub(crate) struct Images(pub(crate) Decoders);

impl Imager for Images {
    fn images(&self, wanted: &Wanted) -> Vec<Option<Vec<u8>>> {
        let mut images = Vec::with_capacity(wanted.pictures.len());
        let Ok(mut decoder) = self.0.open(wanted.codec) else { return images };
        for (unit, data) in wanted.units.iter().enumerate() {
            let Some(next) = wanted.pictures.get(images.len()) else { break };
            match decoder.decode(data) {
                // A picture may come later than its unit, never earlier.
                Ok(Some(picture)) if unit >= *next => images.push(image(&picture, wanted)),
                Ok(_) => {}
                // What follows refers to it.
                Err(_) => break,
            }
        }
        images
    }
}

fn image(picture: &I420<'_>, wanted: &Wanted) -> Option<Vec<u8>> {
    let shape = wanted.shape;
    let size = match (shape.width, shape.height) {
        (Some(width), Some(height)) => Size::Exactly(width, height),
        (None, Some(height)) => Size::Height(height),
        _ => Size::Native,
    };
    encode(picture, size, shape.jpeg.map_or(Format::Png, Format::Jpeg)).ok()
}
