//! sfuload: one process plays publishers and subscribers against a WebRTC SFU, and prints one JSON object of what arrived.
#![recursion_limit = "512"]
mod batches;
mod decrypting;
mod engine;
mod join;
mod keys;
mod media;
mod negotiation;
mod net;
mod procstat;
mod report;
mod rtcp;
mod run;
mod signalling;
mod sink;
mod srtcp;
mod worker;

use clap::{Parser, ValueEnum};
use std::net::Ipv4Addr;

/// How peers are signalled.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Adapter {
    Janus,
    WhipWhep,
}

/// When the packets of a frame are sent.
#[derive(Clone, Copy, ValueEnum, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Over 80 % of the frame interval, as browsers pace them.
    Spread,
    /// At once.
    Burst,
}

/// What subscribers offer.
#[derive(Clone, Copy, ValueEnum, Debug, PartialEq, Eq)]
pub enum Offer {
    /// One line for each track (WHEP).
    Lines,
    /// What the web client of Antiphon offers, posted to --join-url.
    Web,
}

/// The command line.
#[derive(Parser, Debug)]
#[command(version, about = "Load generator for WebRTC SFUs (str0m, RTP mode)")]
pub struct Args {
    /// Signalling adapter.
    #[arg(long, value_enum)]
    pub adapter: Adapter,
    /// Janus HTTP API base.
    #[arg(long, default_value = "http://127.0.0.1:8088/janus")]
    pub janus_url: String,
    /// JSON object merged into the VideoRoom "create" request,
    /// e.g. '{"transport_wide_cc_ext":false}'.
    #[arg(long, default_value = "{}")]
    pub janus_room_opts: String,
    /// WHIP URL template; knows {room} and {pub}.
    #[arg(long, default_value = "http://127.0.0.1:8080/whip/{room}/{pub}")]
    pub whip_url: String,
    /// WHEP URL template; knows {room}, {sub} and {pub}. With {pub}: one peer connection per
    /// (subscriber, publisher); without: one per subscriber.
    #[arg(long, default_value = "http://127.0.0.1:8080/whep/{room}/{pub}")]
    pub whep_url: String,
    /// URL template of the join with the web client's offer; knows {room}.
    #[arg(long, default_value = "http://127.0.0.1:8080/v1/rooms/{room}/participants")]
    pub join_url: String,
    /// What subscribers offer (whip-whep only).
    #[arg(long, value_enum, default_value_t = Offer::Lines)]
    pub offer: Offer,
    /// Bearer tokens for WHIP/WHEP: one for all rooms, or one for each (repeat or comma-separate).
    #[arg(long, value_delimiter = ',')]
    pub token: Vec<String>,
    /// WHEP: offer one video line more than there are publishers, for servers that keep the last one for a screen.
    #[arg(long)]
    pub screen_line: bool,
    /// Rooms (a number for Janus, which takes one); repeat or comma-separate.
    #[arg(long, value_delimiter = ',', default_value = "4242")]
    pub room: Vec<String>,
    /// Publishers of each room.
    #[arg(short = 'p', long, default_value_t = 1)]
    pub publishers: usize,
    /// Subscribers of each room; all get what all publishers of theirs send.
    #[arg(short = 's', long, default_value_t = 10)]
    pub subscribers: usize,
    /// Every so many subscribers decrypt what they get and read the stamps; the others count clear headers. 1: all decrypt.
    #[arg(long, default_value_t = 50)]
    pub decrypt_every: usize,
    /// Leave UDP receive offload off.
    #[arg(long)]
    pub no_gro: bool,
    /// Write what came, message by message, for the floor.
    #[arg(long)]
    pub batches: Option<std::path::PathBuf>,
    /// When the packets of a frame are sent.
    #[arg(long, value_enum, default_value_t = Profile::Spread)]
    pub profile: Profile,
    #[arg(long)]
    pub no_audio: bool,
    #[arg(long)]
    pub no_video: bool,
    /// Video bitrate in kbit/s.
    #[arg(long, default_value_t = 1200)]
    pub video_kbps: u64,
    #[arg(long, default_value_t = 30)]
    pub fps: u32,
    /// RTP payload bytes of a full video packet.
    #[arg(long, default_value_t = 1100)]
    pub video_packet: usize,
    /// Keyframe size as a multiple of the average frame.
    #[arg(long, default_value_t = 6.0)]
    pub key_factor: f64,
    /// Opus payload bytes (20 ms each).
    #[arg(long, default_value_t = 100)]
    pub audio_packet: usize,
    /// Measured seconds.
    #[arg(short = 'd', long, default_value_t = 15.0)]
    pub duration: f64,
    /// Seconds between "everybody joined" and the measurement.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// Give up waiting for joins after this many seconds.
    #[arg(long, default_value_t = 60.0)]
    pub join_timeout: f64,
    /// How many peers negotiate at once.
    #[arg(long, default_value_t = 2)]
    pub join_concurrency: usize,
    /// Pause between two joins of one signalling thread (ms).
    #[arg(long, default_value_t = 0)]
    pub join_interval_ms: u64,
    /// Engine threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Local address for media sockets.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: Ipv4Addr,
    /// Server process ids (repeat or comma-separate) whose CPU and RSS are read.
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Receive buffer per socket in bytes (needs CAP_NET_ADMIN above rmem_max).
    #[arg(long, default_value_t = 4 << 20)]
    pub rcvbuf: usize,
    /// Coalesce wakeups while measuring (µs, 0 = off). Delay figures use kernel timestamps.
    #[arg(long, default_value_t = 1000)]
    pub tick_us: u64,
    /// Free text copied into the output.
    #[arg(long, default_value = "")]
    pub label: String,
    /// Pretty-print the JSON.
    #[arg(long)]
    pub pretty: bool,
}

impl Args {
    /// Whether audio and video are sent.
    pub fn kinds(&self) -> (bool, bool) {
        (!self.no_audio, !self.no_video)
    }

    pub fn sockets(&self) -> net::SocketPlan {
        net::SocketPlan { ip: self.bind, rcvbuf: self.rcvbuf, gro: !self.no_gro }
    }

    pub fn all_publishers(&self) -> usize {
        self.publishers * self.room.len()
    }

    /// Tracks that a subscriber of `publishers` gets.
    pub fn tracks_of(&self, publishers: usize) -> usize {
        let (audio, video) = self.kinds();
        let (most_audio, most_video) = match self.offer {
            Offer::Lines => (publishers, publishers),
            Offer::Web => (negotiation::WEB_AUDIO_SLOTS, negotiation::WEB_VIDEO_SLOTS),
        };
        publishers.min(most_audio) * usize::from(audio) + publishers.min(most_video) * usize::from(video)
    }
}

fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    if let Err(e) = run::run(&Args::parse()) {
        eprintln!("sfuload: {e:#}");
        std::process::exit(1);
    }
}
