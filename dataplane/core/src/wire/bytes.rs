//! Big-endian reads and writes that can't panic.

/// The `N` bytes at `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The 16-bit number at `at`, network order.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// The 32-bit number at `at`, network order.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Writes `value` at `at`; `None`, and no change, if it doesn't fit.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut::<N>()? = value;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_past_the_end_are_refused() {
        let mut bytes = [1, 2, 3, 4];
        assert_eq!(be16(&bytes, 2), Some(0x0304));
        assert_eq!(be16(&bytes, 3), None);
        assert_eq!(be32(&bytes, 0), Some(0x0102_0304));
        assert_eq!(be32(&bytes, usize::MAX), None);
        assert_eq!(put(&mut bytes, 3, [9, 9]), None);
        assert_eq!(put(&mut bytes, 2, [9, 9]), Some(()));
        assert_eq!(bytes, [1, 2, 9, 9]);
    }
}
