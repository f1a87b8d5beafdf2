//! The way into a queue of frames. What does not fit costs its track frames up to the next key frame, and nobody else anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The end at which frames come in.
#[derive(Debug)]
pub(crate) struct Gate {
    bytes: Arc<AtomicUsize>,
    most: usize,
    /// A frame was lost that later ones may need.
    broken: bool,
}

/// The end at which they go out.
#[derive(Debug, Clone)]
pub(crate) struct Exit(Arc<AtomicUsize>);

impl Gate {
    /// For a queue of so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: Arc::default(), most, broken: false }
    }

    /// For who takes frames out.
    pub(crate) fn exit(&self) -> Exit {
        Exit(self.bytes.clone())
    }

    /// Lets a frame in that `send` can take, if it fits and can be decoded. `false`: it is lost.
    pub(crate) fn pass(&mut self, bytes: usize, key: bool, send: impl FnOnce() -> bool) -> bool {
        let fits = self.bytes.load(Ordering::Relaxed) + bytes <= self.most;
        if fits && (key || !self.broken) {
            // Before it is taken: who takes it takes it off again.
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.broken = !send();
            if self.broken {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        } else {
            self.broken = true;
        }
        !self.broken
    }
}

impl Exit {
    /// A frame of so many bytes has gone out.
    pub(crate) fn took(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_loss_the_next_key_frame_is_the_first_to_pass() {
        let mut gate = Gate::new(100);
        assert!(gate.pass(60, false, || true));
        assert!(!gate.pass(60, true, || true), "it does not fit");
        assert!(!gate.pass(1, false, || true), "it may need the one that was lost");
        assert!(!gate.pass(1, true, || false), "the queue is full");
        assert!(gate.pass(1, true, || true) && gate.pass(1, false, || true));
        gate.exit().took(62);
        assert!(gate.pass(100, false, || true));
    }
}
