//! AES-GCM by Intel's Multi-Buffer library (`libipsec-mb`), the one that DPDK's software crypto is
//! made of. `sluice-crypto` puts it behind its trait, with the feature `ipsec-mb`.
//!
//! On x86-64 only, where the library is installed; elsewhere [`Key::new`] has no key. A package of
//! its own because `sluice-crypto` has no `unsafe` and knows no DPDK.

use core::fmt;
use core::ptr::NonNull;

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;

/// As shim/ipsec_mb.h has them.
mod shim {
    /// Only behind pointers; so many of its bytes are there, and more.
    #[repr(C, align(64))]
    pub(crate) struct Expanded([u8; 384]);

    unsafe extern "C" {
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
}

/// The part of an expanded key that short packets need, as the library's AVX2 code lays it out: for
/// who would have it in the cache beforehand, and not to be read.
#[repr(transparent)]
pub struct Hot(shim::Expanded);

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

impl fmt::Debug for Hot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hot(..)")
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
        })
    }

    /// What short packets need of it.
    #[inline]
    #[must_use]
    pub const fn hot(&self) -> &Hot {
        // SAFETY: the key is alive as long as `self`, at least as long as `Hot` (the shim
        // asserts it), as aligned, and `Hot` is transparent; nobody writes to it.
        unsafe { self.expanded.cast::<Hot>().as_ref() }
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

#[cfg(test)]
mod tests {
    use super::*;

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
