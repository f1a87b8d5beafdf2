//! The system's randomness and clock, made to depend on a seed for one thread, so that a run replays exactly.
//!
//! The network, the media and the stories draw from generators of their own. Everything else that is random in a run comes
//! by `getrandom`: the order of hash maps, the ICE credentials and first numbers that the server draws, DTLS' timers. This
//! file answers that call with numbers from the seed on threads that asked for it, and passes it on to the kernel on all
//! others. str0m's own numbers come from `fastrand`, which takes a seed. Where a run begins on the clocks would decide how NTP
//! times are rounded, and by that when something is sent again: on those threads they stand still. What is left are the keys that the crypto library
//! draws from the processor: they change the bytes of a run, and neither its times nor its lengths
//! ([`crate::net`] counts handshakes as equally long).
#![expect(unsafe_code, reason = "the C functions by which programs ask for randomness and time are replaced")]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `act` on a thread of its own on which nothing is random but by `seed`. A panic goes on in the caller.
pub fn seeded<T: Send>(seed: u64, act: impl FnOnce() -> T + Send) -> T {
    // Made once in a process: not by whichever run is the first, with what is random in it.
    drop([false, true].map(crate::dtls::provider));
    let run = || {
        STATE.set(Some(seed));
        fastrand::seed(seed);
        act()
    };
    // A new thread, because generators and hash keys of a thread are drawn once, when first used.
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// The processor time of this thread since it began, on threads of [`seeded`], too.
pub fn thread_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    ask(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spent);
    let seconds = u64::try_from(spent.tv_sec).expect("it is not negative");
    Duration::new(seconds, u32::try_from(spent.tv_nsec).expect("less than a second"))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes the place of the C library's function of that name.
///
/// # Safety
/// As of the C function: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    // A thread at its end has no state any more.
    let Ok(Some(mut state)) = STATE.try_with(Cell::get) else {
        // SAFETY: passed on as it came.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(got).unwrap_or(-1);
    };
    for at in (0..length).step_by(8) {
        let bytes = next(&mut state).to_ne_bytes();
        let count = (length - at).min(8);
        // SAFETY: `at + count` is at most `length`, and the caller vouches for so many bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>().add(at), count) };
    }
    let _ = STATE.try_with(|s| s.set(Some(state)));
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// Where the clock of the day stands, in seconds since the Unix epoch.
const DAY_S: i64 = 1_700_000_000;
/// Where the monotonic clock stands: the whole second in which that was first asked for, so that other threads of the
/// process are after it; 0: not yet.
static MONOTONIC_S: AtomicI64 = AtomicI64::new(0);

fn ask(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the callers give a timespec that may be written.
    let got = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    c_int::try_from(got).unwrap_or(-1)
}

fn monotonic_s() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    ask(libc::CLOCK_MONOTONIC, &raw mut now);
    match MONOTONIC_S.compare_exchange(0, now.tv_sec, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => now.tv_sec,
        Err(before) => before,
    }
}

/// Takes the place of the C library's function of that name.
///
/// # Safety
/// As of the C function: `time` points to a timespec that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let Ok(Some(_)) = STATE.try_with(Cell::get) else { return ask(clock, time) };
    let tv_sec = if clock == libc::CLOCK_REALTIME { DAY_S } else { monotonic_s() };
    // SAFETY: the caller vouches for `time`.
    unsafe { time.write(libc::timespec { tv_sec, tv_nsec: 0 }) };
    0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Instant, SystemTime};

    use rand::Rng;

    use super::seeded;

    /// What is random on a thread in different ways.
    fn draw() -> (Vec<u32>, u64, u64) {
        let order = (0..100).collect::<HashSet<u32>>().into_iter().collect();
        (order, rand::rng().random(), fastrand::u64(..))
    }

    #[test]
    fn a_seed_fixes_what_is_random() {
        let [a, b] = [(); 2].map(|()| seeded(7, draw));
        assert_eq!(a, b);
        let other = seeded(8, draw);
        assert!(a.0 != other.0 && a.1 != other.1 && a.2 != other.2);
    }

    #[test]
    fn clocks_stand_still_on_that_thread_only() {
        let times = || (Instant::now(), SystemTime::now());
        assert_eq!(seeded(1, times), seeded(2, times));
        let begin = times();
        while times().0 == begin.0 {}
        assert!(begin.1 > seeded(1, times).1);
    }

    #[test]
    fn other_threads_keep_the_systems_randomness() {
        let [a, b] = [(); 2].map(|()| std::thread::spawn(draw).join().unwrap());
        assert!(a.0 != b.0 && a.1 != b.1);
    }

    #[test]
    #[should_panic(expected = "as it should")]
    fn a_panic_goes_on() {
        seeded(1, || panic!("as it should"));
    }
}
