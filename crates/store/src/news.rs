//! What has become durable, told to whoever wants to tell others. Telling never delays what is stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use tokio::sync::mpsc;

use crate::admin::Arn;
use crate::number::FragmentNumber;

/// Fragments that wait to be told: a second of as many streams as there may be, a fragment each, with some to spare. About 5 MB.
const MAX_WAITING: usize = 16_384;

/// A fragment that is durable and listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persisted {
    /// Its stream's name.
    pub stream: String,
    /// Its stream.
    pub arn: Arn,
    /// Whose contact it is; empty: nobody's.
    pub contact: String,
    /// Its number, which says its server time.
    pub number: FragmentNumber,
    /// When it begins by its producer's clock, in milliseconds since 1970.
    pub producer_ms: u64,
    /// How long it is.
    pub duration_ms: u32,
    /// Bytes of media.
    pub bytes: u64,
}

/// Where they come out. What is not taken in time is dropped, and counted by [`Stats::news_dropped`](crate::Stats::news_dropped).
#[derive(Debug)]
pub struct News(mpsc::Receiver<Persisted>);

impl News {
    /// The next one; `None` when the store is closed.
    pub async fn recv(&mut self) -> Option<Persisted> {
        self.0.recv().await
    }

    /// The next one, if it is there.
    pub fn try_recv(&mut self) -> Option<Persisted> {
        self.0.try_recv().ok()
    }
}

/// The other end.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    sender: OnceLock<mpsc::Sender<Persisted>>,
    /// What happened before anybody could have asked.
    early: Mutex<Vec<Persisted>>,
    dropped: AtomicU64,
}

impl Teller {
    /// Once only.
    pub(crate) fn news(&self) -> Option<News> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let early = std::mem::take(&mut *self.early());
        for persisted in early {
            sender.try_send(persisted).expect("no more were kept than fit");
        }
        self.sender.set(sender).ok().map(|()| News(receiver))
    }

    fn early(&self) -> MutexGuard<'_, Vec<Persisted>> {
        self.early.lock().expect("nothing panics while holding it")
    }

    /// For what is stored while the store opens: kept for who asks later.
    pub(crate) fn tell_early(&self, persisted: &dyn Fn() -> Persisted) {
        if self.sender.get().is_some() {
            return self.tell(persisted);
        }
        let mut early = self.early();
        if early.len() < MAX_WAITING {
            early.push(persisted());
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes the news only if somebody wants them.
    pub(crate) fn tell(&self, persisted: &dyn Fn() -> Persisted) {
        if let Some(sender) = self.sender.get()
            && sender.try_send(persisted()).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_who_does_not_read() {
        let (teller, number) = (Teller::default(), FragmentNumber::new(1, 2, 3));
        let one = || Persisted {
            stream: "s".into(),
            arn: "arn:aws:kinesisvideo:r:1:stream/s/1".parse().unwrap(),
            contact: String::new(),
            number,
            producer_ms: 1,
            duration_ms: 2,
            bytes: 3,
        };
        teller.tell(&|| unreachable!("nobody has asked for news"));
        teller.tell_early(&one);
        let mut news = teller.news().unwrap();
        assert!(teller.news().is_none(), "there is one reader");
        for _ in 1..MAX_WAITING + 5 {
            teller.tell(&one);
        }
        assert_eq!(teller.dropped(), 5);
        assert_eq!(news.recv().await, Some(one()));
    }
}
