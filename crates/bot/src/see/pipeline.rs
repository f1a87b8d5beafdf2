//! Packets of one video track in, frames into the sinks: without clock and thread.

use std::sync::Arc;

use antiphon_base::VideoCodec;
use antiphon_media::video::{DecodeError, Decoders};
use antiphon_media::worker::{self, Reply, Request, Worker};
use antiphon_wire::frame::Format;
use antiphon_wire::rtp::Packet;
use antiphon_wire::rtp::frame::{Assembled, Follower};

use super::{Output, Sink};
use crate::outbox::{Frame, Loss, Pushed};

/// RTP clock of video.
const CLOCK: u64 = 90_000;

/// Thins pictures out by their RTP times, which do not jitter.
#[derive(Debug, Clone, Copy, Default)]
struct Thinning {
    last: u64,
    next: u64,
}

impl Thinning {
    /// Whether a picture of this time is wanted at `rate` per second.
    fn takes(&mut self, rtp_time: u64, rate: u8) -> bool {
        let interval = CLOCK / u64::from(rate.max(1));
        if rtp_time < self.last || rtp_time > self.next + CLOCK {
            self.next = rtp_time;
        }
        self.last = rtp_time;
        let takes = rtp_time + interval / 4 >= self.next;
        if takes {
            self.next = self.next.max(rtp_time.saturating_sub(interval)) + interval;
        }
        takes
    }
}

/// The state of one track.
pub(crate) struct Pipeline {
    codec: VideoCodec,
    follower: Follower,
    decoders: Decoders,
    /// Only while somebody wants pictures.
    decoder: Option<Worker>,
    thinning: Vec<(SinkId, Thinning)>,
    resolution: (u16, u16),
    needs_key: bool,
}

impl Pipeline {
    /// A track of this codec, nothing seen yet.
    pub(crate) fn new(codec: VideoCodec, decoders: Decoders) -> Self {
        Self {
            codec,
            decoders,
            follower: Follower::new(codec),
            decoder: None,
            thinning: Vec::new(),
            resolution: (0, 0),
            needs_key: true,
        }
    }

    /// Takes a packet and serves the sinks. Returns the layer of which a keyframe is needed, if one is.
    pub(crate) fn packet(&mut self, packet: &Arc<Packet>, sinks: &[Sink]) -> Option<u8> {
        self.forget(sinks);
        self.follower.push(packet);
        while let Some(unit) = self.follower.poll(packet.arrival_us) {
            self.deliver(&unit, sinks);
        }
        self.follower.wants_keyframe(packet.arrival_us, self.needs_key)
    }

    /// Drops what nobody wants any more.
    fn forget(&mut self, sinks: &[Sink]) {
        if sinks.iter().all(|s| s.output == Output::Encoded) {
            self.decoder = None;
        }
        self.thinning.retain(|(id, _)| sinks.iter().any(|s| sink_id(s) == *id));
    }

    fn deliver(&mut self, unit: &Assembled, sinks: &[Sink]) {
        if let Some((w, h)) = unit.resolution {
            self.resolution = (short(w), short(h));
        }
        self.needs_key = false;
        for sink in sinks.iter().filter(|s| s.output == Output::Encoded) {
            let (width, height) = self.resolution;
            let format = Format::EncodedVideo { codec: self.codec, width, height };
            let frame = frame(unit, format, Arc::clone(&unit.data));
            let pushed = sink.mailbox.with(|o| o.push(sink.stream, frame));
            self.needs_key |= pushed == Pushed::NeedsKey;
        }
        if sinks.iter().any(|s| s.output != Output::Encoded) {
            self.decode(unit, sinks);
        }
    }

    /// Decodes once, and converts once per wanted format and size.
    fn decode(&mut self, unit: &Assembled, sinks: &[Sink]) {
        let (mut taking, mut outputs) = (Vec::new(), Vec::new());
        for sink in sinks {
            let Output::Raw { format, fit, max_frame_rate } = sink.output else { continue };
            if thinning(&mut self.thinning, sink).takes(unit.rtp_time, max_frame_rate) {
                let output = worker::Output { format, fit };
                let index = outputs.iter().position(|o| *o == output).unwrap_or_else(|| {
                    outputs.push(output);
                    outputs.len() - 1
                });
                taking.push((sink, index));
            } else {
                sink.mailbox.with(|o| o.count(sink.stream, Loss::Rate));
            }
        }
        let decoder = self.decoder.get_or_insert_with(|| Worker::new(self.decoders.clone()));
        let (codec, data) = (self.codec, Arc::clone(&unit.data));
        // What the assembler gives is decodable, also behind a gap.
        let request = Request::Decode { codec, unit: data, gap: false, outputs: outputs.clone() };
        let frames: Vec<Option<Frame>> = match decoder.handle(request) {
            Reply::Decoded { source_width, source_height, outputs: pictures } => {
                let (source_width, source_height) = (short(source_width), short(source_height));
                self.resolution = (source_width, source_height);
                let made = |(output, picture): (&worker::Output, Result<_, _>)| {
                    let picture: antiphon_media::convert::Converted = picture.ok()?;
                    let (width, height) = (short(picture.width), short(picture.height));
                    let format =
                        Format::Picture { format: output.format, width, height, source_width, source_height };
                    Some(frame(unit, format, picture.data))
                };
                outputs.iter().zip(pictures).map(made).collect()
            }
            Reply::DecodeFailed(error) => {
                // Given up for a while: no key frame helps before that is over.
                self.needs_key = error != DecodeError::GaveUp;
                match error {
                    DecodeError::NeedKeyFrame => {}
                    // Its restarts are limited, and so is this.
                    DecodeError::WorkerDied(_) => tracing::warn!(%error, "a picture was lost"),
                    _ => tracing::debug!(%error, "undecodable access unit"),
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        for (sink, index) in taking {
            let frame = frames.get(index).cloned().flatten();
            sink.mailbox.with(|o| match frame {
                Some(frame) => drop(o.push(sink.stream, frame)),
                None => o.count(sink.stream, Loss::Undecodable),
            });
        }
    }
}

/// Which mailbox, and which stream of it.
type SinkId = (usize, u32);

fn sink_id(sink: &Sink) -> SinkId {
    // A sink holds its mailbox, so that addresses tell mailboxes apart.
    (Arc::as_ptr(&sink.mailbox).addr(), sink.stream)
}

fn thinning<'a>(list: &'a mut Vec<(SinkId, Thinning)>, sink: &Sink) -> &'a mut Thinning {
    let id = sink_id(sink);
    let at = list.iter().position(|(i, _)| *i == id).unwrap_or_else(|| {
        list.push((id, Thinning::default()));
        list.len() - 1
    });
    &mut list[at].1
}

fn short(pixels: u32) -> u16 {
    u16::try_from(pixels).unwrap_or(u16::MAX)
}

fn frame(unit: &Assembled, format: Format, payload: Arc<[u8]>) -> Frame {
    Frame {
        format,
        capture_us: unit.capture_us,
        capture_estimated: unit.capture_estimated,
        arrival_us: unit.first_arrival_us,
        due_us: unit.first_arrival_us,
        silence: false,
        gap: unit.gap,
        key: unit.key,
        speakers: Arc::new([]),
        payload,
    }
}

#[cfg(test)]
mod tests;
