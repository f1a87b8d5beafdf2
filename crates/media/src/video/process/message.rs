//! What goes over the socket between a decoder and its codec worker.
//!
//! Both ends are the same build of the same program, so there is no version. All numbers are little endian:
//!
//! | message | bytes |
//! |---|---|
//! | access unit | length (`u32`, of all that follows), number (`u32`), the access unit |
//! | answer | length (`u32`), the access unit's number (`u32`), kind (`u8`), then by kind |
//! | .. 0 picture | width, height (`u32`), matrix (`u8`, 1 = BT.709), full range (`u8`), the I420 planes, tight |
//! | .. 1 nothing to show | |
//! | .. 2 error | code (`u8`), see `failure` |
//!
//! The worker parses hostile access units, so its answers are checked as if they came from a stranger.

use antiphon_base::VideoCodec;

use super::super::{DecodeError, MAX_ACCESS_UNIT_BYTES};
use crate::picture::{Colour, I420, MAX_PIXELS, MAX_SIDE, Matrix, check_size};

/// Bytes of the length before each message.
pub(super) const LENGTH: usize = 4;
/// Bytes of an access unit's number.
const NUMBER: usize = 4;
/// Bytes of an answer before a picture's planes.
const PICTURE_HEAD: usize = NUMBER + 1 + 10;

/// The longest access unit message.
pub(super) const MAX_UNIT: usize = NUMBER + MAX_ACCESS_UNIT_BYTES;
/// The longest answer: the largest picture, with both chroma planes rounded up.
#[expect(clippy::cast_possible_truncation, reason = "below 2^24")]
pub(super) const MAX_ANSWER: usize = PICTURE_HEAD + MAX_PIXELS as usize * 3 / 2 + MAX_SIDE as usize + 1;

const PICTURE: u8 = 0;
const NOTHING: u8 = 1;
const ERROR: u8 = 2;

/// The other end does not speak this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a worker answered. A picture's planes lie in the message from [`Answer::PLANES`] on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Picture { width: u32, height: u32, colour: Colour },
    Nothing,
    Failed(DecodeError),
}

impl Answer {
    /// Where the planes of a picture begin.
    pub(super) const PLANES: usize = PICTURE_HEAD;
}

/// The length of the message that follows, at most `most`.
pub(super) fn length(head: [u8; LENGTH], most: usize) -> Result<usize, Malformed> {
    let length = u32::from_le_bytes(head) as usize;
    if length > most { Err(Malformed) } else { Ok(length) }
}

fn begin(number: u32, body: usize, out: &mut Vec<u8>) {
    out.clear();
    let length = u32::try_from(NUMBER + body).expect("bodies are below MAX_ANSWER");
    out.extend(length.to_le_bytes());
    out.extend(number.to_le_bytes());
}

/// Makes the whole message of an access unit of at most [`MAX_ACCESS_UNIT_BYTES`].
pub(super) fn write_unit(number: u32, unit: &[u8], out: &mut Vec<u8>) {
    begin(number, unit.len(), out);
    out.extend_from_slice(unit);
}

/// Number and access unit of a message without its length.
pub(super) fn parse_unit(message: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (number, unit) = message.split_first_chunk().ok_or(Malformed)?;
    Ok((u32::from_le_bytes(*number), unit))
}

/// Makes the whole answer to access unit `number`.
pub(super) fn write_answer(number: u32, result: Result<Option<I420<'_>>, DecodeError>, out: &mut Vec<u8>) {
    match result {
        Ok(Some(picture)) => {
            begin(number, PICTURE_HEAD - NUMBER + tight_bytes(picture.width(), picture.height()), out);
            out.push(PICTURE);
            out.extend(picture.width().to_le_bytes());
            out.extend(picture.height().to_le_bytes());
            let colour = picture.colour();
            out.extend([u8::from(colour.matrix == Matrix::Bt709), u8::from(colour.full_range)]);
            picture.copy_to(out);
        }
        Ok(None) => {
            begin(number, 1, out);
            out.push(NOTHING);
        }
        Err(error) => {
            begin(number, 2, out);
            out.extend([ERROR, code(&error)]);
        }
    }
}

/// Checks an answer without its length. A picture has a size within the limits and exactly its planes.
pub(super) fn parse_answer(codec: VideoCodec, message: &[u8]) -> Result<(u32, Answer), Malformed> {
    let (number, rest) = message.split_first_chunk().ok_or(Malformed)?;
    let (kind, body) = rest.split_first().ok_or(Malformed)?;
    let answer = match (*kind, body) {
        (PICTURE, _) => picture(body)?,
        (NOTHING, []) => Answer::Nothing,
        (ERROR, [code]) => Answer::Failed(failure(*code, codec).ok_or(Malformed)?),
        _ => return Err(Malformed),
    };
    Ok((u32::from_le_bytes(*number), answer))
}

fn picture(body: &[u8]) -> Result<Answer, Malformed> {
    let (width, rest) = body.split_first_chunk().ok_or(Malformed)?;
    let (height, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let ([bt709 @ 0..=1, full @ 0..=1], planes) = rest.split_first_chunk().ok_or(Malformed)? else {
        return Err(Malformed);
    };
    let (width, height) = (u32::from_le_bytes(*width), u32::from_le_bytes(*height));
    check_size(width, height).map_err(|_| Malformed)?;
    if planes.len() != tight_bytes(width, height) {
        return Err(Malformed);
    }
    let matrix = if *bt709 == 1 { Matrix::Bt709 } else { Matrix::Bt601 };
    Ok(Answer::Picture { width, height, colour: Colour { matrix, full_range: *full == 1 } })
}

/// Of a size that was checked.
fn tight_bytes(width: u32, height: u32) -> usize {
    let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
    width as usize * height as usize + 2 * chroma
}

fn code(error: &DecodeError) -> u8 {
    match error {
        DecodeError::Corrupt => 0,
        DecodeError::TooLarge => 1,
        DecodeError::Unsupported(_) => 2,
        // The rest is for the parent to say.
        _ => 3,
    }
}

fn failure(code: u8, codec: VideoCodec) -> Option<DecodeError> {
    Some(match code {
        0 => DecodeError::Corrupt,
        1 => DecodeError::TooLarge,
        2 => DecodeError::Unsupported(codec),
        3 => DecodeError::Library,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::picture::Picture;

    const CODEC: VideoCodec = VideoCodec::Av1;

    fn body(message: &[u8], most: usize) -> &[u8] {
        let (head, rest) = message.split_first_chunk().expect("a length");
        assert_eq!(length(*head, most), Ok(rest.len()));
        rest
    }

    #[test]
    fn access_units_and_answers_come_out_as_they_went_in() {
        let mut out = Vec::new();
        write_unit(7, b"unit", &mut out);
        assert_eq!(parse_unit(body(&out, MAX_UNIT)), Ok((7, &b"unit"[..])));
        let mut picture = Picture::black(5, 3).expect("small");
        let colour = Colour { matrix: Matrix::Bt709, full_range: true };
        picture.set_colour(colour);
        write_answer(8, Ok(Some(picture.view())), &mut out);
        let message = body(&out, MAX_ANSWER);
        assert_eq!(parse_answer(CODEC, message), Ok((8, Answer::Picture { width: 5, height: 3, colour })));
        assert_eq!(&message[Answer::PLANES..], picture.data());
        write_answer(9, Ok(None), &mut out);
        assert_eq!(parse_answer(CODEC, body(&out, MAX_ANSWER)), Ok((9, Answer::Nothing)));
        for error in [
            DecodeError::Corrupt,
            DecodeError::TooLarge,
            DecodeError::Unsupported(CODEC),
            DecodeError::Library,
        ] {
            write_answer(1, Err(error.clone()), &mut out);
            assert_eq!(parse_answer(CODEC, body(&out, MAX_ANSWER)), Ok((1, Answer::Failed(error))));
        }
    }

    #[test]
    fn lengths_and_sizes_have_limits_and_the_largest_picture_fits() {
        assert_eq!(length([0xff; 4], MAX_ANSWER), Err(Malformed));
        for (width, height) in [(4096, 2304), (8191, 1151), (1151, 8191)] {
            assert!(PICTURE_HEAD + tight_bytes(width, height) <= MAX_ANSWER, "{width}x{height}");
        }
        let mut out = Vec::new();
        write_answer(0, Ok(Some(Picture::black(16, 16).expect("small").view())), &mut out);
        let good = out.split_off(LENGTH);
        for (at, value) in [(5, 0xff), (8, 0xff), (9, 0), (13, 2), (14, 2), (4, 9)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(parse_answer(CODEC, &bad), Err(Malformed), "byte {at}");
        }
        assert_eq!(parse_answer(CODEC, &good[..good.len() - 1]), Err(Malformed));
    }

    #[test]
    fn any_bytes_are_an_answer_or_malformed() {
        let mut rng = StdRng::seed_from_u64(0xc0dec);
        let mut good = Vec::new();
        write_answer(3, Ok(Some(Picture::black(6, 4).expect("small").view())), &mut good);
        for round in 0..20_000 {
            let mut message = if round % 2 == 0 {
                good[LENGTH..].to_vec()
            } else {
                (0..rng.random_range(0..40)).map(|_| rng.random()).collect()
            };
            for _ in 0..rng.random_range(0..4) {
                if let Some(at) = message.len().checked_sub(1).map(|last| rng.random_range(0..=last)) {
                    message[at] = rng.random();
                }
            }
            message.truncate(rng.random_range(0..=message.len()));
            if let Ok((_, Answer::Picture { width, height, colour })) = parse_answer(CODEC, &message) {
                assert!(I420::from_tight(width, height, &message[Answer::PLANES..], colour).is_ok());
            }
            let _ = parse_unit(&message);
        }
    }
}
