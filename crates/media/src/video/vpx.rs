//! VP8 and VP9 by libvpx, through `csrc/vpx_shim.c`, which keeps libvpx's structs and ABI numbers in C.
#![allow(unsafe_code, reason = "codec FFI: the one place where libvpx is called")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::{ptr, slice};

use antiphon_base::VideoCodec;

use super::{DecodeError, EncodeError, EncodedPicture, EncoderConfig};
use crate::picture::{Colour, I420, Matrix};

/// `antiphon_vpx_picture` of the shim.
#[repr(C)]
struct RawPicture {
    planes: [*const u8; 3],
    strides: [i32; 3],
    width: u32,
    height: u32,
    bt709: i32,
    full_range: i32,
}

impl RawPicture {
    const EMPTY: Self =
        Self { planes: [ptr::null(); 3], strides: [0; 3], width: 0, height: 0, bt709: 0, full_range: 0 };
}

/// `antiphon_vpx_encoder_config` of the shim.
#[repr(C)]
struct RawEncoderConfig {
    width: u32,
    height: u32,
    bitrate_kbps: u32,
    cpu_used: i32,
}

const PICTURE: i32 = 1;
const NO_PICTURE: i32 = 0;
const UNSUPPORTED_FORMAT: i32 = -2;

/// libvpx's speed: -16 (fastest) to 0. -8 is about what browsers use on two cores.
const CPU_USED: i32 = -8;

unsafe extern "C" {
    fn antiphon_vpx_decoder_new(vp9: i32) -> *mut c_void;
    fn antiphon_vpx_decode(ctx: *mut c_void, data: *const u8, len: u32, out: *mut RawPicture) -> i32;
    fn antiphon_vpx_free(ctx: *mut c_void);
    fn antiphon_vp8_encoder_new(config: *const RawEncoderConfig) -> *mut c_void;
    fn antiphon_vpx_encode(
        encoder: *mut c_void,
        picture: *const RawPicture,
        pts_90k: i64,
        duration_90k: u32,
        force_key: i32,
    ) -> i32;
    fn antiphon_vpx_next_packet(
        encoder: *mut c_void,
        data: *mut *const u8,
        len: *mut u64,
        key: *mut i32,
    ) -> i32;
    fn antiphon_vpx_set_bitrate(encoder: *mut c_void, bitrate_kbps: u32) -> i32;
    fn antiphon_vpx_encoder_free(encoder: *mut c_void);
}

/// A VP8 or VP9 decoder of libvpx, one thread.
pub(super) struct Decoder {
    ctx: NonNull<c_void>,
}

// SAFETY: a libvpx context may be used from any one thread at a time; every call takes `&mut self`.
unsafe impl Send for Decoder {}

impl Decoder {
    pub(super) fn new(vp9: bool) -> Result<Self, DecodeError> {
        // SAFETY: takes no pointer; returns an initialised context or null.
        let ctx = unsafe { antiphon_vpx_decoder_new(i32::from(vp9)) };
        NonNull::new(ctx).map(|ctx| Self { ctx }).ok_or(DecodeError::Library)
    }

    pub(super) fn decode(&mut self, codec: VideoCodec, unit: &[u8]) -> Result<Option<I420<'_>>, DecodeError> {
        // No data would mean "flush" to libvpx.
        if unit.is_empty() {
            return Err(DecodeError::Corrupt);
        }
        let len = u32::try_from(unit.len()).map_err(|_| DecodeError::TooLarge)?;
        let mut raw = RawPicture::EMPTY;
        // SAFETY: `ctx` is live until drop; `unit` is readable for `len` bytes and not kept; `raw` is writable.
        let result = unsafe { antiphon_vpx_decode(self.ctx.as_ptr(), unit.as_ptr(), len, &raw mut raw) };
        match result {
            PICTURE => view(&raw, PhantomData::<&mut Self>).map(Some),
            NO_PICTURE => Ok(None),
            UNSUPPORTED_FORMAT => Err(DecodeError::Unsupported(codec)),
            _ => Err(DecodeError::Corrupt),
        }
    }
}

/// The picture in libvpx's memory, borrowed from the decoder (`_owner`).
fn view<'a>(raw: &RawPicture, _owner: PhantomData<&'a mut Decoder>) -> Result<I420<'a>, DecodeError> {
    crate::picture::check_size(raw.width, raw.height).map_err(|_| DecodeError::TooLarge)?;
    let chroma = (raw.width.div_ceil(2), raw.height.div_ceil(2));
    let sizes = [(raw.width, raw.height), chroma, chroma];
    let mut planes: [&[u8]; 3] = [&[]; 3];
    let mut strides = [0; 3];
    for (plane, (width, height)) in sizes.into_iter().enumerate() {
        let stride = u32::try_from(raw.strides[plane]).map_err(|_| DecodeError::Corrupt)?;
        let start = raw.planes[plane];
        if start.is_null() || stride < width {
            return Err(DecodeError::Corrupt);
        }
        let len = stride as usize * (height as usize - 1) + width as usize;
        // SAFETY: libvpx's image has `height` rows of `stride` bytes with `width` visible ones from this pointer,
        // and keeps them until the next call with the decoder, which the borrow `'a` rules out.
        planes[plane] = unsafe { slice::from_raw_parts(start, len) };
        strides[plane] = stride;
    }
    let matrix = if raw.bt709 != 0 { Matrix::Bt709 } else { Matrix::Bt601 };
    let colour = Colour { matrix, full_range: raw.full_range != 0 };
    I420::new((raw.width, raw.height), planes, strides, colour).map_err(|_| DecodeError::Corrupt)
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the context came from `antiphon_vpx_decoder_new` and is freed once.
        unsafe { antiphon_vpx_free(self.ctx.as_ptr()) }
    }
}

/// A VP8 encoder of libvpx: realtime, constant bitrate, error resilient, key frames on demand only.
pub(super) struct Encoder {
    encoder: NonNull<c_void>,
    duration_90k: u32,
}

// SAFETY: a libvpx context may be used from any one thread at a time; every call takes `&mut self`.
unsafe impl Send for Encoder {}

impl Encoder {
    pub(super) fn new(config: &EncoderConfig) -> Result<Self, EncodeError> {
        let raw = RawEncoderConfig {
            width: config.width,
            height: config.height,
            bitrate_kbps: kbps(config.bitrate_bps),
            cpu_used: CPU_USED,
        };
        // SAFETY: `raw` is read during the call only; returns an initialised encoder or null.
        let encoder = unsafe { antiphon_vp8_encoder_new(&raw const raw) };
        let encoder = NonNull::new(encoder).ok_or_else(|| EncodeError::Library("libvpx: init".into()))?;
        Ok(Self { encoder, duration_90k: 90_000 / config.fps.clamp(1, 120) })
    }

    pub(super) fn encode(
        &mut self,
        picture: &I420<'_>,
        pts_90k: u64,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, EncodeError> {
        let stride = |plane: usize| i32::try_from(picture.strides()[plane]).unwrap_or(i32::MAX);
        let raw = RawPicture {
            planes: picture.planes().map(<[u8]>::as_ptr),
            strides: [stride(0), stride(1), stride(2)],
            width: picture.width(),
            height: picture.height(),
            ..RawPicture::EMPTY
        };
        let pts = i64::try_from(pts_90k).unwrap_or(i64::MAX);
        // SAFETY: the encoder is live until drop. `I420` guarantees rows of `stride` bytes for this size in each
        // plane; libvpx copies them during the call and writes to none.
        let result = unsafe {
            antiphon_vpx_encode(
                self.encoder.as_ptr(),
                &raw const raw,
                pts,
                self.duration_90k,
                force_key.into(),
            )
        };
        if result != 0 {
            return Err(EncodeError::Library(format!("libvpx: encode: {result}")));
        }
        Ok(self.next_packet())
    }

    fn next_packet(&mut self) -> Option<EncodedPicture> {
        let (mut data, mut len, mut key) = (ptr::null(), 0u64, 0);
        // SAFETY: the encoder is live; the three targets are writable.
        let result = unsafe {
            antiphon_vpx_next_packet(self.encoder.as_ptr(), &raw mut data, &raw mut len, &raw mut key)
        };
        let len = usize::try_from(len).expect("a packet in memory fits usize");
        if result != 1 || data.is_null() {
            return None;
        }
        // SAFETY: libvpx gave `len` readable bytes that live until the next encode; they are copied here.
        let bytes = unsafe { slice::from_raw_parts(data, len) };
        Some(EncodedPicture { data: bytes.to_vec(), key: key != 0 })
    }

    pub(super) fn set_bitrate(&mut self, bitrate_bps: u32) -> Result<(), EncodeError> {
        // SAFETY: the encoder is live; no pointer is passed.
        match unsafe { antiphon_vpx_set_bitrate(self.encoder.as_ptr(), kbps(bitrate_bps)) } {
            0 => Ok(()),
            error => Err(EncodeError::Library(format!("libvpx: set bitrate: {error}"))),
        }
    }
}

fn kbps(bitrate_bps: u32) -> u32 {
    (bitrate_bps / 1000).max(30)
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the encoder came from `antiphon_vp8_encoder_new` and is freed once.
        unsafe { antiphon_vpx_encoder_free(self.encoder.as_ptr()) }
    }
}
