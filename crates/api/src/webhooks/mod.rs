//! Webhooks: what happened is posted to the operator's own receivers, signed after the [Standard Webhooks] specification.
//!
//! ```text
//! store: fragments ──> ranges ─┐            ┌─> queue ─> posts (target 0)
//! record: start, stop ─────────┴─ [follow] ─┼─> queue ─> posts (target 1)
//! ```
//!
//! Each target has a task, a queue and a back-off of its own: one that is dead, slow or hostile loses its own events, counted, and
//! disturbs nobody. URLs come from the operator's configuration only, never over the API: that is all there is against requests
//! forged to inner addresses (SSRF), besides redirects that are not followed. `docs/reference/webhooks.md` is for receivers.
//!
//! [Standard Webhooks]: https://www.standardwebhooks.com

mod event;
mod post;
mod queue;
mod ranges;
mod sign;
#[cfg(test)]
mod tests;
mod url;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_kvs::News;
use antiphon_record::{Events, Happened};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

pub use event::Kind;
pub use sign::{Secret, SecretError};
pub use url::{Url, UrlError};

use event::Event;
use post::Post;
use queue::{Next, Queue};
use ranges::{Range, Ranges};

/// Targets at most: each event is kept once for each of them.
pub const MAX_TARGETS: usize = 16;

/// Settings. Defaults are here and nowhere else.
#[derive(Clone)]
pub struct Config {
    /// Who is told.
    pub targets: Vec<Target>,
    /// Stored fragments of a stream are told together, this long after the first of them at the latest.
    pub interval: Duration,
    /// An event that no attempt has delivered after this long is dropped.
    pub give_up: Duration,
    /// How long one attempt may take, from the connection to the end of the answer. Standard Webhooks asks for 15 to 30 s.
    pub timeout: Duration,
    /// Whom `https://` targets are believed to be; without it there are none.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            interval: Duration::from_secs(10),
            give_up: Duration::from_secs(3_600),
            timeout: Duration::from_secs(15),
            tls: None,
        }
    }
}

/// A receiver.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub url: Url,
    /// Each signs, so that a new one can be brought in before the old one goes.
    pub secrets: Vec<Secret>,
    /// What it is told.
    pub events: Vec<Kind>,
}

/// Counts of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that wait, or are under way.
    pub queued: u64,
    /// Events it has taken.
    pub delivered: u64,
    /// Attempts that failed; the event was kept.
    pub failed: u64,
    /// Events dropped because too many waited.
    pub dropped_full: u64,
    /// Events dropped because nothing had delivered them in time.
    pub dropped_late: u64,
    /// Events dropped because the target has said that it is gone (410).
    pub dropped_gone: u64,
}

/// The running senders. Cloning it is a reference count. Needs a tokio runtime with time.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    lines: Vec<Arc<Line>>,
    interval: Duration,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What leads to one target.
struct Line {
    number: usize,
    target: Target,
    post: Post,
    queue: Mutex<Queue>,
    wake: Notify,
    /// Nothing more comes.
    last: AtomicBool,
}

impl Line {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Webhooks {
    /// Starts a sender for each target.
    pub fn start(config: &Config) -> Self {
        let line = |(number, target): (usize, &Target)| {
            let post = Post::new(target.url.clone(), config.tls.clone(), config.timeout);
            let queue = Mutex::new(Queue::new(config.give_up));
            let (target, wake, last) = (target.clone(), Notify::new(), AtomicBool::new(false));
            Arc::new(Line { number, target, post, queue, wake, last })
        };
        let lines: Vec<_> = config.targets.iter().enumerate().map(line).collect();
        let tasks = lines.iter().map(|line| tokio::spawn(deliver(line.clone()))).collect();
        let (interval, stop) = (config.interval, watch::Sender::new(false));
        Self(Arc::new(Inner { lines, interval, stop, tasks: Mutex::new(tasks) }))
    }

    /// Tells what comes out of these, until [`Webhooks::stop`].
    pub fn follow(&self, fragments: News, contacts: Events) {
        let follow = follow(self.clone(), fragments, contacts, self.0.stop.subscribe());
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(0, tokio::spawn(follow));
    }

    /// Tells what is known by now, and waits until all is delivered, or `deadline`. What is left then is lost.
    pub async fn stop(&self, deadline: Duration) {
        self.0.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = async {
            let (lines, followers) = (self.0.lines.len(), tasks.len());
            for (i, task) in tasks.into_iter().enumerate() {
                if i + lines == followers {
                    // Who told them has ended.
                    self.last();
                }
                let _ = task.await;
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
            let lost: u64 = self.counts().iter().map(|c| c.queued).sum();
            tracing::warn!(events = lost, "webhooks were not delivered before the end");
        }
    }

    fn last(&self) {
        for line in &self.0.lines {
            line.last.store(true, Ordering::Relaxed);
            line.wake.notify_one();
        }
    }

    /// Counts of each target, in the order of the configuration.
    pub fn counts(&self) -> Vec<Counts> {
        self.0.lines.iter().map(|line| line.queue().counts()).collect()
    }

    /// Queues an event for each target that wants its kind.
    fn send(&self, event: &Event) {
        let body = event.body();
        for line in self.0.lines.iter().filter(|line| line.target.events.contains(&event.kind)) {
            line.queue().push(event.id.clone(), body.clone(), Instant::now());
            line.wake.notify_one();
        }
    }

    fn persisted(&self, range: &Range) {
        self.send(&Event::new(Kind::StreamPersisted, now_ms(), range.to_json()));
    }

    fn happened(&self, happened: &Happened) {
        self.send(&event::of_contact(happened, now_ms()));
    }
}

/// Fragments become ranges, starts and stops events.
async fn follow(hooks: Webhooks, mut fragments: News, mut contacts: Events, mut stop: watch::Receiver<bool>) {
    let mut ranges = Ranges::new(hooks.0.interval);
    loop {
        let due = ranges.deadline();
        let happened = tokio::select! {
            biased;
            happened = contacts.recv() => happened,
            Some(persisted) = fragments.recv() => {
                ranges.push(persisted, Instant::now()).iter().for_each(|range| hooks.persisted(range));
                continue;
            }
            () = at(due) => {
                while let Some(range) = ranges.due(Instant::now()) {
                    hooks.persisted(&range);
                }
                continue;
            }
            () = stopped(&mut stop) => None,
        };
        // What was stored before it is told before it.
        while let Some(persisted) = fragments.try_recv() {
            ranges.push(persisted, Instant::now()).iter().for_each(|range| hooks.persisted(range));
        }
        let Some(happened) = happened else { break };
        if let Some(range) = ranges.take(happened.history().stream.arn.as_str()) {
            hooks.persisted(&range);
        }
        hooks.happened(&happened);
    }
    while let Some(happened) = contacts.try_recv() {
        if let Some(range) = ranges.take(happened.history().stream.arn.as_str()) {
            hooks.persisted(&range);
        }
        hooks.happened(&happened);
    }
    while let Some(range) = ranges.take_any() {
        hooks.persisted(&range);
    }
}

/// Delivers what one target is to be told.
async fn deliver(line: Arc<Line>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let mut until = None;
        loop {
            // Not held over what follows.
            let next = line.queue().next(Instant::now());
            match next {
                Next::Send(delivery) => {
                    let line = line.clone();
                    under_way.push(async move {
                        let signed = sign::headers(
                            &line.target.secrets,
                            &delivery.id,
                            now_ms() / 1_000,
                            &delivery.body,
                        );
                        let outcome = line.post.send(&signed, delivery.body.clone()).await;
                        (delivery, outcome)
                    });
                }
                Next::At(at) => break until = Some(at),
                Next::Nothing => break,
            }
        }
        if line.last.load(Ordering::Relaxed) && line.queue().counts().queued == 0 {
            return;
        }
        tokio::select! {
            Some((delivery, outcome)) = under_way.next() => {
                let was_gone = line.queue().gone();
                if let post::Outcome::Failed { why, .. } | post::Outcome::Refused { why } = &outcome {
                    let (target, attempt) = (line.number, delivery.attempts);
                    tracing::debug!(target, attempt, why, "a webhook was not taken");
                }
                line.queue().done(delivery, &outcome, Instant::now());
                if line.queue().gone() && !was_gone {
                    tracing::warn!(target = line.number, "a webhook's target is gone (410): it is told nothing until the next start");
                }
            }
            () = line.wake.notified() => {}
            () = at(until) => {}
        }
    }
}

/// Until then; for ever without it.
async fn at(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
