//! AES-GCM by Intel's Multi-Buffer library (`libipsec-mb`), the one that DPDK's software crypto is
//! made of. `sluice-crypto` puts it behind its trait, with the feature `ipsec-mb`.
//!
//! On x86-64 only, where the library is installed; elsewhere [`Key::new`] has no key. A package of
//! its own because `sluice-crypto` has no `unsafe` and knows no DPDK.

use core::fmt;
use core::ptr::NonNull;

use self::shim::Expanded;

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;

/// As shim/ipsec_mb.h has them.
mod shim {
    /// Only behind pointers; all that is there of it.
    #[repr(C, align(64))]
    pub(crate) struct Expanded(pub(crate) [super::Line; super::LINES]);

    unsafe extern "C" {
        pub(crate) fn sluice_imb_is_wide() -> bool;
        pub(crate) fn sluice_imb_key_new(key: *const u8, len: usize) -> *mut Expanded;
        pub(crate) fn sluice_imb_key_free(key: *mut Expanded);
        pub(crate) fn sluice_imb_seal(
            key: *const Expanded,
            is_256: bool,
            iv: *const u8,
            aad: *const u8,
            aad_len: usize,
            data: *mut u8,
            len: usize,
            tag: *mut u8,
        );
        pub(crate) fn sluice_imb_open(
            key: *const Expanded,
            is_256: bool,
            iv: *const u8,
            aad: *const u8,
            aad_len: usize,
            data: *mut u8,
            len: usize,
            tag: *mut u8,
        );
    }
}

/// A key that the library has expanded. Wiped when it is dropped.
pub struct Key {
    expanded: NonNull<shim::Expanded>,
    is_256: bool,
    is_wide: bool,
}

/// A cache line of an expanded key: for who would have it in the cache beforehand, and not to be
/// read.
#[repr(C, align(64))]
pub struct Line([u8; 64]);

/// Of an expanded key.
const LINES: usize = 16;
/// Those that the library's AVX2 code reads: round keys and eight powers of the hash key.
const LINES_NARROW: usize = 6;
/// What its AVX-512 code reads: the lines of the round keys,
const LINES_OF_ROUNDS: usize = 4;
/// and as many powers of the hash key as a packet has blocks, at most these, the first one last.
const POWERS: usize = 48;
/// Where the powers end.
const POWERS_END: usize = 1008;

// SAFETY: after its making the key is only read, and the library's functions keep what they
// work on on the stack.
unsafe impl Send for Key {}

// SAFETY: as for `Send`.
unsafe impl Sync for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: made by `sluice_imb_key_new`, and freed once.
        unsafe { shim::sluice_imb_key_free(self.expanded.as_ptr()) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line(..)")
    }
}

impl Key {
    /// Expands a key of 16 or 32 bytes, AES-128's or AES-256's. `None` for another length, and
    /// where the library isn't there or knows nothing for this CPU.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        // SAFETY: so many bytes may be read, and are not kept.
        let expanded = unsafe { shim::sluice_imb_key_new(key.as_ptr(), key.len()) };
        NonNull::new(expanded).map(|expanded| Self {
            expanded,
            is_256: key.len() == 32,
            // SAFETY: it takes nothing, and any thread may ask.
            is_wide: unsafe { shim::sluice_imb_is_wide() },
        })
    }

    /// Whether it is the library's code for AVX-512 that works with it.
    #[inline]
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// What a packet of so many bytes needs of it.
    #[inline]
    pub fn lines(&self, len_bytes: usize) -> impl Iterator<Item = &Line> {
        // SAFETY: the key is alive as long as `self`, as long as `Expanded` (the shim asserts it) and
        // as aligned; nobody writes to it.
        let Expanded(lines) = unsafe { self.expanded.as_ref() };
        let (rounds, powers) = if self.is_wide {
            (..LINES_OF_ROUNDS, lines_of_powers(len_bytes))
        } else {
            (..LINES_NARROW, LINES)
        };
        let rounds = lines.get(rounds).unwrap_or_default();
        rounds.iter().chain(lines.get(powers..).unwrap_or_default())
    }

    /// Encrypts `data` in place and writes its tag. At most 2^36 - 32 bytes (NIST SP 800-38D section
    /// 5.2.1.1), which the caller sees to, as to the nonce's being new.
    #[inline]
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) {
        // SAFETY: the key is alive; nonce and tag have the lengths that the shim says, the
        // others are given with theirs; none of what is written overlaps what is read.
        unsafe {
            shim::sluice_imb_seal(
                self.expanded.as_ptr(),
                self.is_256,
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                data.as_mut_ptr(),
                data.len(),
                tag.as_mut_ptr(),
            );
        }
    }

    /// Decrypts `data` in place; the tag that it should have had. The caller compares it, in
    /// constant time, and erases `data` if it had another.
    #[inline]
    #[must_use]
    pub fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        // SAFETY: as in `seal`.
        unsafe {
            shim::sluice_imb_open(
                self.expanded.as_ptr(),
                self.is_256,
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                data.as_mut_ptr(),
                data.len(),
                tag.as_mut_ptr(),
            );
        }
        tag
    }
}

/// The first line of those with the powers that a packet needs: one a block of 16 bytes, beside what
/// is authenticated alone and the lengths.
const fn lines_of_powers(len_bytes: usize) -> usize {
    let blocks = len_bytes.div_ceil(16) + 2;
    let powers = if blocks < POWERS { blocks } else { POWERS };
    let first = (POWERS_END - 16 * powers) / size_of::<Line>();
    if first < LINES_OF_ROUNDS {
        LINES_OF_ROUNDS
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_needs_the_lines_of_as_many_powers_as_it_has_blocks() {
        // Two powers in bytes 976 to 1008; nine in 864 and on; all of them from 240 on.
        assert_eq!(lines_of_powers(0), 15);
        assert_eq!(lines_of_powers(16 * 7), 13);
        assert_eq!(lines_of_powers(16 * 45), 4);
        assert_eq!(lines_of_powers(9_000), 4);
        if let Some(key) = Key::new(&[0; 16]) {
            let count = |len| key.lines(len).count();
            // Two lines of powers behind four of round keys, or the first six.
            assert_eq!(count(64), 6);
            assert_eq!(count(1_500), if key.is_wide() { 16 } else { 6 });
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for len in (0..64).filter(|len| ![16, 32].contains(len)) {
            assert!(Key::new(&vec![0; len]).is_none(), "{len}");
        }
    }

    /// NIST SP 800-38D's test case 2 of AES-128 (McGrew and Viega, appendix B).
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_block_of_zeroes_is_sealed_as_the_standard_has_it_and_opens() {
        let key = Key::new(&[0; 16]).unwrap_or_else(|| unreachable!("the library is there"));
        let mut data = [0; 16];
        let mut tag = [0; TAG_LEN];
        key.seal(&[0; NONCE_LEN], &[], &mut data, &mut tag);
        let sealed: u128 = 0x0388_dace_60b6_a392_f328_c2b9_71b2_fe78;
        assert_eq!(data, sealed.to_be_bytes());
        assert_eq!(
            tag,
            0xab6e_47d4_2cec_13bd_f53a_67b2_1257_bddf_u128.to_be_bytes()
        );
        assert_eq!(key.open(&[0; NONCE_LEN], &[], &mut data), tag);
        assert_eq!(data, [0; 16]);
    }
}
