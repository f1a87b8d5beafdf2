//! From what the peers counted to the JSON object on stdout. The README says what each figure means.
use crate::Args;
use crate::decrypting::SubState;
use crate::engine::{PARTS, Peer, Role, delay_histogram};
use crate::media::Kind;
use crate::procstat::{self, ProcSample};
use crate::run::Clocks;
use crate::sink::Sink;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// How the joins went.
pub struct Joins {
    pub publishers_connected: usize,
    pub rss_publishers: Option<ProcSample>,
    pub subscriber_pcs: usize,
    pub all_joined: bool,
    pub wall: Duration,
}

/// Everything the report is made of.
pub struct Run<'a> {
    pub args: &'a Args,
    pub joins: &'a Joins,
    pub tally: &'a Tally,
    pub rss_idle: Option<ProcSample>,
    pub before: &'a Clocks,
    pub after: &'a Clocks,
    pub window_s: f64,
    pub dead: usize,
    pub errors: &'a [String],
}

/// Sums over all peers. Pairs are audio, video.
pub struct Tally {
    sent: Vec<[u64; 2]>,
    sent_bytes: [u64; 2],
    keyframes: (u64, u64),
    delay: [Histogram<u32>; PARTS],
    delay_app: Histogram<u32>,
    received: u64,
    received_bytes: u64,
    expected: [u64; 2],
    unique: [u64; 2],
    duplicates: u64,
    out_of_order: u64,
    unstamped: u64,
    /// By sequence numbers, of the subscribers that do not decrypt.
    sink_expected: u64,
    sink_received: u64,
    retransmitted: u64,
    decrypting: usize,
    refused: u64,
    socket_drops: u64,
    max_gap_ms: f64,
    track_loss: Vec<f64>,
    per_subscriber: Vec<f64>,
    signalled: Vec<f64>,
    connected: Vec<f64>,
    first_media: Vec<f64>,
    all_media: Vec<f64>,
    publisher_connected: Vec<f64>,
}

fn ms(d: Duration) -> f64 {
    round(d.as_secs_f64() * 1e3, 2)
}

fn round(x: f64, digits: i32) -> f64 {
    let k = 10f64.powi(digits);
    (x * k).round() / k
}

fn quantiles(mut v: Vec<f64>) -> Value {
    if v.is_empty() {
        return json!(null);
    }
    v.sort_by(f64::total_cmp);
    let q = |p: f64| v[((v.len() - 1) as f64 * p).round() as usize];
    json!({"n": v.len(), "min": v[0], "p50": q(0.5), "p95": q(0.95), "max": v[v.len() - 1]})
}

fn hist(h: &Histogram<u32>) -> Value {
    if h.is_empty() {
        return json!(null);
    }
    json!({"p50": h.value_at_quantile(0.5), "p90": h.value_at_quantile(0.9),
        "p99": h.value_at_quantile(0.99), "p999": h.value_at_quantile(0.999), "max": h.max()})
}

fn percent(lost: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { round(100.0 * lost as f64 / of as f64, 4) }
}

impl Tally {
    pub fn of(peers: &[Peer], args: &Args) -> Tally {
        let mut t = Tally {
            sent: vec![[0; 2]; args.all_publishers()],
            sent_bytes: [0; 2],
            keyframes: (0, 0),
            delay: std::array::from_fn(|_| delay_histogram()),
            delay_app: delay_histogram(),
            received: 0,
            received_bytes: 0,
            expected: [0; 2],
            unique: [0; 2],
            duplicates: 0,
            out_of_order: 0,
            unstamped: 0,
            sink_expected: 0,
            sink_received: 0,
            retransmitted: 0,
            decrypting: 0,
            refused: 0,
            socket_drops: 0,
            max_gap_ms: 0.0,
            track_loss: vec![],
            per_subscriber: vec![],
            signalled: vec![],
            connected: vec![],
            first_media: vec![],
            all_media: vec![],
            publisher_connected: vec![],
        };
        // What was sent is needed before what was received can be judged.
        peers.iter().for_each(|p| t.add_sent(p));
        for p in peers {
            t.socket_drops += u64::from(p.drops);
            if !matches!(p.role, Role::Publisher { .. }) {
                t.signalled.push(ms(p.signalled));
                t.connected.extend(p.connected.map(ms));
            }
            match &p.role {
                Role::Publisher { .. } => {}
                Role::Subscriber(s) => t.add_received(s, args),
                Role::Sink(s) => t.add_counted(s, p.t0_ns),
            }
        }
        t
    }

    fn add_sent(&mut self, p: &Peer) {
        let Role::Publisher { index, tracks } = &p.role else { return };
        for track in tracks {
            let kind = track.kind() as usize;
            self.sent[*index][kind] += track.sent_in_window;
            self.sent_bytes[kind] += track.bytes_in_window;
        }
        let (made, asked) = p.keyframes();
        self.keyframes = (self.keyframes.0 + made, self.keyframes.1 + asked);
        self.publisher_connected.extend(p.connected.map(ms));
    }

    fn add_counted(&mut self, s: &Sink, t0_ns: u64) {
        let counts = s.counts();
        self.received += counts.packets;
        self.received_bytes += counts.bytes;
        self.sink_expected += counts.expected;
        self.sink_received += counts.received;
        self.retransmitted += counts.rtx;
        self.refused += s.refused;
        self.per_subscriber.push(counts.packets as f64);
        let since = |ns: u64| round(ns.saturating_sub(t0_ns) as f64 / 1e6, 2);
        self.first_media.extend(s.first_media_ns.map(since));
        self.all_media.extend(s.all_media_ns.map(since));
    }

    fn add_received(&mut self, s: &SubState, args: &Args) {
        self.decrypting += 1;
        self.received += s.rx_in_window;
        self.received_bytes += s.rx_bytes_in_window;
        self.unstamped += s.alien;
        self.per_subscriber.push(s.rx_in_window as f64);
        for (sum, part) in self.delay.iter_mut().zip(&s.delay_us) {
            let _ = sum.add(part);
        }
        let _ = self.delay_app.add(&s.delay_app_us);
        self.max_gap_ms = self.max_gap_ms.max(s.max_gap_ms);
        self.first_media.extend(s.first_media.map(ms));
        self.all_media.extend(s.all_media.map(ms));
        let (audio, video) = args.kinds();
        if !s.expects_all(usize::from(audio) + usize::from(video)) {
            // Which of the publishers it gets is the server's choice.
            return;
        }
        for (slot, publisher) in s.publishers.iter().enumerate() {
            for kind in [Kind::Audio, Kind::Video].map(|k| k as usize) {
                let track = &s.tracks[slot * 2 + kind];
                let sent = self.sent[*publisher][kind];
                if sent > 0 {
                    self.track_loss.push(percent(sent.saturating_sub(track.unique_in_window), sent));
                }
                self.expected[kind] += sent;
                self.unique[kind] += track.unique_in_window;
                self.duplicates += track.dups;
                self.out_of_order += track.ooo;
            }
        }
    }

    /// Over the whole window, of each part of it, and of the best one.
    fn delay(&self) -> Value {
        let mut all = delay_histogram();
        self.delay.iter().for_each(|part| {
            let _ = all.add(part);
        });
        let p99 = |part: &Histogram<u32>| (!part.is_empty()).then(|| part.value_at_quantile(0.99));
        let parts: Vec<Option<u64>> = self.delay.iter().map(p99).collect();
        let mut value = hist(&all);
        value["p99_best_part"] = json!(parts.iter().flatten().min());
        value["p99_parts"] = json!(parts);
        value
    }

    fn lost(&self, kind: usize) -> u64 {
        self.expected[kind].saturating_sub(self.unique[kind])
    }

    /// What went in, per second and kind: what the floor has to do likewise.
    fn ingress(&self, window_s: f64) -> Value {
        let of = |kind: usize| {
            let packets: u64 = self.sent.iter().map(|s| s[kind]).sum();
            json!({"packets_per_s": round(packets as f64 / window_s, 1),
                "mean_payload_bytes": round(self.sent_bytes[kind] as f64 / packets.max(1) as f64, 0)})
        };
        json!({"audio": of(0), "video": of(1)})
    }
}

/// The object printed at the end.
pub fn report(run: &Run) -> Value {
    let Run { args, joins, tally, window_s, .. } = run;
    let (audio, video) = args.kinds();
    let window_s = *window_s;
    let sinks_lost = tally.sink_expected.saturating_sub(tally.sink_received);
    let lost = tally.lost(0) + tally.lost(1) + sinks_lost;
    let expected = tally.expected[0] + tally.expected[1] + tally.sink_expected;
    let mut out = json!({
        "label": args.label,
        "adapter": format!("{:?}", args.adapter).to_lowercase(),
        "rooms": args.room.len(), "profile": format!("{:?}", args.profile).to_lowercase(),
        "offer": format!("{:?}", args.offer).to_lowercase(),
        "decrypting": tally.decrypting, "gro": !args.no_gro,
        "publishers": args.publishers, "publishers_connected": joins.publishers_connected,
        "subscribers": args.subscribers, "subscriber_pcs": joins.subscriber_pcs,
        "subscriber_pcs_with_media": tally.first_media.len(), "subscriber_pcs_complete": tally.all_media.len(),
        "all_joined": joins.all_joined, "dead_peers": run.dead,
        "audio": audio, "video": video, "video_kbps": if video { args.video_kbps } else { 0 },
        "window_s": round(window_s, 3),
        "packets_ingress": tally.sent.iter().flatten().sum::<u64>(), "ingress": tally.ingress(window_s),
        "packets_forwarded": tally.received, "packets_retransmitted": tally.retransmitted,
        "packets_forwarded_per_s": round(tally.received as f64 / window_s, 1),
        "egress_mbit_s": round(tally.received_bytes as f64 * 8.0 / window_s / 1e6, 3),
        "packets_per_subscriber_pc": quantiles(tally.per_subscriber.clone()),
        "expected": expected, "lost": lost, "loss_pct": percent(lost, expected),
        "loss_pct_audio": percent(tally.lost(0), tally.expected[0]),
        "loss_pct_video": percent(tally.lost(1), tally.expected[1]),
        "loss_pct_per_track": quantiles(tally.track_loss.clone()),
        "out_of_order": tally.out_of_order, "duplicates": tally.duplicates, "unstamped": tally.unstamped,
        "rtcp_refused": tally.refused,
        "max_gap_ms": round(tally.max_gap_ms, 1),
        "delay_us": tally.delay(), "delay_app_us": hist(&tally.delay_app),
        "join_ms": {"signalled": quantiles(tally.signalled.clone()), "dtls_connected": quantiles(tally.connected.clone()),
            "first_media": quantiles(tally.first_media.clone()), "all_tracks": quantiles(tally.all_media.clone())},
        "join_concurrency": args.join_concurrency,
        "join_wall_s": round(joins.wall.as_secs_f64(), 3),
        "publisher_connected_ms": quantiles(tally.publisher_connected.clone()),
        "keyframes": tally.keyframes.0, "keyframe_requests": tally.keyframes.1,
        "errors": run.errors.len(), "first_error": run.errors.first(),
    });
    let (server, server_cpu) = server(run).unwrap_or((json!(null), 0.0));
    out["server"] = server;
    add_loader_and_noise(&mut out, run, server_cpu);
    out
}

/// The server's CPU and memory, and its CPU seconds.
fn server(run: &Run) -> Option<(Value, f64)> {
    let (a, b) = (run.before.server?, run.after.server?);
    let pids = &run.args.server_pid;
    let (user, sys) = (b.utime_s - a.utime_s, b.stime_s - a.stime_s);
    let us = |x: f64| round(x * 1e6 / run.tally.received.max(1) as f64, 2);
    let (idle, publishers) = (run.rss_idle.unwrap_or_default(), run.joins.rss_publishers.unwrap_or_default());
    let per =
        |x: u64, y: u64, n: usize| if n == 0 { 0.0 } else { round((x as f64 - y as f64) / n as f64, 1) };
    let value = json!({
        "pids": pids, "cpus_allowed": procstat::cpus_allowed(pids[0]),
        "cpu_s": round(user + sys, 3), "cpu_user_s": round(user, 3), "cpu_sys_s": round(sys, 3),
        "cpu_pct_of_core": round(100.0 * (user + sys) / run.window_s, 1),
        "cpu_us_per_forwarded_packet": us(user + sys),
        "cpu_user_us_per_forwarded_packet": us(user),
        "cpu_sys_us_per_forwarded_packet": us(sys),
        "rss_idle_kb": idle.rss_kb, "rss_after_publishers_kb": publishers.rss_kb, "rss_end_kb": b.rss_kb,
        "rss_per_publisher_kb": per(publishers.rss_kb, idle.rss_kb, run.joins.publishers_connected),
        "rss_per_subscriber_kb": per(b.rss_kb, publishers.rss_kb, run.args.subscribers * run.args.room.len()),
        "threads_idle": idle.threads, "threads_end": b.threads,
    });
    Some((value, user + sys))
}

fn add_loader_and_noise(out: &mut Value, run: &Run, server_cpu: f64) {
    let cpu = |c: &Clocks| c.loader.0 + c.loader.1;
    let loader = cpu(run.after) - cpu(run.before);
    let share = |cpu: f64| round(100.0 * cpu / run.window_s, 1);
    out["loader"] = json!({"cpu_s": round(loader, 3), "cpu_pct_of_core": share(loader),
        "cpu_us_per_packet": round(loader * 1e6 / run.tally.received.max(1) as f64, 2),
        "threads": run.args.threads, "socket_drops": run.tally.socket_drops});
    let other = run.after.machine.0 - run.before.machine.0 - server_cpu - loader;
    out["noise"] = json!({"other_cpu_s": round(other, 2), "other_cpu_pct_of_core": share(other),
        "steal_s": round(run.after.machine.1 - run.before.machine.1, 2)});
}
