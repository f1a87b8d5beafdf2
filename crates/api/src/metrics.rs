//! Counters in the OpenMetrics text format. Labels are bounded: never a room's or a person's name.

use std::fmt::Error;
use std::time::Duration;

use antiphon_bot::Bots;
use antiphon_kvs::Kvs;
use antiphon_record::Recorder;
use antiphon_shard::{ShardMetrics, Shards};
use axum::http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::app::Parts;
use crate::webhooks::{Counts, Webhooks};

/// What was asked and what came of it. The route is a pattern of the table, the method one of eight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    limit: &'static str,
}

/// The limit that bit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    Connections,
    JoinRate,
    RoomJoinRate,
    JoinsInProgress,
    GuestRate,
    BotSockets,
    Offers,
    EventStreams,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::JoinRate => "join_rate",
            Self::RoomJoinRate => "room_join_rate",
            Self::JoinsInProgress => "joins_in_progress",
            Self::GuestRate => "guest_token_rate",
            Self::BotSockets => "bot_sockets",
            Self::Offers => "offers",
            Self::EventStreams => "event_streams",
        }
    }
}

/// All counters of this crate, and a view on those of the shards.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    duration: Family<Route, Histogram>,
    refused: Family<Why, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) bot_sockets: Gauge,
}

impl Metrics {
    pub(crate) fn new(parts: &Parts) -> Self {
        let mut registry = Registry::with_prefix("antiphon");
        let requests = Family::default();
        registry.register("http_requests", "Answered requests", requests.clone());
        // 0.5 ms to 16 s: a join takes about 10 ms.
        let buckets = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let duration = Family::<Route, Histogram>::new_with_constructor(buckets);
        registry.register("http_request_duration_seconds", "Time to the answer's head", duration.clone());
        let refused = Family::default();
        registry.register("refused", "What was refused because of a limit", refused.clone());
        let connections = Gauge::default();
        registry.register("http_connections", "Open connections", connections.clone());
        let bot_sockets = Gauge::default();
        registry.register("bot_sockets", "Open WebSockets of bots", bot_sockets.clone());
        registry.register_collector(Box::new(ShardCollector(parts.shards.clone())));
        registry.register_collector(Box::new(BotCollector(parts.bots.clone())));
        if let Some(kvs) = parts.kvs.clone() {
            registry.register_collector(Box::new(StoreCollector(kvs)));
        }
        if let Some(recorder) = parts.recorder.clone() {
            registry.register_collector(Box::new(RecordCollector(recorder)));
        }
        if let Some(webhooks) = parts.webhooks.clone() {
            registry.register_collector(Box::new(WebhookCollector(webhooks)));
        }
        Self { registry, requests, duration, refused, connections, bot_sockets }
    }

    pub(crate) fn refused(&self, limit: Refused) {
        self.refused.get_or_create(&Why { limit: limit.as_str() }).inc();
    }

    pub(crate) fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let route = route.unwrap_or("other").to_owned();
        let request = Request { route: route.clone(), method: word(method), status: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        self.duration.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a String cannot fail");
        text
    }
}

fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

struct ShardCollector(Shards);

impl std::fmt::Debug for ShardCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShardCollector")
    }
}

struct RecordCollector(Recorder);

impl std::fmt::Debug for RecordCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordCollector")
    }
}

impl Collector for RecordCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let now = self.0.metrics();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("media_streams", "Contacts that are streamed into the store", count(now.streamed)),
            ("media_streams_max", "Contacts that may be streamed at a time", count(now.streamed_max)),
            (
                "media_streams_near_limit",
                "1 while nine tenths of the contacts are streamed that may be",
                i64::from(now.is_near_limit()),
            ),
            (
                "media_streaming_settings_unreadable",
                "1 while the settings that were set cannot be read: nothing can be started",
                i64::from(now.settings_unreadable),
            ),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        for (name, help, value) in [
            ("media_streams_refused", "Starts refused at the limit of streams", now.refused_at_limit),
            ("media_streams_failed", "Starts that failed", now.failed),
            (
                "media_stream_blocks_dropped",
                "Blocks of sound that the store did not take in time",
                now.blocks_dropped,
            ),
            (
                "media_stream_tails_cut",
                "Places and tracks left so soon after each other that the end of what was said there is missing",
                now.tails_cut,
            ),
            ("media_stream_frames", "Pictures of contacts that were handed to the store", now.frames),
            (
                "media_stream_frames_dropped",
                "Pictures of contacts that were left out because store or sound did not keep up",
                now.frames_dropped,
            ),
            (
                "media_streaming_events_dropped",
                "Starts and stops that webhooks were not told of",
                now.events_dropped,
            ),
            ("contacts_forgotten", "Contacts forgotten because there were too many", now.contacts_forgotten),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?;
        }
        self.recordings(&mut encoder)
    }
}

impl RecordCollector {
    fn recordings(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let now = self.0.rooms().metrics();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("recordings", "Rooms that are recorded, announced ones included", count(now.running)),
            ("recordings_max", "Rooms that may be recorded at a time", count(now.running_max)),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        for (name, help, value) in [
            ("recording_frames", "Frames of recordings that were handed to the store", now.frames),
            (
                "recording_frames_dropped",
                "Frames of recordings that the store did not take in time",
                now.frames_dropped,
            ),
            ("recording_tracks_failed", "Tracks of recordings that could not be stored", now.tracks_failed),
            (
                "recording_tracks_left_out",
                "Tracks that were not recorded: a codec that is not kept, or too many",
                now.tracks_left_out,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?;
        }
        Ok(())
    }
}

struct WebhookCollector(Webhooks);

impl std::fmt::Debug for WebhookCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookCollector")
    }
}

type WebhookField = (&'static str, &'static str, fn(&Counts) -> u64);

const WEBHOOK_COUNTERS: [WebhookField; 5] = [
    ("webhook_delivered", "Events that a target has taken", |c| c.delivered),
    ("webhook_attempts_failed", "Attempts that failed", |c| c.failed),
    ("webhook_dropped_full", "Events dropped because too many waited", |c| c.dropped_full),
    ("webhook_dropped_late", "Events dropped because nothing had delivered them in time", |c| c.dropped_late),
    ("webhook_dropped_gone", "Events dropped because the target has said that it is gone", |c| {
        c.dropped_gone
    }),
];

impl Collector for WebhookCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let targets = self.0.counts();
        for (name, help, field) in WEBHOOK_COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (i, counts) in targets.iter().enumerate() {
                metric
                    .encode_family(&[("target", i)])?
                    .encode_counter::<[(&str, &str); 0], _, u64>(&field(counts), None)?;
            }
        }
        let queued = ("webhook_queued", "Events that wait for a target");
        let mut metric = encoder.encode_descriptor(queued.0, queued.1, None, MetricType::Gauge)?;
        for (i, counts) in targets.iter().enumerate() {
            let value = i64::try_from(counts.queued).unwrap_or(i64::MAX);
            metric.encode_family(&[("target", i)])?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

struct BotCollector(Bots);

impl std::fmt::Debug for BotCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BotCollector")
    }
}

impl Collector for BotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let now = self.0.metrics();
        for (name, help, value) in [
            ("bots", "Bots", now.bots),
            ("bot_rooms", "Rooms with bots", now.rooms),
            ("codec_workers", "Processes that decode video", now.codec_workers),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        for (name, help, value) in [
            ("codec_workers_started", "Processes started to decode video", now.codec_workers_started),
            ("codec_workers_died", "Of these, how many died before their time", now.codec_workers_died),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?;
        }
        Ok(())
    }
}

struct StoreCollector(Kvs);

impl std::fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreCollector")
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        for m in self.0.metrics() {
            if m.counter {
                let mut metric = encoder.encode_descriptor(m.name, m.help, None, MetricType::Counter)?;
                metric.encode_counter::<[(&str, &str); 0], _, u64>(&m.value, None)?;
            } else {
                let value = i64::try_from(m.value).unwrap_or(i64::MAX);
                encoder.encode_descriptor(m.name, m.help, None, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

type Field = (&'static str, &'static str, fn(&ShardMetrics) -> u64);

const COUNTERS: &[Field] = &[
    ("shard_datagrams_in", "Datagrams received", |m| m.datagrams_in),
    ("shard_datagrams_out", "Datagrams sent", |m| m.datagrams_out),
    ("shard_datagrams_unknown", "Datagrams from nobody we know", |m| m.datagrams_unknown),
    ("shard_send_dropped", "Datagrams the socket would not take", |m| m.send_dropped),
    ("shard_tcp_accepted", "TCP connections accepted", |m| m.tcp_accepted),
    ("shard_tcp_refused", "TCP connections ended because of a bound", |m| m.tcp_refused),
    ("shard_tcp_strangers", "TCP connections of nobody we know, ended", |m| m.tcp_strangers),
    ("shard_tcp_handed", "TCP connections given to the shard of their peer", |m| m.tcp_handed),
    ("shard_tcp_dropped", "Packets for peers that read TCP too slowly", |m| m.tcp_dropped),
    ("shard_packets_in", "Media packets that came in", |m| m.packets_in),
    ("shard_packets_relayed", "Media packets handed to other shards", |m| m.packets_relayed),
    ("shard_relay_dropped", "Media packets not handed to a shard that did not keep up", |m| m.relay_dropped),
    ("shard_link_dropped", "Peers dropped because a shard did not take what was said of them", |m| {
        m.link_dropped
    }),
    ("shard_packets_forwarded", "Media packets forwarded to subscribers", |m| m.packets_forwarded),
    ("shard_ice_restarts", "ICE restarts that peers asked for", |m| m.ice_restarts),
    ("shard_packets_unwanted", "Media packets of unwanted layers, dropped at ingress", |m| {
        m.packets_unwanted
    }),
    ("shard_attach_dropped", "Packets dropped because an attachment was slow", |m| m.attach_dropped),
    ("shard_data_dropped", "Messages on topics lost because their receiver was slow", |m| m.data_dropped),
    ("shard_player_events_dropped", "Events lost because players did not read them", |m| {
        m.player_events_dropped
    }),
    ("shard_inbox_dropped", "Commands refused because the inbox was full", |m| m.inbox_dropped),
    ("shard_keyframe_requests", "Keyframes asked of publishers", |m| m.keyframe_requests),
    ("shard_room_panics", "Rooms ended because of a panic in them", |m| m.room_panics),
];

const GAUGES: [Field; 6] = [
    ("shard_peers", "WebRTC peers", |m| m.peers),
    ("shard_tcp_connections", "TCP connections of peers", |m| m.tcp_connections),
    ("shard_rooms", "Rooms at home here", |m| m.rooms),
    ("shard_branches", "Rooms at home on other shards with peers here", |m| m.branches),
    ("shard_attachments", "Attachments: bots and taps", |m| m.attachments),
    (
        "shard_busy_permille",
        "Processor time of the busiest thread over the last second, in thousandths",
        |m| m.busy_permille,
    ),
];

impl Collector for ShardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let shards = self.0.metrics().shards;
        for (name, help, field) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (i, shard) in shards.iter().enumerate() {
                let labels = [("shard", i)];
                metric
                    .encode_family(&labels)?
                    .encode_counter::<[(&str, &str); 0], _, u64>(&field(shard), None)?;
            }
        }
        for (name, help, field) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (i, shard) in shards.iter().enumerate() {
                let labels = [("shard", i)];
                let value = i64::try_from(field(shard)).unwrap_or(i64::MAX);
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
