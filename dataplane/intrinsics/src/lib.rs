//! What the dataplane needs and safe Rust can't say: prefetching, and memory that is wiped when it
//! is freed.
//!
//! The only `unsafe` of the dataplane outside the DPDK crates, so that a reader finds all of it
//! here. On an architecture without an instruction for it, nothing is done.

mod wipe;

use core::mem::size_of;
use core::ptr::from_ref;

pub use self::wipe::WipingAllocator;

/// Bytes of a cache line on the cores that we know: x86-64, and Arm's Cortex-A72 to Neoverse.
const LINE: usize = 64;

/// Asks for a value's cache lines, to be read and written soon. The value is not read: nothing
/// waits for it, and asking for several at once has them on their way together.
#[inline]
pub fn prefetch<T>(value: &T) {
    let start = from_ref(value).cast::<u8>();
    // From the beginning of its first line: a value that begins in the midst of one ends in one
    // more than its size says.
    let skipped = start.addr() % LINE;
    let start = start.wrapping_sub(skipped);
    for offset in (0..skipped + size_of::<T>()).step_by(LINE) {
        line(start.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn line(at: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint: whatever the address, it neither faults nor changes what is seen.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn line(at: *const u8) {
    // SAFETY: a hint: whatever the address, it neither faults nor changes what is seen.
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{at}]",
            at = in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const fn line(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn a_value_of_any_size_is_left_as_it_is() {
        let large: Vec<u64> = (0..1_000).collect();
        let array: [u64; 100] = core::array::from_fn(|at| large[at]);
        prefetch(&array);
        prefetch(&());
        prefetch(&7u8);
        assert_eq!(array[..], large[..100]);
    }
}
