//! Padding, pad length and next header: the encrypted end of an ESP packet.

use super::TRAILER_FIXED_LEN;

/// Bytes of padding after `inner_len` bytes.
///
//= RFC 4303 section 2.4
//# the Pad Length and Next Header fields must be right aligned within a 4-byte word
pub(super) const fn pad_len(inner_len: usize) -> usize {
    inner_len.wrapping_add(TRAILER_FIXED_LEN).wrapping_neg() & 3
}

/// Fills `tail`, which is padding, pad length and next header and nothing else.
///
//= RFC 4303 section 2.4
//# The first padding byte appended to the plaintext is numbered 1, with subsequent padding bytes
//# making up a monotonically increasing sequence: 1, 2, 3, ....
pub(super) fn write(tail: &mut [u8], next_header: u8) {
    // The four that there are after padding to 4 bytes, without a loop: it took as long as a
    // block of the cipher.
    match tail {
        [pad_len, last] => (*pad_len, *last) = (0, next_header),
        [a, pad_len, last] => (*a, *pad_len, *last) = (1, 1, next_header),
        [a, b, pad_len, last] => (*a, *b, *pad_len, *last) = (1, 2, 2, next_header),
        [a, b, c, pad_len, last] => (*a, *b, *c, *pad_len, *last) = (1, 2, 3, 3, next_header),
        [padding @ .., pad_len, last] => {
            let mut count = 0u8;
            for byte in padding {
                count = count.wrapping_add(1);
                *byte = count;
            }
            (*pad_len, *last) = (count, next_header);
        }
        _ => {}
    }
}

/// What the trailer at the end of a decrypted payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) inner_len: usize,
    pub(super) next_header: u8,
}

/// A pad length that does not fit, or padding that is not 1, 2, 3, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) pad_len: u8,
}

/// Reads the trailer off the end of `plain`.
///
/// Any padding a peer chose is accepted, up to 255 bytes and whatever alignment it gives, so
/// that its traffic-flow padding passes. What the padding holds is checked.
///
//= RFC 4303 section 2.4
//# When this padding scheme is employed, the receiver SHOULD inspect the Padding field.
pub(super) fn read(plain: &[u8]) -> Result<Trailer, Malformed> {
    let [rest @ .., pad_len, next_header] = plain else {
        return Err(Malformed { pad_len: 0 });
    };
    let malformed = Malformed { pad_len: *pad_len };
    let inner_len = rest
        .len()
        .checked_sub(usize::from(*pad_len))
        .ok_or(malformed)?;
    let (_, padding) = rest.split_at_checked(inner_len).ok_or(malformed)?;
    if !padding.iter().copied().eq(1..=*pad_len) {
        return Err(malformed);
    }
    Ok(Trailer {
        inner_len,
        next_header: *next_header,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_ends_the_trailer_on_a_four_byte_boundary() {
        for inner_len in 0..64 {
            let pad = pad_len(inner_len);
            assert!(pad < 4);
            assert_eq!((inner_len + pad + TRAILER_FIXED_LEN) % 4, 0);
        }
    }

    #[test]
    fn a_written_trailer_reads_back() {
        for inner_len in 0..64 {
            let mut plain = vec![0xee; inner_len + pad_len(inner_len) + TRAILER_FIXED_LEN];
            write(&mut plain[inner_len..], 41);
            assert_eq!(
                read(&plain),
                Ok(Trailer {
                    inner_len,
                    next_header: 41
                })
            );
        }
    }

    #[test]
    fn padding_counts_from_one() {
        let mut tail = [0xee; 5];
        write(&mut tail, 4);
        assert_eq!(tail, [1, 2, 3, 3, 4]);
    }

    #[test]
    fn the_longest_padding_is_read() {
        let mut plain: Vec<u8> = (1..=255).collect();
        plain.extend([255, 4]);
        assert_eq!(
            read(&plain),
            Ok(Trailer {
                inner_len: 0,
                next_header: 4
            })
        );
    }

    #[test]
    fn a_pad_length_past_the_start_is_malformed() {
        assert_eq!(read(&[1, 2, 3, 4]), Err(Malformed { pad_len: 3 }));
        assert_eq!(read(&[1, 4]), Err(Malformed { pad_len: 1 }));
        assert_eq!(read(&[4]), Err(Malformed { pad_len: 0 }));
    }

    #[test]
    fn padding_that_does_not_count_is_malformed() {
        assert_eq!(read(&[0, 0, 2, 4]), Err(Malformed { pad_len: 2 }));
        assert_eq!(read(&[1, 1, 2, 4]), Err(Malformed { pad_len: 2 }));
        assert_eq!(read(&[2, 1, 2, 4]), Err(Malformed { pad_len: 2 }));
    }
}
