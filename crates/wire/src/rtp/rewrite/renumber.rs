//! One running number (sequence, picture, TL0PICIDX) of changing sources, made continuous.

/// What became of an incoming number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapped {
    /// Its outgoing number.
    To(u64),
    /// It was left out before.
    Dropped,
    /// Below the window, or below where the source began.
    TooOld,
}

/// Maps incoming to outgoing numbers. A gap stays a gap of the same size; a number left out closes.
///
/// `out(n) = n + shift + (numbers left out in (n, newest])`; the bitmap of `W * 64` numbers knows those.
#[derive(Debug, Clone)]
pub(super) struct Renumber<const W: usize> {
    /// Incoming number at which the source began.
    first: u64,
    /// Newest incoming number, sent or left out.
    newest: u64,
    /// Outgoing less incoming, at `newest`.
    shift: u64,
    /// Bit `i`: `newest - i` was left out.
    dropped: [u64; W],
    /// A bit of `dropped` is set.
    any_dropped: bool,
    /// Largest outgoing number that was given.
    last_sent: u64,
}

impl<const W: usize> Renumber<W> {
    /// Numbers remembered.
    pub(super) const WINDOW: i64 = 64 * W.cast_signed() as i64;

    /// The first outgoing number will be `start`.
    pub(super) fn new(start: u64) -> Self {
        let last_sent = start.wrapping_sub(1);
        Self {
            first: 0,
            newest: u64::MAX,
            shift: last_sent.wrapping_add(1),
            dropped: [0; W],
            any_dropped: false,
            last_sent,
        }
    }

    /// A source begins at `first`: it gets the number after the last one sent, leaving `gap` numbers out.
    pub(super) fn restart(&mut self, first: u64, gap: u64) {
        self.first = first;
        self.newest = first.wrapping_sub(1);
        self.shift = self.last_sent.wrapping_add(gap).wrapping_sub(self.newest);
        self.dropped = [0; W];
        self.any_dropped = false;
    }

    /// The next outgoing number is never given. Takes effect with the next [`Self::restart`].
    pub(super) fn skip(&mut self) {
        self.last_sent = self.last_sent.wrapping_add(1);
    }

    /// How far `number` is ahead of the newest.
    pub(super) fn ahead(&self, number: u64) -> i64 {
        number.wrapping_sub(self.newest).cast_signed()
    }

    /// `number` lies before the source's first.
    pub(super) fn before_start(&self, number: u64) -> bool {
        number.wrapping_sub(self.first).cast_signed() < 0
    }

    /// Largest outgoing number given so far.
    pub(super) fn last_sent(&self) -> u64 {
        self.last_sent
    }

    /// The number nearest to the newest one whose low `bits` are `value`.
    pub(super) fn extend(&self, value: u64, bits: u32) -> u64 {
        let unused = 64 - bits;
        let distance = (value.wrapping_sub(self.newest) << unused).cast_signed() >> unused;
        self.newest.wrapping_add_signed(distance)
    }

    /// The outgoing number of `number`, which is then taken as sent.
    pub(super) fn map(&mut self, number: u64) -> Mapped {
        let ahead = self.ahead(number);
        if ahead > 0 {
            self.advance(ahead.cast_unsigned());
        }
        let mapped = self.look_up(number);
        if let Mapped::To(out) = mapped
            && out.wrapping_sub(self.last_sent).cast_signed() > 0
        {
            self.last_sent = out;
        }
        mapped
    }

    /// Leaves `number` out. If newer ones were sent its outgoing number stays open, and is returned.
    pub(super) fn drop(&mut self, number: u64) -> Option<u64> {
        let ahead = self.ahead(number);
        if ahead > 0 {
            self.advance(ahead.cast_unsigned());
        }
        let Mapped::To(out) = self.look_up(number) else { return None };
        if out.wrapping_sub(self.last_sent).cast_signed() <= 0 {
            return Some(out);
        }
        let behind = usize::try_from(self.newest.wrapping_sub(number)).ok()?;
        if let Some(word) = self.dropped.get_mut(behind / 64) {
            *word |= 1 << (behind % 64);
            self.any_dropped = true;
            self.shift = self.shift.wrapping_sub(1);
        }
        None
    }

    /// The outgoing number of `number`, which is not newer than the newest.
    fn look_up(&self, number: u64) -> Mapped {
        if self.ahead(number) <= -Self::WINDOW || self.before_start(number) {
            return Mapped::TooOld;
        }
        let Ok(behind) = usize::try_from(self.newest.wrapping_sub(number)) else {
            return Mapped::TooOld;
        };
        if !self.any_dropped {
            return Mapped::To(number.wrapping_add(self.shift));
        }
        if self.is_dropped(behind) {
            return Mapped::Dropped;
        }
        Mapped::To(number.wrapping_add(self.shift).wrapping_add(self.dropped_after(behind)))
    }

    /// Moves the window so that its newest number is `by` further.
    fn advance(&mut self, by: u64) {
        self.newest = self.newest.wrapping_add(by);
        // Nearly always nothing was left out: there is nothing to move, nor to look at.
        if !self.any_dropped {
            return;
        }
        let words = usize::try_from(by / 64).unwrap_or(usize::MAX);
        let bits = by % 64;
        for i in (0..W).rev() {
            let low = i.checked_sub(words).and_then(|j| self.dropped.get(j)).copied().unwrap_or(0);
            let carry = i
                .checked_sub(words)
                .and_then(|j| j.checked_sub(1))
                .and_then(|j| self.dropped.get(j))
                .copied();
            let carried = if bits == 0 { 0 } else { carry.unwrap_or(0) >> (64 - bits) };
            if let Some(word) = self.dropped.get_mut(i) {
                *word = low << bits | carried;
            }
        }
        self.any_dropped = self.dropped.iter().any(|word| *word != 0);
    }

    fn is_dropped(&self, behind: usize) -> bool {
        self.dropped.get(behind / 64).is_some_and(|word| word >> (behind % 64) & 1 == 1)
    }

    /// How many numbers newer than `newest - behind` were left out.
    fn dropped_after(&self, behind: usize) -> u64 {
        let whole = self.dropped.iter().take(behind / 64).map(|w| u64::from(w.count_ones())).sum::<u64>();
        let part = self.dropped.get(behind / 64).copied().unwrap_or(0) & ((1u64 << (behind % 64)) - 1);
        whole + u64::from(part.count_ones())
    }
}
