//! Memory asked for before it is needed.
//!
//! What a shard does for a packet it does for hundreds of subscribers, and the state of the next one is in no near cache:
//! whoever serves one after another waits for some forty lines of each. So while one is served, the next ones' are asked for.
#![expect(unsafe_code, reason = "std has no stable and safe interface for prefetching")]

/// Bytes of a cache line of the processors that we run on; where they are longer, one is asked for twice.
const LINE: usize = 64;

/// Asks for all of a value. It changes nothing but the time at which what is read later is there.
pub(crate) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        line(start.wrapping_add(offset));
    }
    // Where it begins in the middle of a line, it ends in one more.
    line(start.wrapping_add(size_of::<T>().saturating_sub(1)));
}

/// Asks for the place behind the last one of several values, which is written next.
pub(crate) fn prefetch_behind<T>(last: &T) {
    place(std::ptr::from_ref(last).wrapping_add(1));
}

/// The same where there may be none yet.
pub(crate) fn prefetch_next<T>(values: &[T]) {
    place(values.as_ptr().wrapping_add(values.len()));
}

fn place<T>(at: *const T) {
    line(at.cast());
    line(at.wrapping_add(1).cast());
}

#[cfg(target_arch = "x86_64")]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint to the processor, which never faults and gives nothing to the program.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(target_arch = "aarch64")]
fn line(address: *const u8) {
    // SAFETY: a hint to the processor, which never faults and gives nothing to the program.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn line(_address: *const u8) {}
