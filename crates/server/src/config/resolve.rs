//! File, environment and flags become one [`Config`]; every error names the key and where its value came from.

use std::path::Path;

use antiphon_shard::config::Tcp;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, IceServer, Kvs};

/// A shard's number is two hexadecimal digits in the user fragments of its peers.
const MAX_SHARDS: usize = 256;

/// Reads the file and the environment; flags are keys with their text.
pub(crate) fn load(file: Option<&Path>, flags: &[(&str, String)]) -> anyhow::Result<Config> {
    let text = match file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("config: cannot read {}", path.display()))?;
            Some((path.display().to_string(), text))
        }
    };
    let text = text.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
    resolve(text, |name| std::env::var(name).ok(), flags)
}

/// `file` is a name and its text.
fn resolve(
    file: Option<(&str, &str)>,
    env: impl Fn(&str) -> Option<String>,
    flags: &[(&str, String)],
) -> anyhow::Result<Config> {
    let mut config = match file {
        None => Config::default(),
        Some((name, text)) => toml::from_str(text).with_context(|| name.to_owned())?,
    };
    for key in keys() {
        let name = format!("ANTIPHON_{}", key.to_ascii_uppercase().replace('.', "_"));
        if let Some(text) = env(&name) {
            config = set(&config, &key, &text).with_context(|| format!("{name} (key {key})"))?;
        }
    }
    for (key, text) in flags {
        config = set(&config, key, text).with_context(|| format!("--{key}"))?;
    }
    check(&config)?;
    Ok(config)
}

/// All keys, sections before a dot.
fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in to_table(&Config::default()) {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|k| format!("{key}.{k}"))),
            _ => keys.push(key),
        }
    }
    keys
}

fn to_table(config: &Config) -> Table {
    Table::try_from(config).expect("every field has a TOML form")
}

/// The config with one key changed to what `text` says, in the type the key has.
fn set(config: &Config, key: &str, text: &str) -> anyhow::Result<Config> {
    let mut table = to_table(config);
    let place = match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, key)) => table.get_mut(section).and_then(|s| s.get_mut(key)),
    };
    let place = place.context("there is no such key")?;
    *place = match place {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Array(_) if !text.trim_start().starts_with('[') => {
            text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect::<Vec<_>>().into()
        }
        Value::Float(_) => Value::Float(text.parse().with_context(|| format!("{text:?} is not a number"))?),
        _ => Value::deserialize(toml::de::ValueDeserializer::parse(text)?)
            .with_context(|| format!("{text:?} is not a value"))?,
    };
    Ok(Config::deserialize(table)?)
}

/// What types cannot say.
fn check(config: &Config) -> anyhow::Result<()> {
    let Config { tls, rooms, limits, bots, guests, .. } = config;
    ensure!(config.shards <= MAX_SHARDS, "shards: at most {MAX_SHARDS}");
    let shards = config.shard()?.shards;
    let last = usize::from(config.media.port()) + shards - 1;
    ensure!(config.media.port() == 0 || last <= 65_535, "media: {shards} shards need ports up to {last}");
    ensure!(tls.cert.as_os_str().is_empty() == tls.key.as_os_str().is_empty(), "tls: set both cert and key");
    ensure!(rooms.max_busy > 0.0 && rooms.max_busy <= 1.0, "rooms.max_busy: more than 0, at most 1");
    ensure!(rooms.shed_busy > 0.0 && rooms.shed_busy <= 1.0, "rooms.shed_busy: more than 0, at most 1");
    ensure!((0.0..=1.0).contains(&rooms.spread_above), "rooms.spread_above: from 0 to 1");
    for room in &guests.rooms {
        if room != "*"
            && let Err(e) = antiphon_base::RoomName::new(room)
        {
            bail!("guests.rooms: {room:?} {e}");
        }
    }
    check_store(config)?;
    check_reach(config)?;
    config.ice_servers.iter().try_for_each(check_ice_server)?;
    ensure!(config.ice_servers.len() <= MAX_ICE_SERVERS, "ice_servers: at most {MAX_ICE_SERVERS}");
    let rates = [
        ("limits.joins_per_second", limits.joins_per_second),
        ("limits.room_joins_per_second", limits.room_joins_per_second),
        ("guests.tokens_per_second", guests.tokens_per_second),
    ];
    for (key, rate) in rates {
        ensure!(rate.is_finite() && rate >= 0.0, "{key}: a number that is not negative");
    }
    let at_least_one = [
        ("rooms.max_rooms", rooms.max_rooms),
        ("rooms.max_participants", rooms.max_participants),
        ("rooms.max_players", rooms.max_players),
        ("rooms.max_peers", rooms.max_peers),
        ("limits.body_bytes", limits.body_bytes),
        ("limits.connections", limits.connections),
        ("limits.joins_in_progress", limits.joins_in_progress),
    ];
    for (key, value) in at_least_one {
        ensure!((1..=tokio::sync::Semaphore::MAX_PERMITS).contains(&value), "{key}: at least 1");
    }
    let seconds = [
        ("rooms.consent_timeout_s", rooms.consent_timeout_s),
        ("limits.header_timeout_s", limits.header_timeout_s),
        ("limits.request_timeout_s", limits.request_timeout_s),
        ("bots.ping_s", bots.ping_s),
        ("bots.start_timeout_s", bots.start_timeout_s),
        ("guests.ttl_s", guests.ttl_s),
        ("store.producer_timeout_s", config.store.producer_timeout_s),
        ("store.reader_timeout_s", config.store.reader_timeout_s),
        ("store.memory_s", config.store.memory_s),
        ("kvs.skew_s", config.kvs.skew_s),
        ("s3.timeout_s", config.s3.timeout_s),
        ("kms.timeout_s", config.kms.timeout_s),
        ("vault.timeout_s", config.vault.timeout_s),
        ("webhooks.interval_s", config.webhooks.interval_s),
        ("webhooks.give_up_s", config.webhooks.give_up_s),
    ];
    for (key, value) in seconds {
        ensure!((1..=MAX_SECONDS).contains(&value), "{key}: 1 to {MAX_SECONDS}");
    }
    for (key, value) in
        [("stop.deadline_s", config.stop.deadline_s), ("rooms.resume_ttl_s", rooms.resume_ttl_s)]
    {
        ensure!(value <= MAX_SECONDS, "{key}: at most {MAX_SECONDS}");
    }
    Ok(())
}

fn check_reach(config: &Config) -> anyhow::Result<()> {
    let reach = config.reachability()?;
    ensure!(reach.udp || reach.tcp != Tcp::Off, "reach: without udp and tcp nobody can be reached");
    ensure!(reach.tcp_connections > 0, "reach.tcp_connections: at least 1");
    let outside = reach.external.iter().map(|e| e.outside);
    for ip in reach.announce.iter().copied().chain(outside) {
        let usable = !ip.is_unspecified() && !ip.is_multicast();
        ensure!(usable, "announce, reach.external_ip: nobody can send to {ip}");
    }
    Ok(())
}

fn check_ice_server(server: &IceServer) -> anyhow::Result<()> {
    let known = ["stun:", "stuns:", "turn:", "turns:"];
    let good =
        |url: &String| known.iter().any(|k| url.starts_with(k)) && url.bytes().all(|b| b.is_ascii_graphic());
    ensure!(
        !server.urls.is_empty() && server.urls.iter().all(good),
        "ice_servers: urls are stun:... or turn:..."
    );
    ensure!(
        server.username.is_empty() == server.credential.is_empty()
            && (server.username.is_empty() || server.secret.is_empty()),
        "ice_servers: either username and credential, or secret"
    );
    ensure!((1..=MAX_SECONDS).contains(&server.ttl_s), "ice_servers: ttl_s is 1 to {MAX_SECONDS}");
    Ok(())
}

fn check_store(config: &Config) -> anyhow::Result<()> {
    let (store, kvs) = (&config.store, &config.kvs);
    let short = (1..=32).contains(&store.account.len());
    let account = short && store.account.bytes().all(|b| b.is_ascii_alphanumeric());
    ensure!(account, "store.account: 1 to 32 letters or digits");
    let region = (1..=32).contains(&store.region.len())
        && store.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ensure!(region, "store.region: 1 to 32 letters, digits and -");
    crate::keyring::check(config)?;
    ensure!(store.max_streams > 0, "store.max_streams: at least 1");
    ensure!(store.journal_bytes >= MIN_JOURNAL_BYTES, "store.journal_bytes: at least {MIN_JOURNAL_BYTES}");
    for (key, value) in [
        ("max_producers", store.max_producers),
        ("max_readers", store.max_readers),
        ("max_tracks", store.max_tracks),
        ("max_tags", store.max_tags),
    ] {
        ensure!((1..=MAX_PER_STREAM).contains(&value), "store.{key}: 1 to {MAX_PER_STREAM}");
    }
    let bytes = 1 << 16..=MAX_FRAGMENT_BYTES;
    ensure!(
        bytes.contains(&store.max_fragment_bytes),
        "store.max_fragment_bytes: 65536 to {MAX_FRAGMENT_BYTES}"
    );
    let fragment_ms = store.max_fragment_ms;
    ensure!(
        fragment_ms == 0 || fragment_ms >= MIN_FRAGMENT_MS,
        "store.max_fragment_ms: 0, or at least {MIN_FRAGMENT_MS}"
    );
    ensure!(store.memory_bytes >= MIN_MEMORY_BYTES, "store.memory_bytes: at least {MIN_MEMORY_BYTES}");
    let (spool_bytes, one) = (config.s3.spool_bytes, store.max_fragment_bytes as u64);
    ensure!(
        spool_bytes == 0 || spool_bytes >= one,
        "s3.spool_bytes: 0, or at least store.max_fragment_bytes ({one})"
    );
    ensure!(store.idle_close_ms <= MAX_SECONDS * 1000, "store.idle_close_ms: at most {}", MAX_SECONDS * 1000);
    ensure!(store.max_connection_s <= MAX_SECONDS, "store.max_connection_s: at most {MAX_SECONDS}");
    ensure!(
        kvs.access_key_id.is_empty() == kvs.secret_access_key.is_empty(),
        "kvs: set both access_key_id and secret_access_key"
    );
    check_kvs_keys(kvs)?;
    let s3 = &config.s3;
    ensure!(
        s3.bucket.is_empty() || !(s3.access_key_id.is_empty() || s3.secret_access_key.is_empty()),
        "s3: set both access_key_id and secret_access_key"
    );
    let unused = kvs.access_key_id.is_empty() && kvs.keys.is_empty() && kvs.http.is_empty();
    ensure!(store.enabled || unused, "kvs: needs store.enabled");
    let streaming = &config.media_streaming;
    if let Err(e) = streaming.settings().check() {
        bail!("media_streaming.{e}");
    }
    ensure!(store.enabled || !streaming.enabled, "media_streaming: needs store.enabled");
    let recording = &config.recording;
    if let Err(e) = recording.policy().check() {
        bail!("recording.{e}");
    }
    for (name, seconds) in [
        ("acknowledge_within_s", recording.acknowledge_within_s),
        ("consent_within_s", recording.consent_within_s),
    ] {
        ensure!(seconds <= MAX_SECONDS, "recording.{name}: at most {MAX_SECONDS}");
    }
    ensure!(streaming.absence_s <= MAX_SECONDS, "media_streaming.absence_s: at most {MAX_SECONDS}");
    check_webhooks(config)
}

fn check_webhooks(config: &Config) -> anyhow::Result<()> {
    let webhooks = &config.webhooks;
    let max = antiphon_api::webhooks::MAX_TARGETS;
    ensure!(webhooks.targets.len() <= max, "webhooks.targets: at most {max}");
    ensure!(config.store.enabled || webhooks.targets.is_empty(), "webhooks: needs store.enabled");
    webhooks.targets.iter().enumerate().try_for_each(|(i, target)| {
        crate::webhooks::check(target).with_context(|| format!("webhooks.targets: number {i}"))
    })
}

fn check_kvs_keys(kvs: &Kvs) -> anyhow::Result<()> {
    kvs.own_port()?;
    ensure!(kvs.keys.len() <= MAX_KVS_KEYS, "kvs.keys: at most {MAX_KVS_KEYS}");
    let mut ids = std::collections::BTreeSet::from([kvs.access_key_id.as_str()]);
    for key in &kvs.keys {
        let id = key.access_key_id.as_str();
        ensure!(ids.insert(id), "kvs.keys: access_key_id {id:?} is empty or not its own");
        ensure!(!key.secret_access_key.is_empty(), "kvs.keys: {id} has no secret_access_key");
        key.policy().check().map_err(|e| anyhow::anyhow!("kvs.keys: {id}: {e}"))?;
    }
    Ok(())
}

/// Producers, readers, tracks or tags of one stream: what is more is a mistake.
const MAX_PER_STREAM: usize = 10_000;
/// A fragment is in memory while it arrives, and an object of its size names it in 32 bits.
const MAX_FRAGMENT_BYTES: usize = 1 << 30;
/// Fragments of our own, with pictures, last up to 4.1 s.
const MIN_FRAGMENT_MS: u64 = 5_000;
/// Half a minute of a voice: with less, live readers would miss what they were just told of.
const MIN_MEMORY_BYTES: u64 = 1 << 20;
/// A year: what is longer is a mistake, and would overflow some clock.
const MAX_SECONDS: u64 = 366 * 86_400;
/// Two of the journal's files: with less it would give up what it has just taken.
const MIN_JOURNAL_BYTES: u64 = 16 << 20;
/// TURN servers told to clients: each makes a join's answer longer, and browsers try them all.
const MAX_ICE_SERVERS: usize = 8;
/// Access keys: each request looks through them. Who needs more wants tokens.
const MAX_KVS_KEYS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_TOML;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn error(file: &str, env: Option<(&str, &str)>, flags: &[(&str, &str)]) -> String {
        let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let env = |name: &str| env.filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned());
        format!("{:#}", resolve(Some(("a.toml", file)), env, &flags).unwrap_err())
    }

    #[test]
    fn the_printed_default_is_the_default() {
        let printed: Config = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(printed, Config::default());
        assert_eq!(
            DEFAULT_TOML.parse::<Table>().unwrap(),
            to_table(&Config::default()),
            "every key is printed"
        );
        resolve(None, no_env, &[]).unwrap();
    }

    #[test]
    fn flags_win_over_environment_over_file_over_default() {
        let file = Some(("f", "http = '1.1.1.1:1'\nmedia = '1.1.1.1:2'\nshards = 3\n[log]\nformat = 'json'"));
        let env = |name: &str| match name {
            "ANTIPHON_HTTP" => Some("2.2.2.2:1".to_owned()),
            "ANTIPHON_MEDIA" => Some("2.2.2.2:2".to_owned()),
            "ANTIPHON_GUESTS_ROOMS" => Some("a, b".to_owned()),
            "ANTIPHON_DEBUG_RTP_DUMP" => Some("true".to_owned()),
            "ANTIPHON_LIMITS_JOINS_PER_SECOND" => Some("7".to_owned()),
            _ => None,
        };
        let flags = [("http", "3.3.3.3:1".to_owned()), ("announce", "4.4.4.4,::1".to_owned())];
        let c = resolve(file, env, &flags).unwrap();
        assert_eq!((c.http.to_string(), c.media.to_string()), ("3.3.3.3:1".into(), "2.2.2.2:2".into()));
        assert_eq!((c.shards, c.log.format), (3, super::super::LogFormat::Json));
        assert_eq!(c.guests.rooms, ["a", "b"]);
        assert_eq!((c.debug.rtp_dump, c.limits.joins_per_second), (true, 7.0));
        assert_eq!(c.announce.len(), 2);
        assert_eq!(c.data, Path::new("data"));
    }

    fn refused(file: &str, part: &str) {
        let error = error(file, None, &[]);
        assert!(error.contains(part), "{file}: {error}");
    }

    #[test]
    fn a_wrong_master_key_is_named() {
        for (file, part) in [
            ("[store]\nkeys = [{ name = 'a b', secret = 'env:A' }]", "store.keys"),
            ("[store]\nkeys = [{ name = 'a', secret = 'hunter2' }]", "file:PATH"),
            ("[store]\nkeys = [{ name = 'a', version = 0, secret = 'env:A' }]", "versions begin at 1"),
            (
                "[store]\nkeys = [{ name = 'a', secret = 'env:A' }, { name = 'a', secret = 'env:B' }]",
                "version 1 of a is there twice",
            ),
            ("[store]\nkeys = [{ name = 'a' }]", "either secret, kms or vault"),
            ("[store]\nkeys = [{ secret = 'env:A' }]", "missing field `name`"),
            (
                "[store]\nkeys = [{ name = 'a', secret = 'env:A', kms = 'alias/a' }]",
                "either secret, kms or vault",
            ),
            ("[store]\nkeys = [{ name = 'a', vault = 'a', kms = 'alias/a' }]", "either secret, kms or vault"),
            ("[store]\nkeys = [{ name = 'a', vault = '../a' }]", "the name of a key of the transit engine"),
            ("[store]\nkeys = [{ name = 'a', vault = 'a' }]", "vault: set either token or token_file"),
            (
                "[store]\nkeys = [{ name = 'a', vault = 'a' }]\n[vault]\ntoken = 't'\naddress = 'http://127.0.0.1:1'",
                "vault: address: https://, or allow_http",
            ),
            ("[store]\nkeys = [{ name = 'a', kms = 'a key' }]", "an id, an alias"),
            ("[store]\nkeys = [{ name = 'a', kms = 'alias/a' }]", "kms: set both"),
            ("[store]\nkeys = [{ name = 'a', kms = 'arn:aws:kms:eu-west-1:1:key/2' }]", "eu-west-1"),
            (
                "[store]\nkeys = [{ name = 'a', kms = 'alias/a' }]\n[kms]\naccess_key_id = 'a'\n\
                 secret_access_key = 'b'\nendpoint = 'http://127.0.0.1:1'",
                "kms: endpoint: https://, or allow_http",
            ),
            (
                "[store]\nkeys = [{ name = 'a', kms = 'alias/a' }]\n[kms]\naccess_key_id = 'a'\n\
                 secret_access_key = 'b'\nendpoint = 'https://user:word@a/b'",
                "kms: endpoint",
            ),
            ("[kms]\ntimeout_s = 0", "kms.timeout_s"),
            ("[vault]\ntimeout_s = 0", "vault.timeout_s"),
        ] {
            refused(file, part);
        }
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (file, part) in [
            ("htpp = 'x'", "htpp"),
            ("[log]\nlevel = 'info'", "level"),
            ("http = 'x'", "http"),
            ("[rooms]\nmax_busy = 2.0", "rooms.max_busy"),
            ("[rooms]\nshed_busy = 0.0", "rooms.shed_busy"),
            ("[rooms]\nshed_busy = 1.5", "rooms.shed_busy"),
            ("[tls]\ncert = 'a.pem'", "tls"),
            ("[guests]\nrooms = ['a b']", "guests.rooms"),
            ("[limits]\nconnections = 0", "limits.connections"),
            ("[bots]\nping_s = -1", "ping_s"),
            ("[store]\naccount = '../x'", "store.account"),
            ("[store]\njournal = 'maybe'", "journal"),
            ("[store]\njournal_bytes = 1000", "store.journal_bytes"),
            ("[kvs]\naccess_key_id = 'a'", "kvs"),
            ("[store]\nmax_producers = 0", "store.max_producers"),
            ("[store]\nmax_fragment_bytes = 1", "store.max_fragment_bytes"),
            ("[store]\nreader_timeout_s = 0", "store.reader_timeout_s"),
            ("[s3]\nbucket = 'a'", "s3"),
            ("[s3]\ntimeout_s = 0", "s3.timeout_s"),
            ("[store]\ndefault_key = 'a'", "store.default_key"),
            ("[media_streaming]\nkey = 'a'", "media_streaming.key"),
            ("[media_streaming]\nenabled = true", "store.enabled"),
            ("[media_streaming]\nprefix = 'a/b'", "media_streaming.prefix"),
            ("[media_streaming]\nretention_unit = 'weeks'", "retention_unit"),
            ("[recording]\nretention_h = 0", "recording.retention_h"),
            ("[recording]\nconsent = 'maybe'", "consent"),
            ("[kvs]\naccess_key_id = 'a'\nsecret_access_key = 'b'", "store.enabled"),
            ("[store]\nenabled = true\n[kvs]\nhttp = 'x'", "kvs.http"),
            ("[kvs]\nhttp = '127.0.0.1:0'", "store.enabled"),
            (
                "[kvs]\nkeys = [{ access_key_id = '', secret_access_key = 'b', actions = [], streams = [] }]",
                "kvs.keys",
            ),
            (
                "[kvs]\nkeys = [{ access_key_id = 'a', secret_access_key = 'b', actions = ['Fly'], streams = [] }]",
                "Fly",
            ),
            ("ice_servers = [{ urls = ['http://x'] }]", "ice_servers"),
            ("ice_servers = [{ urls = ['turn:x'], username = 'u' }]", "ice_servers"),
            ("[webhooks]\ntargets = [{ url = 'https://a.example/' }]", "store.enabled"),
            ("[store]\nenabled = true\n[webhooks]\ninterval_s = 0", "webhooks.interval_s"),
            ("[store]\nenabled = true\n[webhooks]\ntargets = [{ url = 'file:///x' }]", "webhooks.targets"),
            (
                "[store]\nenabled = true\n[webhooks]\ntargets = [{ url = 'http://a/', secret = 'whsec_x' }]",
                "file:PATH",
            ),
            (
                "[store]\nenabled = true\n[webhooks]\ntargets = [{ url = 'http://a/', events = ['fire'] }]",
                "fire",
            ),
            ("media = '0.0.0.0:65535'\nshards = 2", "media"),
            ("[reach]\ntcp = 'on'", "reach.tcp"),
            ("[reach]\nudp = false\ntcp = 'off'", "reach"),
            ("[reach]\nexternal_ip = ['10.0.0.1/x']", "reach.external_ip"),
            ("announce = ['0.0.0.0']", "announce"),
        ] {
            refused(file, part);
        }
        assert!(error("", Some(("ANTIPHON_SHARDS", "many")), &[]).contains("ANTIPHON_SHARDS"));
        assert!(error("", None, &[("announce", "localhost")]).contains("--announce"));
        assert!(error("", None, &[("shards", "1.5")]).contains("--shards"));
    }

    #[test]
    fn what_no_fragment_fits_into_is_refused() {
        for (file, part) in [
            ("[store]\nmax_fragment_ms = 4096", "store.max_fragment_ms"),
            ("[store]\nmemory_bytes = 1000", "store.memory_bytes"),
            ("[s3]\nspool_bytes = 1000000", "s3.spool_bytes"),
        ] {
            refused(file, part);
        }
        for file in ["[store]\nmax_fragment_ms = 5000", "[s3]\nspool_bytes = 0"] {
            assert!(resolve(Some(("f", file)), |_| None, &[]).is_ok(), "{file}");
        }
    }

    /// `ANTIPHON_BLESS=1 cargo test -p antiphon-server` writes the page.
    #[test]
    fn the_reference_page_is_in_sync() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/config.md");
        let page = format!(
            "# Configuration\n\n\
             <!-- Made from crates/server/src/config/default.toml by a test: change that file, then run\n     \
             ANTIPHON_BLESS=1 cargo test -p antiphon-server reference_page -->\n\n\
             `antiphon config print-default` prints this. It is a complete file for `antiphon serve --config FILE`.\n\n\
             ```toml\n{DEFAULT_TOML}```\n"
        );
        if std::env::var_os("ANTIPHON_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page);
    }
}
