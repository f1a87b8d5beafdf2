//! `antiphon serve`: starts the parts, says so, and stops them in order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use antiphon_api::App;
use antiphon_api::app::Parts;
use antiphon_base::ParticipantId;
use antiphon_bot::{Bots, Identity, demo};
use antiphon_media::video::Decoders;
use antiphon_media::video::process::Launch;
use antiphon_shard::{Grants, Shards};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cli::CODEC_WORKER;
use crate::config::{Config, Demo};
use crate::listen::listen;
use crate::store::Streams;
use crate::{key, telemetry, tls, web, webhooks};

/// How often to look whether all have gone, while stopping.
const EMPTY_CHECK: Duration = Duration::from_millis(50);

/// At the deadline the rooms close and say so to everybody: time for that to go out.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs until a signal.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let key = key::load_or_create(&config.data)?;
    let tls = tls::load(&config.tls)?;
    let decoders = Decoders::with_workers(Launch::this_program(&[CODEC_WORKER]));
    let mut streams = Streams::open(config, decoders.clone()).await?;
    let listener = listen(config.http).with_context(|| format!("http: cannot listen on {}", config.http))?;
    let own_port = streams_port(config)?;
    let shards = Shards::start(config.shard()?)
        .with_context(|| format!("media: cannot open ports from {}", config.media))?;
    let bots = Bots::with_decoders(shards.clone(), config.bot(), decoders);
    let kvs = streams.as_ref().map(|s| s.kvs.clone());
    let recorder = match &mut streams {
        Some(streams) => Some(streams.record(shards.clone(), config).await?),
        None => None,
    };
    let webhooks = webhooks::start(config, kvs.as_ref(), recorder.as_ref())?;
    let parts = Parts {
        shards: shards.clone(),
        bots: bots.clone(),
        key,
        web: web::FILES,
        kvs,
        recorder,
        webhooks: webhooks.clone(),
    };
    let app = App::new(config.api(), parts);
    let (stop, stopped) = watch::channel(false);
    let streams_port = match own_port {
        Some(listener) => {
            println!("antiphon: streams on {}", url(listener.local_addr()?, tls.is_some()));
            let serve = antiphon_api::serve_streams(listener, tls.clone(), app.clone(), stopped.clone());
            Some(tokio::spawn(serve))
        }
        None => None,
    };
    let ports = (&shards.media_addresses()[..], &shards.tcp_addresses()[..]);
    println!("{}", ready_line(listener.local_addr()?, ports, tls.is_some()));
    let http = tokio::spawn(antiphon_api::serve(listener, tls, app.clone(), stopped));

    let demo_bot = tokio::spawn(demo_bot(config.demo.clone(), bots));

    signals.next().await;
    tracing::info!(deadline_s = config.stop.deadline_s, "stopping; a second signal stops at once");
    app.drain();
    demo_bot.abort();
    shards.drain(Duration::from_secs(config.stop.deadline_s));
    tokio::select! {
        () = empty(&shards, config.stop.deadline_s) => {
            // Who has left a room is told why by its own task, which may not have had its turn yet.
            let _ = tokio::time::timeout(LAST_WORDS, app.bots_closed()).await;
        }
        () = signals.next() => {}
    }
    if let Some(streams) = streams {
        streams.stop(Duration::from_secs(config.stop.deadline_s)).await;
    }
    if let Some(webhooks) = webhooks {
        webhooks.stop(Duration::from_secs(config.stop.deadline_s)).await;
    }
    let _ = stop.send(true);
    let _ = http.await;
    if let Some(streams_port) = streams_port {
        let _ = streams_port.await;
    }
    shards.stop().await;
    Ok(())
}

/// The port that has the stored streams alone, where one is wanted.
fn streams_port(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.kvs.own_port()? else { return Ok(None) };
    listen(address).with_context(|| format!("kvs.http: cannot listen on {address}")).map(Some)
}

/// The bot that is already there.
async fn demo_bot(config: Demo, bots: Bots) {
    if config.enabled {
        let id = ParticipantId::new("demo-bot").expect("letters and a hyphen");
        let grants = Grants { publish: true, subscribe: true, moderate: false };
        demo::run(bots, config.room, Identity { id, name: "Echo".into(), grants }).await;
    }
}

/// Until nobody is connected, or the deadline and what is said at it.
async fn empty(shards: &Shards, deadline_s: u64) {
    let deadline = Instant::now() + Duration::from_secs(deadline_s) + LAST_WORDS;
    let mut ticks = tokio::time::interval(EMPTY_CHECK);
    while ticks.tick().await < deadline {
        // Players are in no roster, and the counters are of the last second: both are needed.
        let peers: u64 = shards.metrics().shards.iter().map(|s| s.peers).sum();
        if peers == 0 && shards.rooms().await.iter().all(|r| r.participants.is_empty()) {
            return;
        }
    }
}

/// One line for people and programs: where to connect.
fn ready_line(http: SocketAddr, (udp, tcp): (&[SocketAddr], &[SocketAddr]), tls: bool) -> String {
    let tcp = if tcp.is_empty() { String::new() } else { format!(", tcp {}", ports(tcp)) };
    format!("antiphon: listening on {} (media udp {}{tcp})", url(http, tls), ports(udp))
}

fn url(listening: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = match listening.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(host, listening.port()))
}

fn ports(addresses: &[SocketAddr]) -> String {
    let ports: Vec<_> = addresses.iter().map(SocketAddr::port).collect();
    let consecutive = ports.windows(2).all(|w| w[0].checked_add(1) == Some(w[1]));
    match ports.as_slice() {
        [first, .., last] if consecutive => format!("{first}-{last}"),
        all => all.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(http: &str, udp: &[u16], tcp: &[u16], expected: &str) {
        let all = |ports: &[u16]| ports.iter().map(|p| SocketAddr::from(([0; 4], *p))).collect::<Vec<_>>();
        assert_eq!(ready_line(http.parse().unwrap(), (&all(udp), &all(tcp)), false), expected);
    }

    #[test]
    fn the_ready_line_is_as_documented() {
        check(
            "0.0.0.0:7700",
            &[7701, 7702],
            &[7701, 7702],
            "antiphon: listening on http://127.0.0.1:7700 (media udp 7701-7702, tcp 7701-7702)",
        );
        check("[::1]:80", &[7701], &[], "antiphon: listening on http://[::1]:80 (media udp 7701)");
        check(
            "10.0.0.1:1",
            &[9, 4],
            &[443],
            "antiphon: listening on http://10.0.0.1:1 (media udp 9,4, tcp 443)",
        );
    }
}
