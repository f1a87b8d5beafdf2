//! The one typed configuration. Flags win over environment, environment over file, file over defaults; all is
//! resolved here, once. `default.toml` beside this file is the manual; a test keeps it equal to these defaults.

mod kms;
mod resolve;
mod s3;
mod vault;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use antiphon_api::config::Rate;
use antiphon_base::RoomName;
use antiphon_shard::config as shard;
use anyhow::Context;
use serde::{Deserialize, Serialize};

pub(crate) use kms::Kms;
pub(crate) use resolve::load;
pub(crate) use s3::S3;
pub(crate) use vault::Vault;

/// What `antiphon config print-default` prints.
pub(crate) const DEFAULT_TOML: &str = include_str!("default.toml");

/// All settings. Each field is a key of the file; `default.toml` says what it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) http: SocketAddr,
    pub(crate) media: SocketAddr,
    /// 0: one less than there are cores.
    pub(crate) shards: usize,
    pub(crate) data: PathBuf,
    pub(crate) announce: Vec<IpAddr>,
    /// Told to clients.
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) reach: Reach,
    pub(crate) tls: Tls,
    pub(crate) log: Log,
    pub(crate) guests: Guests,
    pub(crate) demo: Demo,
    pub(crate) rooms: Rooms,
    pub(crate) limits: Limits,
    pub(crate) bots: BotLimits,
    pub(crate) store: Store,
    pub(crate) s3: S3,
    pub(crate) kms: Kms,
    pub(crate) vault: Vault,
    pub(crate) kvs: Kvs,
    pub(crate) media_streaming: MediaStreaming,
    pub(crate) recording: Recording,
    pub(crate) webhooks: Webhooks,
    pub(crate) stop: Stop,
    pub(crate) debug: Debug,
}

/// How peers reach the media ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reach {
    pub(crate) udp: bool,
    /// A [`shard::Tcp`].
    pub(crate) tcp: String,
    /// 0: the one listened at.
    pub(crate) tcp_announce_port: u16,
    pub(crate) tcp_connections: usize,
    /// [`shard::External`]s.
    pub(crate) external_ip: Vec<String>,
    pub(crate) interfaces: Vec<String>,
    pub(crate) exclude_interfaces: Vec<String>,
}

/// A STUN or TURN server for clients; see `default.toml`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IceServer {
    pub(crate) urls: Vec<String>,
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) credential: String,
    /// Shared with the TURN server: passwords are made of it.
    #[serde(default)]
    pub(crate) secret: String,
    #[serde(default = "IceServer::ttl_s")]
    pub(crate) ttl_s: u64,
}

impl IceServer {
    /// A working day.
    fn ttl_s() -> u64 {
        12 * 3_600
    }

    fn for_clients(&self) -> antiphon_api::IceServer {
        let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        let ttl = Duration::from_secs(self.ttl_s);
        antiphon_api::IceServer {
            urls: self.urls.clone(),
            username: given(&self.username),
            credential: given(&self.credential),
            shared: given(&self.secret).map(|secret| antiphon_api::SharedSecret { secret, ttl }),
        }
    }
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of whatever prints a configuration.
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Certificate files; empty: plain HTTP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// Who may enter without an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Guests {
    pub(crate) rooms: Vec<String>,
    pub(crate) ttl_s: u64,
    pub(crate) tokens_per_second: f64,
    pub(crate) token_burst: u32,
}

/// The built-in bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Demo {
    pub(crate) enabled: bool,
    pub(crate) room: RoomName,
}

/// Limits of rooms and media.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rooms {
    pub(crate) max_rooms: usize,
    pub(crate) max_participants: usize,
    pub(crate) max_players: usize,
    pub(crate) max_peers: usize,
    pub(crate) max_slots: usize,
    pub(crate) max_busy: f64,
    pub(crate) shed_busy: f64,
    pub(crate) spread_above: f64,
    pub(crate) resume_ttl_s: u64,
    pub(crate) consent_timeout_s: u64,
}

/// Limits of HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) body_bytes: usize,
    pub(crate) connections: usize,
    pub(crate) header_timeout_s: u64,
    pub(crate) request_timeout_s: u64,
    pub(crate) joins_in_progress: usize,
    pub(crate) joins_per_second: f64,
    pub(crate) join_burst: u32,
    pub(crate) room_joins_per_second: f64,
    pub(crate) room_join_burst: u32,
    pub(crate) trusted_proxies: Vec<IpAddr>,
}

/// Limits of bots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BotLimits {
    pub(crate) sockets: usize,
    pub(crate) ping_s: u64,
    pub(crate) rooms: usize,
    pub(crate) per_room: usize,
    pub(crate) cameras: usize,
    pub(crate) screens: usize,
    pub(crate) voices: usize,
    pub(crate) start_timeout_s: u64,
    pub(crate) texts_per_second: u32,
    pub(crate) frames_per_second: u32,
    pub(crate) bytes_per_second: u64,
    pub(crate) queued_audio_s: u64,
}

/// The stored streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    pub(crate) enabled: bool,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) max_streams: usize,
    pub(crate) max_stream_bytes: u64,
    pub(crate) max_total_bytes: u64,
    pub(crate) max_stream_bytes_per_s: u64,
    pub(crate) max_stream_fragments_per_s: u64,
    pub(crate) max_total_bytes_per_s: u64,
    pub(crate) max_producers: usize,
    pub(crate) max_readers: usize,
    pub(crate) max_fragment_bytes: usize,
    /// 0: as long as they like.
    pub(crate) max_fragment_ms: u64,
    pub(crate) max_tracks: usize,
    pub(crate) max_tags: usize,
    pub(crate) every_track: bool,
    pub(crate) memory_s: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) producer_timeout_s: u64,
    pub(crate) reader_timeout_s: u64,
    pub(crate) idle_close_ms: u64,
    pub(crate) tail_flush: bool,
    pub(crate) journal: antiphon_store::Journaled,
    pub(crate) journal_bytes: u64,
    /// 0: never.
    pub(crate) group_sync_from: u32,
    /// 0: as long as they like.
    pub(crate) max_connection_s: u64,
    pub(crate) default_key: String,
    pub(crate) keys: Vec<StoreKey>,
}

/// A version of a master key; see `default.toml`. One of `secret`, `kms` and `vault` says where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreKey {
    pub(crate) name: String,
    /// From 1 on; the highest wraps.
    #[serde(default = "StoreKey::first")]
    pub(crate) version: u32,
    /// `file:PATH` or `env:NAME`.
    #[serde(default)]
    pub(crate) secret: String,
    /// What the key server calls it.
    #[serde(default)]
    pub(crate) kms: String,
    /// What the Vault calls it.
    #[serde(default)]
    pub(crate) vault: String,
}

impl StoreKey {
    fn first() -> u32 {
        1
    }
}

/// The Kinesis Video Streams API over the stored streams.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kvs {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) keys: Vec<KvsKey>,
    /// An address with a port; empty: none of its own.
    pub(crate) http: String,
    pub(crate) endpoint: String,
    pub(crate) skew_s: u64,
}

impl Default for Kvs {
    fn default() -> Self {
        Self {
            access_key_id: String::new(),
            secret_access_key: String::new(),
            keys: Vec::new(),
            http: String::new(),
            endpoint: String::new(),
            skew_s: antiphon_kvs::Config::default().skew.as_secs(),
        }
    }
}

/// An access key that may do less than everything; see `default.toml`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KvsKey {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) actions: Vec<String>,
    pub(crate) streams: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contacts: Option<Vec<String>>,
}

impl KvsKey {
    /// What it may do.
    pub(crate) fn policy(&self) -> antiphon_kvs::Policy {
        let (actions, streams) = (self.actions.clone(), self.streams.clone());
        antiphon_kvs::Policy { actions, streams, contacts: self.contacts.clone() }
    }
}

impl std::fmt::Debug for KvsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of whatever prints a configuration.
        f.debug_struct("KvsKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Kvs {
    /// The port of its own.
    ///
    /// # Errors
    /// Not an address with a port.
    pub(crate) fn own_port(&self) -> anyhow::Result<Option<SocketAddr>> {
        let own = (!self.http.is_empty()).then(|| self.http.parse());
        own.transpose().with_context(|| format!("kvs.http: {:?} is not an address with a port", self.http))
    }
}

impl std::fmt::Debug for Kvs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of whatever prints a configuration.
        f.debug_struct("Kvs").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Contacts' streaming into the stored streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MediaStreaming {
    pub(crate) enabled: bool,
    pub(crate) prefix: String,
    pub(crate) instance: String,
    pub(crate) key: String,
    pub(crate) retention: u32,
    pub(crate) retention_unit: antiphon_record::RetentionUnit,
    pub(crate) connect_strict_codec: bool,
    pub(crate) max_streams: usize,
    pub(crate) absence_s: u64,
}

impl Default for MediaStreaming {
    fn default() -> Self {
        let (settings, limits) = (antiphon_record::Settings::default(), antiphon_record::Limits::default());
        Self {
            enabled: settings.enabled,
            prefix: settings.prefix,
            instance: settings.instance,
            key: settings.key,
            retention: settings.retention,
            retention_unit: settings.retention_unit,
            connect_strict_codec: settings.connect_strict_codec,
            max_streams: limits.streams,
            absence_s: limits.absence.as_secs(),
        }
    }
}

impl MediaStreaming {
    /// What can be changed while the server runs.
    pub(crate) fn settings(&self) -> antiphon_record::Settings {
        antiphon_record::Settings {
            enabled: self.enabled,
            prefix: self.prefix.clone(),
            instance: self.instance.clone(),
            key: self.key.clone(),
            retention: self.retention,
            retention_unit: self.retention_unit,
            connect_strict_codec: self.connect_strict_codec,
        }
    }

    /// What cannot.
    pub(crate) fn limits(&self, recordings: antiphon_record::rooms::Policy) -> antiphon_record::Limits {
        let (streams, absence) = (self.max_streams, Duration::from_secs(self.absence_s));
        antiphon_record::Limits { streams, absence, recordings, ..antiphon_record::Limits::default() }
    }
}

/// Recordings of rooms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Recording {
    pub(crate) consent: antiphon_record::rooms::Consent,
    pub(crate) consent_rooms: Vec<String>,
    pub(crate) retention_h: u32,
    pub(crate) acknowledge_within_s: u64,
    pub(crate) consent_within_s: u64,
    pub(crate) max_running: usize,
    pub(crate) max_tracks: usize,
}

impl Default for Recording {
    fn default() -> Self {
        let policy = antiphon_record::rooms::Policy::default();
        Self {
            consent: policy.consent,
            consent_rooms: policy.consent_rooms,
            retention_h: policy.retention_h,
            acknowledge_within_s: policy.acknowledge_within.as_secs(),
            consent_within_s: policy.consent_within.as_secs(),
            max_running: policy.running,
            max_tracks: policy.tracks,
        }
    }
}

impl Recording {
    /// As the recorder takes it.
    pub(crate) fn policy(&self) -> antiphon_record::rooms::Policy {
        antiphon_record::rooms::Policy {
            running: self.max_running,
            tracks: self.max_tracks,
            retention_h: self.retention_h,
            acknowledge_within: Duration::from_secs(self.acknowledge_within_s),
            consent_within: Duration::from_secs(self.consent_within_s),
            consent: self.consent,
            consent_rooms: self.consent_rooms.clone(),
        }
    }
}

/// Who is told what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhooks {
    pub(crate) targets: Vec<WebhookTarget>,
    pub(crate) interval_s: u64,
    pub(crate) give_up_s: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        let api = antiphon_api::webhooks::Config::default();
        let (interval_s, give_up_s) = (api.interval.as_secs(), api.give_up.as_secs());
        Self { targets: Vec::new(), interval_s, give_up_s }
    }
}

/// A receiver; see `default.toml`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookTarget {
    pub(crate) url: String,
    /// `file:PATH`, `env:NAME`, or `key`.
    #[serde(default = "WebhookTarget::of_key")]
    pub(crate) secret: String,
    /// Names of events, or `*`.
    #[serde(default = "WebhookTarget::all")]
    pub(crate) events: Vec<String>,
}

impl WebhookTarget {
    fn of_key() -> String {
        "key".into()
    }

    fn all() -> Vec<String> {
        vec!["*".into()]
    }
}

impl std::fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Some URLs are secrets.
        f.debug_struct("WebhookTarget").field("events", &self.events).finish_non_exhaustive()
    }
}

/// The end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stop {
    pub(crate) deadline_s: u64,
}

/// What shows more than it should on a public server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Debug {
    pub(crate) rtp_dump: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7700),
            media: antiphon_shard::Config::default().media,
            shards: 0,
            data: "data".into(),
            announce: Vec::new(),
            ice_servers: Vec::new(),
            reach: Reach::default(),
            tls: Tls::default(),
            log: Log::default(),
            guests: Guests::default(),
            demo: Demo::default(),
            rooms: Rooms::default(),
            limits: Limits::default(),
            bots: BotLimits::default(),
            store: Store::default(),
            s3: S3::default(),
            kms: Kms::default(),
            vault: Vault::default(),
            kvs: Kvs::default(),
            media_streaming: MediaStreaming::default(),
            recording: Recording::default(),
            webhooks: Webhooks::default(),
            stop: Stop::default(),
            debug: Debug::default(),
        }
    }
}

impl Default for Reach {
    fn default() -> Self {
        let reach = shard::Reachability::default();
        Self {
            udp: reach.udp,
            tcp: "auto".into(),
            tcp_announce_port: reach.tcp_announce_port.unwrap_or(0),
            tcp_connections: reach.tcp_connections,
            external_ip: Vec::new(),
            interfaces: reach.interfaces.include,
            exclude_interfaces: reach.interfaces.exclude,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,str0m=error".into(), format: LogFormat::Human }
    }
}

impl Default for Guests {
    fn default() -> Self {
        let api = antiphon_api::Config::default();
        Self {
            rooms: api.guest_rooms,
            ttl_s: api.guest_ttl.as_secs(),
            tokens_per_second: api.guest_tokens.per_second,
            token_burst: api.guest_tokens.burst,
        }
    }
}

impl Default for Demo {
    fn default() -> Self {
        Self { enabled: true, room: RoomName::new("demo").expect("four letters") }
    }
}

impl Default for Rooms {
    fn default() -> Self {
        let shard = antiphon_shard::Config::default();
        Self {
            max_rooms: shard.max_rooms,
            max_participants: shard.max_participants_per_room,
            max_players: shard.max_players_per_room,
            max_peers: shard.max_peers,
            max_slots: shard.max_slots,
            max_busy: shard.max_busy,
            shed_busy: shard.shed_busy,
            spread_above: shard.spread_above,
            resume_ttl_s: shard.resume_ttl.as_secs(),
            consent_timeout_s: shard.consent_timeout.as_secs(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let api = antiphon_api::Config::default();
        Self {
            body_bytes: api.max_body_bytes,
            connections: api.max_connections,
            header_timeout_s: api.header_timeout.as_secs(),
            request_timeout_s: api.request_timeout.as_secs(),
            joins_in_progress: api.max_joins_in_progress,
            joins_per_second: api.joins.per_second,
            join_burst: api.joins.burst,
            room_joins_per_second: api.room_joins.per_second,
            room_join_burst: api.room_joins.burst,
            trusted_proxies: api.trusted_proxies,
        }
    }
}

impl Default for BotLimits {
    fn default() -> Self {
        let (api, bot) = (antiphon_api::Config::default(), antiphon_bot::Limits::default());
        Self {
            sockets: api.max_bot_sockets,
            ping_s: api.bot_ping.as_secs(),
            rooms: bot.rooms,
            per_room: bot.bots_per_room,
            cameras: bot.cameras_per_bot,
            screens: bot.screens_per_bot,
            voices: bot.voices_per_bot,
            start_timeout_s: bot.start_timeout.as_secs(),
            texts_per_second: bot.texts_per_second,
            frames_per_second: bot.frames_per_second,
            bytes_per_second: bot.bytes_per_second,
            queued_audio_s: bot.queued_audio.as_secs(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        let (store, kvs) = (antiphon_store::Config::default(), antiphon_kvs::Config::default());
        Self {
            enabled: false,
            account: store.account,
            region: store.region,
            max_streams: store.max_streams,
            max_stream_bytes: store.max_stream_bytes,
            max_total_bytes: store.max_total_bytes,
            max_stream_bytes_per_s: store.max_stream_bytes_per_s,
            max_stream_fragments_per_s: store.max_stream_fragments_per_s,
            max_total_bytes_per_s: store.max_total_bytes_per_s,
            max_producers: store.max_sessions,
            max_readers: store.max_readers,
            max_fragment_bytes: store.rules.fragment_bytes,
            max_fragment_ms: store.rules.fragment_ms,
            max_tracks: store.rules.tracks,
            max_tags: store.rules.tags,
            every_track: kvs.every_track,
            memory_s: store.memory_ms / 1000,
            memory_bytes: store.memory_bytes,
            producer_timeout_s: kvs.producer_timeout.as_secs(),
            reader_timeout_s: kvs.reader_timeout.as_secs(),
            idle_close_ms: store.idle_close_ms,
            tail_flush: store.tail_flush,
            journal: store.journal,
            journal_bytes: store.max_journal_bytes,
            group_sync_from: 100,
            max_connection_s: 0,
            default_key: "default".into(),
            keys: Vec::new(),
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self { deadline_s: 10 }
    }
}

impl Config {
    /// How peers reach the packet threads.
    ///
    /// # Errors
    /// A text that is not what it should be, with its key.
    pub(crate) fn reachability(&self) -> anyhow::Result<shard::Reachability> {
        let reach = &self.reach;
        let external = reach.external_ip.iter().map(|text| text.parse().with_context(|| format!("{text:?}")));
        Ok(shard::Reachability {
            udp: reach.udp,
            tcp: reach.tcp.parse().context("reach.tcp")?,
            tcp_announce_port: (reach.tcp_announce_port != 0).then_some(reach.tcp_announce_port),
            tcp_connections: reach.tcp_connections,
            announce: self.announce.clone(),
            external: external.collect::<Result<_, _>>().context("reach.external_ip")?,
            interfaces: shard::Interfaces {
                include: reach.interfaces.clone(),
                exclude: reach.exclude_interfaces.clone(),
            },
        })
    }

    /// The part of the packet threads.
    ///
    /// # Errors
    /// As [`Config::reachability`].
    pub(crate) fn shard(&self) -> anyhow::Result<antiphon_shard::Config> {
        let default = antiphon_shard::Config::default();
        Ok(antiphon_shard::Config {
            media: self.media,
            shards: if self.shards == 0 { default.shards } else { self.shards },
            reach: self.reachability()?,
            max_participants_per_room: self.rooms.max_participants,
            max_players_per_room: self.rooms.max_players,
            max_rooms: self.rooms.max_rooms,
            max_peers: self.rooms.max_peers,
            resume_ttl: Duration::from_secs(self.rooms.resume_ttl_s),
            max_busy: self.rooms.max_busy,
            shed_busy: self.rooms.shed_busy,
            spread_above: self.rooms.spread_above,
            consent_timeout: Duration::from_secs(self.rooms.consent_timeout_s),
            max_slots: self.rooms.max_slots,
        })
    }

    /// The part of HTTP.
    pub(crate) fn api(&self) -> antiphon_api::Config {
        let (limits, guests) = (&self.limits, &self.guests);
        antiphon_api::Config {
            max_body_bytes: limits.body_bytes,
            max_connections: limits.connections,
            max_bot_sockets: self.bots.sockets,
            max_joins_in_progress: limits.joins_in_progress,
            header_timeout: Duration::from_secs(limits.header_timeout_s),
            request_timeout: Duration::from_secs(limits.request_timeout_s),
            joins: Rate { per_second: limits.joins_per_second, burst: limits.join_burst },
            room_joins: Rate { per_second: limits.room_joins_per_second, burst: limits.room_join_burst },
            trusted_proxies: limits.trusted_proxies.clone(),
            guest_tokens: Rate { per_second: guests.tokens_per_second, burst: guests.token_burst },
            guest_rooms: guests.rooms.clone(),
            guest_ttl: Duration::from_secs(guests.ttl_s),
            rtp_dump: self.debug.rtp_dump,
            ice_servers: self.ice_servers.iter().map(IceServer::for_clients).collect(),
            bot_ping: Duration::from_secs(self.bots.ping_s),
        }
    }

    /// The part of the stored streams.
    pub(crate) fn store(&self) -> antiphon_store::Config {
        let store = &self.store;
        antiphon_store::Config {
            account: store.account.clone(),
            region: store.region.clone(),
            max_streams: store.max_streams,
            max_stream_bytes: store.max_stream_bytes,
            max_total_bytes: store.max_total_bytes,
            max_stream_bytes_per_s: store.max_stream_bytes_per_s,
            max_stream_fragments_per_s: store.max_stream_fragments_per_s,
            max_total_bytes_per_s: store.max_total_bytes_per_s,
            max_sessions: store.max_producers,
            max_readers: store.max_readers,
            memory_ms: store.memory_s * 1000,
            memory_bytes: store.memory_bytes,
            idle_close_ms: store.idle_close_ms,
            tail_flush: store.tail_flush,
            rules: antiphon_store::ingest::Rules {
                fragment_bytes: store.max_fragment_bytes,
                fragment_ms: store.max_fragment_ms,
                tracks: store.max_tracks,
                tags: store.max_tags,
                ..antiphon_store::ingest::Rules::default()
            },
            journal: store.journal,
            max_journal_bytes: store.journal_bytes,
            ..antiphon_store::Config::default()
        }
    }

    /// The part of bots.
    pub(crate) fn bot(&self) -> antiphon_bot::Limits {
        let bots = &self.bots;
        antiphon_bot::Limits {
            rooms: bots.rooms,
            bots_per_room: bots.per_room,
            cameras_per_bot: bots.cameras,
            screens_per_bot: bots.screens,
            voices_per_bot: bots.voices,
            start_timeout: Duration::from_secs(bots.start_timeout_s),
            texts_per_second: bots.texts_per_second,
            frames_per_second: bots.frames_per_second,
            bytes_per_second: bots.bytes_per_second,
            queued_audio: Duration::from_secs(bots.queued_audio_s),
            ..antiphon_bot::Limits::default()
        }
    }
}
