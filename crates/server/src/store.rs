//! `antiphon store`: looking at what is stored; and the stored streams of a running server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use antiphon_kvs::{Credentials, Key, Kvs, Policy, TimeOfDay};
use antiphon_media::video::Decoders;
use antiphon_record::{Recorder, Source};
use antiphon_shard::Shards;
use antiphon_store::{Backend, Depth, Report, Rewrapped, Store, look, rewrap};
use anyhow::Context;
use clap::{Args, Subcommand};

/// How often what is past its retention is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often the journal is synced: with the time that a disk takes, a quarter of a second.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How often an object store that is away is tried again.
const DRAIN_EVERY: Duration = Duration::from_secs(2);

use crate::images::Images;
use crate::wall::Wall;
use crate::{certificate, config, key, keyring};

/// What can be done to a store.
#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Look whether every record, name, key and header is there that the stored fragments need.
    Check(Where),
    /// Read and decrypt everything that is stored too, and look whether it is what was written.
    Scrub(Where),
    /// Wrap all data keys by the newest versions of their master keys (`store.keys`), so that older versions can be removed. A server
    /// that has the folder open does it by POST /v1/keys:rewrap.
    Rewrap(Where),
    /// Print a token for the stored streams, as JSON: to send as `Authorization: Bearer`, and as the session credentials that AWS
    /// clients know.
    Token(StreamToken),
    /// Make a certificate for Amazon's own host names, for programs whose endpoint cannot be changed (docs/guide/deploy.md).
    Certificate(certificate::Issue),
}

/// What the token allows.
#[derive(Args)]
pub(crate) struct StreamToken {
    /// Folder with the server's signing key
    #[arg(long, value_name = "DIR", env = "ANTIPHON_DATA", default_value = "data")]
    data: PathBuf,
    /// Names of streams, `*` stands for any characters
    #[arg(long, value_name = "A,B*", value_delimiter = ',', default_value = "*")]
    streams: Vec<String>,
    /// Ids of contacts, if it is for those alone
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    contacts: Vec<String>,
    /// Operations, such as GetMedia,List*
    #[arg(long, value_name = "A,B*", value_delimiter = ',', default_value = "*")]
    actions: Vec<String>,
    /// How long it is good: 90s, 15m, 1h; 36h at most
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::token::duration)]
    ttl: Duration,
}

impl StreamToken {
    fn print(&self) -> anyhow::Result<()> {
        let contacts = Some(self.contacts.clone()).filter(|contacts| !contacts.is_empty());
        let policy = Policy { actions: self.actions.clone(), streams: self.streams.clone(), contacts };
        policy.check().map_err(anyhow::Error::msg)?;
        let max = antiphon_kvs::tokens::MAX_TTL;
        anyhow::ensure!(self.ttl <= max, "ttl: at most {} h", max.as_secs() / 3_600);
        let issued = key::stream_tokens(&self.data)?.issue(policy, self.ttl, now_ms() / 1000);
        println!("{}", issued.to_json());
        Ok(())
    }
}

/// Which store.
#[derive(Args)]
pub(crate) struct Where {
    /// Folder for the signing key and all that is kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// TOML file with any of the settings of `antiphon config print-default`
    #[arg(long, value_name = "FILE", env = "ANTIPHON_CONFIG")]
    config: Option<PathBuf>,
}

impl StoreCommand {
    /// Looks, and says what was found. Problems are an error, so that scripts see them.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let (of, depth) = match self {
            Self::Check(of) => (of, Depth::Check),
            Self::Scrub(of) => (of, Depth::Scrub),
            Self::Rewrap(of) => return of.rewrap(),
            Self::Token(token) => return token.print(),
            Self::Certificate(issue) => return issue.run(now_ms()),
        };
        let config = of.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(examine(&config, depth))?;
        for problem in &report.problems {
            println!("{problem}");
        }
        println!(
            "{} streams, {} fragments, {} bytes: {} problems",
            report.streams,
            report.fragments,
            report.bytes,
            report.problems.len()
        );
        if report.old_keys > 0 {
            println!("{} keys are under older versions: see `antiphon store rewrap`", report.old_keys);
        }
        anyhow::ensure!(report.problems.is_empty(), "the store is not as it should be");
        Ok(())
    }
}

impl Where {
    fn config(&self) -> anyhow::Result<config::Config> {
        let mut flags: Vec<_> = self.data.iter().map(|data| ("data", data.clone())).collect();
        // Who may use the API is of no matter here, and its secret is in the server's environment, not in that of who looks.
        flags.extend(["kvs.access_key_id", "kvs.secret_access_key"].map(|key| (key, String::new())));
        config::load(self.config.as_deref(), &flags)
    }

    fn rewrap(&self) -> anyhow::Result<()> {
        let config = self.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Rewrapped { rewrapped, newest, problems } = runtime.block_on(rewrapped(&config))?;
        for problem in &problems {
            println!("{problem}");
        }
        println!("{rewrapped} keys wrapped anew, {newest} were already: {} problems", problems.len());
        anyhow::ensure!(problems.is_empty(), "older versions of keys are still needed");
        Ok(())
    }
}

async fn rewrapped(config: &config::Config) -> anyhow::Result<Rewrapped> {
    let backend = match bucket(config)? {
        Some(bucket) => bucket,
        None => {
            let folder = folder(&config.data);
            anyhow::ensure!(folder.exists(), "there is no store in {}", folder.display());
            let opened = Backend::local(&folder);
            opened.context("a server that has it open does this itself: POST /v1/keys:rewrap")?
        }
    };
    let keys = Arc::new(keyring::open(config, false)?);
    Ok(rewrap(backend, keys, &config.store()).await?)
}

async fn examine(config: &config::Config, depth: Depth) -> anyhow::Result<Report> {
    let backend = match bucket(config)? {
        Some(bucket) => bucket.with_spool_read_only(&spool(&config.data))?,
        None => {
            let folder = folder(&config.data);
            let opened = Backend::local_read_only(&folder);
            opened.with_context(|| format!("there is no store in {}", folder.display()))?
        }
    };
    let keys = Arc::new(keyring::open(config, false)?);
    Ok(look(backend, keys, &config.store(), depth).await?)
}

/// Where the streams lie.
fn folder(data: &Path) -> PathBuf {
    data.join("store")
}

/// Where they wait while the bucket does not answer.
fn spool(data: &Path) -> PathBuf {
    data.join("spool")
}

/// Where what is not stored yet lies, on this machine wherever the streams are.
fn journal(data: &Path) -> PathBuf {
    data.join("journal")
}

/// The bucket, if the configuration names one.
fn bucket(config: &config::Config) -> anyhow::Result<Option<Backend>> {
    let s3 = &config.s3;
    if s3.bucket.is_empty() {
        return Ok(None);
    }
    let s3 = antiphon_store::S3 {
        bucket: s3.bucket.clone(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        access_key_id: s3.access_key_id.clone(),
        secret_access_key: s3.secret_access_key.clone(),
        allow_http: s3.allow_http,
        timeout: Duration::from_secs(s3.timeout_s),
    };
    Ok(Some(Backend::s3(&s3).context("s3")?))
}

/// The streams of a server that keeps some.
pub(crate) struct Streams {
    pub(crate) kvs: Kvs,
    store: Store,
    wall: Arc<Mutex<Wall>>,
    recorder: Option<Recorder>,
    sweeper: Option<tokio::task::JoinHandle<()>>,
    drainer: tokio::task::JoinHandle<()>,
    journal: JournalThread,
}

/// Syncs the journal until this is dropped, and then once more. A thread of its own: a disk that stalls is in nobody's way.
struct JournalThread {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl JournalThread {
    fn start(store: Store) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut due = Instant::now();
            loop {
                due = Instant::now().max(due + SYNC_EVERY);
                let waited = stopped.recv_timeout(due.saturating_duration_since(Instant::now()));
                store.sync_journal(now_ms());
                if waited != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("journal".into()).spawn(run).context("a thread")?;
        Ok(Self { stop, thread })
    }

    /// Until it is synced for the last time.
    async fn stop(self) {
        drop(self.stop);
        if tokio::task::spawn_blocking(|| self.thread.join()).await.is_err() {
            tracing::error!("the journal was not synced for the last time");
        }
    }
}

impl Streams {
    /// Opens the store, if the configuration has one.
    pub(crate) async fn open(config: &config::Config, decoders: Decoders) -> anyhow::Result<Option<Self>> {
        if !config.store.enabled {
            return Ok(None);
        }
        let keys = Arc::new(keyring::open(config, true)?);
        let backend = match bucket(config)? {
            Some(bucket) if config.s3.spool_bytes == 0 => bucket,
            Some(bucket) => {
                bucket.with_spool(&spool(&config.data), config.s3.spool_bytes).context("spool")?
            }
            None => {
                let folder = folder(&config.data);
                let local = Backend::local(&folder);
                let local = local.with_context(|| format!("store: {}", folder.display()))?;
                local.with_group_sync(config.store.group_sync_from)
            }
        };
        let backend = backend.with_journal(&journal(&config.data));
        let opened = Store::open(backend, keys, config.store(), now_ms()).await;
        let (store, problems) =
            opened.context("store (its keys are those of the data folder and of store.keys)")?;
        for problem in &problems {
            tracing::error!(%problem, "the store is not as it should be; see `antiphon store check`");
        }
        let tokens = key::stream_tokens(&config.data)?;
        let images = Some(Arc::new(Images(decoders)) as Arc<_>);
        let wall = Arc::new(Mutex::new(Wall::new(Instant::now(), now_ms())));
        let believed = wall.clone();
        let time = TimeOfDay::new(move || locked(&believed).now_ms(Instant::now(), now_ms()));
        let kvs = Kvs::new(store.clone(), tokens, antiphon_kvs::Config { images, time, ..kvs(config) });
        let drainer = tokio::spawn(drain(store.clone()));
        let journal = JournalThread::start(store.clone())?;
        Ok(Some(Self { kvs, store, wall, recorder: None, sweeper: None, drainer, journal }))
    }

    /// Begins to record, and to remove what is past its retention.
    pub(crate) async fn record(
        &mut self,
        shards: Shards,
        config: &config::Config,
    ) -> anyhow::Result<Recorder> {
        let settings = config.media_streaming.settings();
        let limits = config.media_streaming.limits(config.recording.policy());
        let recorder = Recorder::new(self.store.clone(), shards, settings.clone(), limits);
        let source = recorder.restore_settings().await.context("media_streaming")?;
        if source == Source::Api && recorder.settings() != settings {
            tracing::warn!(
                "media streaming goes by settings that were set over the API, not by those of the configuration \
                 (DELETE /v1/media-streaming goes back to these)"
            );
        }
        self.recorder = Some(recorder.clone());
        self.sweeper = Some(tokio::spawn(sweep(self.store.clone(), recorder.clone(), self.wall.clone())));
        Ok(recorder)
    }

    /// Ends producers, so that what they sent is stored; waits for that until `deadline`.
    pub(crate) async fn stop(self, deadline: Duration) {
        if let Some(sweeper) = self.sweeper {
            sweeper.abort();
        }
        let recorder = self.recorder;
        let stopped = async {
            if let Some(recorder) = recorder {
                recorder.close().await;
            }
            self.kvs.stop().await;
        };
        if tokio::time::timeout(deadline, stopped).await.is_err() {
            tracing::warn!("what producers sent was not stored in time");
        }
        self.drainer.abort();
        // Before the tasks end that are not done: their fragments are still open, and the next start finds them so.
        self.journal.stop().await;
    }
}

fn kvs(config: &config::Config) -> antiphon_kvs::Config {
    let kvs = &config.kvs;
    let key = |id: &str, secret: &str, policy: Policy| Key {
        credentials: Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: None,
        },
        policy,
    };
    let mut keys: Vec<Key> =
        kvs.keys.iter().map(|k| key(&k.access_key_id, &k.secret_access_key, k.policy())).collect();
    if !kvs.access_key_id.is_empty() {
        keys.push(key(&kvs.access_key_id, &kvs.secret_access_key, Policy::everything()));
    }
    antiphon_kvs::Config {
        keys,
        endpoint: kvs.endpoint.trim_end_matches('/').to_owned(),
        max_connection: Duration::from_secs(config.store.max_connection_s),
        every_track: config.store.every_track,
        producer_timeout: Duration::from_secs(config.store.producer_timeout_s),
        reader_timeout: Duration::from_secs(config.store.reader_timeout_s),
        skew: Duration::from_secs(kvs.skew_s),
        tls: !config.tls.cert.as_os_str().is_empty(),
        ..antiphon_kvs::Config::default()
    }
}

/// Gives the bucket what waits for it.
async fn drain(store: Store) {
    let mut ticks = tokio::time::interval(DRAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let drained = store.drain_spool().await;
        if drained.moved > 0 {
            tracing::info!(moved = drained.moved, left = drained.left, "emptied the spool");
        }
    }
}

fn locked(wall: &Mutex<Wall>) -> MutexGuard<'_, Wall> {
    wall.lock().expect("nothing panics while holding it")
}

async fn sweep(store: Store, recorder: Recorder, wall: Arc<Mutex<Wall>>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let now_ms = now_ms();
        let believed = locked(&wall).is_believed(Instant::now(), now_ms);
        if !believed {
            tracing::warn!(
                now_ms,
                "the clock has jumped ahead: nothing is removed until it has stayed there for an hour"
            );
            continue;
        }
        recorder.believe(now_ms);
        let swept = store.sweep(now_ms).await;
        recorder.sweep().await;
        if swept != antiphon_store::Swept::default() {
            let (fragments, streams, failed) = (swept.fragments, swept.streams, swept.failed);
            tracing::info!(fragments, streams, failed, "swept the store");
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_at_a_store_needs_no_secret_of_its_api() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[store]\nenabled = true\n[kvs]\naccess_key_id = \"AKIDEXAMPLE\"\n").unwrap();
        let of = Where { data: Some("elsewhere".into()), config: Some(file.path().to_owned()) };
        let config = of.config().unwrap();
        assert!(config.store.enabled && config.data == Path::new("elsewhere"));
        assert!(config::load(Some(file.path()), &[]).is_err(), "a server needs it");
    }
}
