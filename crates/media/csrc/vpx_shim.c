/* A narrow door to libvpx for src/video/vpx.rs: its structs, ABI versions and macros stay on this side.
 * Nothing here keeps a pointer of the caller's after it returns. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vpx/vp8cx.h>
#include <vpx/vp8dx.h>
#include <vpx/vpx_decoder.h>
#include <vpx/vpx_encoder.h>

/* Mirrored by RawPicture in vpx.rs. */
typedef struct {
  const uint8_t *planes[3];
  int32_t strides[3];
  uint32_t width;
  uint32_t height;
  int32_t bt709;
  int32_t full_range;
} antiphon_vpx_picture;

/* Results of antiphon_vpx_decode. */
enum { NO_PICTURE = 0, PICTURE = 1, CORRUPT = -1, UNSUPPORTED_FORMAT = -2 };

vpx_codec_ctx_t *antiphon_vpx_decoder_new(int32_t vp9) {
  vpx_codec_ctx_t *ctx = calloc(1, sizeof *ctx);
  vpx_codec_dec_cfg_t cfg = { .threads = 1, .w = 0, .h = 0 };
  if (!ctx) return NULL;
  if (vpx_codec_dec_init(ctx, vp9 ? vpx_codec_vp9_dx() : vpx_codec_vp8_dx(), &cfg, 0) != VPX_CODEC_OK) {
    free(ctx);
    return NULL;
  }
  return ctx;
}

/* The planes stay valid until the next call with this decoder. */
int32_t antiphon_vpx_decode(vpx_codec_ctx_t *ctx, const uint8_t *data, uint32_t len, antiphon_vpx_picture *out) {
  vpx_codec_iter_t iter = NULL;
  vpx_image_t *image = NULL, *next = NULL;
  int corrupted = 0, i;
  if (vpx_codec_decode(ctx, data, len, NULL, 0) != VPX_CODEC_OK) {
    while (vpx_codec_get_frame(ctx, &iter)) {}
    return CORRUPT;
  }
  while ((next = vpx_codec_get_frame(ctx, &iter)) != NULL) image = next;
  if (vpx_codec_control(ctx, VP8D_GET_FRAME_CORRUPTED, &corrupted) == VPX_CODEC_OK && corrupted) return CORRUPT;
  if (!image) return NO_PICTURE;
  if (image->fmt != VPX_IMG_FMT_I420 || image->bit_depth != 8) return UNSUPPORTED_FORMAT;
  for (i = 0; i < 3; i++) {
    out->planes[i] = image->planes[i];
    out->strides[i] = image->stride[i];
  }
  out->width = image->d_w;
  out->height = image->d_h;
  out->bt709 = image->cs == VPX_CS_BT_709;
  out->full_range = image->range == VPX_CR_FULL_RANGE;
  return PICTURE;
}

void antiphon_vpx_free(vpx_codec_ctx_t *ctx) {
  if (!ctx) return;
  vpx_codec_destroy(ctx);
  free(ctx);
}

/* Mirrored by RawEncoderConfig in vpx.rs. */
typedef struct {
  uint32_t width;
  uint32_t height;
  uint32_t bitrate_kbps;
  int32_t cpu_used;
} antiphon_vpx_encoder_config;

typedef struct {
  vpx_codec_ctx_t ctx;
  vpx_codec_enc_cfg_t cfg;
  vpx_codec_iter_t iter;
} antiphon_vpx_encoder;

antiphon_vpx_encoder *antiphon_vp8_encoder_new(const antiphon_vpx_encoder_config *config) {
  antiphon_vpx_encoder *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  if (vpx_codec_enc_config_default(vpx_codec_vp8_cx(), &e->cfg, 0) != VPX_CODEC_OK) goto fail;
  e->cfg.g_w = config->width;
  e->cfg.g_h = config->height;
  e->cfg.g_timebase.num = 1;
  e->cfg.g_timebase.den = 90000;
  e->cfg.g_threads = 1;
  e->cfg.g_lag_in_frames = 0;
  e->cfg.g_error_resilient = VPX_ERROR_RESILIENT_DEFAULT;
  e->cfg.rc_end_usage = VPX_CBR;
  e->cfg.rc_target_bitrate = config->bitrate_kbps;
  e->cfg.rc_min_quantizer = 2;
  e->cfg.rc_max_quantizer = 56;
  e->cfg.rc_undershoot_pct = 100;
  e->cfg.rc_overshoot_pct = 15;
  e->cfg.rc_buf_initial_sz = 500;
  e->cfg.rc_buf_optimal_sz = 600;
  e->cfg.rc_buf_sz = 1000;
  e->cfg.rc_dropframe_thresh = 0;
  e->cfg.kf_mode = VPX_KF_DISABLED;
  if (vpx_codec_enc_init(&e->ctx, vpx_codec_vp8_cx(), &e->cfg, 0) != VPX_CODEC_OK) goto fail;
  vpx_codec_control(&e->ctx, VP8E_SET_CPUUSED, config->cpu_used);
  vpx_codec_control(&e->ctx, VP8E_SET_STATIC_THRESHOLD, 1);
  vpx_codec_control(&e->ctx, VP8E_SET_NOISE_SENSITIVITY, 0);
  vpx_codec_control(&e->ctx, VP8E_SET_TOKEN_PARTITIONS, VP8_ONE_TOKENPARTITION);
  return e;
fail:
  free(e);
  return NULL;
}

/* 0, or libvpx's error. The planes are only read. */
int32_t antiphon_vpx_encode(antiphon_vpx_encoder *e, const antiphon_vpx_picture *picture, int64_t pts_90k,
                            uint32_t duration_90k, int32_t force_key) {
  vpx_image_t image;
  int i;
  /* Wrap the picture; vpx_img_wrap asks for one block and computes strides, so planes are set by hand after it. */
  if (!vpx_img_wrap(&image, VPX_IMG_FMT_I420, picture->width, picture->height, 1,
                    (unsigned char *)picture->planes[0]))
    return VPX_CODEC_INVALID_PARAM;
  for (i = 0; i < 3; i++) {
    image.planes[i] = (unsigned char *)picture->planes[i];
    image.stride[i] = picture->strides[i];
  }
  e->iter = NULL;
  return (int32_t)vpx_codec_encode(&e->ctx, &image, pts_90k, duration_90k, force_key ? VPX_EFLAG_FORCE_KF : 0,
                                   VPX_DL_REALTIME);
}

/* 1 and the next packet of the last encode, or 0. The data stays valid until the next encode. */
int32_t antiphon_vpx_next_packet(antiphon_vpx_encoder *e, const uint8_t **data, uint64_t *len, int32_t *key) {
  const vpx_codec_cx_pkt_t *packet;
  while ((packet = vpx_codec_get_cx_data(&e->ctx, &e->iter)) != NULL) {
    if (packet->kind != VPX_CODEC_CX_FRAME_PKT) continue;
    *data = packet->data.frame.buf;
    *len = packet->data.frame.sz;
    *key = (packet->data.frame.flags & VPX_FRAME_IS_KEY) != 0;
    return 1;
  }
  return 0;
}

int32_t antiphon_vpx_set_bitrate(antiphon_vpx_encoder *e, uint32_t bitrate_kbps) {
  e->cfg.rc_target_bitrate = bitrate_kbps;
  return (int32_t)vpx_codec_enc_config_set(&e->ctx, &e->cfg);
}

void antiphon_vpx_encoder_free(antiphon_vpx_encoder *e) {
  if (!e) return;
  vpx_codec_destroy(&e->ctx);
  free(e);
}
