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
///
/// For a few lines: a core has no more than one or two dozen on their way to its nearest cache, and
/// what is asked for beyond is forgotten. See [`prefetch_many`].
#[inline]
pub fn prefetch<T>(value: &T) {
    each_line(value, hint::first_level);
}

/// As [`prefetch`], into the second-level cache, which waits for more lines at a time.
#[inline]
pub fn prefetch_many<T>(value: &T) {
    each_line(value, hint::second_level);
}

#[inline]
fn each_line<T>(value: &T, ask: impl Fn(*const u8)) {
    let start = from_ref(value).cast::<u8>();
    // From the beginning of its first line: a value that begins in the midst of one ends in one
    // more than its size says.
    let skipped = start.addr() % LINE;
    let start = start.wrapping_sub(skipped);
    for offset in (0..skipped + size_of::<T>()).step_by(LINE) {
        ask(start.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
mod hint {
    use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

    #[inline]
    pub(super) fn first_level(line: *const u8) {
        // SAFETY: a hint: whatever the address, it neither faults nor changes what is seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline]
    pub(super) fn second_level(line: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }
}

#[cfg(target_arch = "aarch64")]
mod hint {
    use core::arch::asm;

    #[inline]
    pub(super) fn first_level(line: *const u8) {
        // SAFETY: a hint: whatever the address, it neither faults nor changes what is seen.
        unsafe {
            asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
    }

    #[inline]
    pub(super) fn second_level(line: *const u8) {
        // SAFETY: as above.
        unsafe {
            asm!(
                "prfm pldl2keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod hint {
    pub(super) const fn first_level(_: *const u8) {}
    pub(super) const fn second_level(_: *const u8) {}
}

#[cfg(test)]
mod tests {
    use super::{prefetch, prefetch_many};

    #[test]
    fn a_value_of_any_size_is_left_as_it_is() {
        let large: Vec<u64> = (0..1_000).collect();
        let array: [u64; 100] = core::array::from_fn(|at| large[at]);
        prefetch(&array);
        prefetch(&());
        prefetch(&7u8);
        prefetch_many(&array);
        prefetch_many(&());
        assert_eq!(array[..], large[..100]);
    }
}
