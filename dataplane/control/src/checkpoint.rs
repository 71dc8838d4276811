//! The last acknowledged generation as bytes, for the next start, and the addresses that nobody has
//! any more: who speaks to them goes on while a dataplane starts anew, and they are not the outside's.
//!
//! ```text
//!  0        8         16            48             52
//! +--------+---------+-------------+--------------+-----------+-----------------------------+
//! | magic  | length  | SHA-256     | length of    | addresses | ProgramRequests, each       |
//! |        | of body | of the body | what follows | (former)  | behind its length           |
//! +--------+---------+-------------+--------------+-----------+-----------------------------+
//! ```
//! The requests are the snapshot as an agent would send it. A checkpoint of before (`SLUICEC1`) has
//! them alone. Lengths are big endian. The checksum finds accidents; who can write here is root on the
//! DPU and needs no forgery. No key is ever in it: the contract has no field for one.

use core::cmp::Ordering;

use prost::Message;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use sluice_offload_api::convert::to_requests;
use sluice_offload_api::limits::TRANSACTION_BYTES_MAX;
use sluice_offload_api::proto::ProgramRequest;
use sluice_offload_api::{Assembler, Limits, Refusal, State, Transaction};

use crate::former::Former;

const MAGIC: &[u8; 8] = b"SLUICEC2";
/// Without addresses.
const MAGIC_BEFORE: &[u8; 8] = b"SLUICEC1";
const HEADER_LEN: usize = MAGIC.len() + 8 + SHA256_OUTPUT_LEN;
/// Length of a checkpoint, at most: the largest transaction, and a length before each message.
pub const BYTES_MAX: u64 = 2 * TRANSACTION_BYTES_MAX as u64;

/// Bytes that are no checkpoint. The dataplane stays closed until an agent programs it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It ends before its own length.
    #[error("cut short: {len} bytes of {expected}")]
    Short {
        /// Its length.
        len: usize,
        /// What its header says, or the header's own length.
        expected: u64,
    },
    /// Something follows its end.
    #[error("{len} bytes where its header says {expected}")]
    Long {
        /// Its length.
        len: usize,
        /// What its header says.
        expected: u64,
    },
    /// Not one of ours, or of another version.
    #[error("not a checkpoint of this version")]
    Magic,
    /// Not what was written.
    #[error("its checksum is wrong: the file was damaged")]
    Checksum,
    /// No addresses.
    #[error("its addresses of those that are gone don't decode")]
    Former,
    /// The inside doesn't decode.
    #[error("its messages don't decode: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The inside is no transaction.
    #[error("its messages end without a commit")]
    NoCommit,
    /// The contract refuses what is inside.
    #[error("it doesn't hold together: {0}")]
    Refused(#[from] Refusal),
}

/// What was kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    /// The generation, as a snapshot that holds together.
    pub transaction: Transaction,
    /// Addresses that nobody has any more: for [`Control::recall`](crate::Control::recall).
    pub former: Former,
}

/// A state as it is kept, and [`Control::former`](crate::Control::former).
#[must_use]
pub fn encode(state: &State, former: &Former) -> Vec<u8> {
    let former = former.encode();
    // Of a few thousand, at most.
    let length = u32::try_from(former.len()).unwrap_or_default();
    let mut body = length.to_be_bytes().to_vec();
    body.extend(former);
    for message in to_requests(state.to_snapshot()) {
        body.extend(message.encode_length_delimited_to_vec());
    }
    let mut out = Vec::with_capacity(HEADER_LEN + body.len());
    out.extend(MAGIC);
    out.extend((body.len() as u64).to_be_bytes());
    out.extend(digest(&SHA256, &body).as_ref());
    out.extend(body);
    out
}

/// What was kept.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Kept, DecodeError> {
    let len = bytes.len();
    let short = DecodeError::Short {
        len,
        expected: HEADER_LEN as u64,
    };
    let Some((header, mut body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(short);
    };
    let (magic, header) = header.split_at(MAGIC.len());
    let (length, checksum) = header.split_at(8);
    let has_former = magic == MAGIC;
    if !has_former && magic != MAGIC_BEFORE {
        return Err(DecodeError::Magic);
    }
    let length = length
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let expected = length.saturating_add(HEADER_LEN as u64);
    match (len as u64).cmp(&expected) {
        Ordering::Less => return Err(DecodeError::Short { len, expected }),
        Ordering::Greater => return Err(DecodeError::Long { len, expected }),
        Ordering::Equal => {}
    }
    if digest(&SHA256, body).as_ref() != checksum {
        return Err(DecodeError::Checksum);
    }
    let mut former = Former::default();
    if has_former {
        let (length, rest) = body.split_first_chunk().ok_or(DecodeError::Former)?;
        let length = u32::from_be_bytes(*length) as usize;
        let split = rest.split_at_checked(length).ok_or(DecodeError::Former)?;
        former = Former::decode(split.0).ok_or(DecodeError::Former)?;
        body = split.1;
    }
    let mut assembler = Assembler::new(Limits::MAX);
    let mut transaction = None;
    while !body.is_empty() {
        let message = ProgramRequest::decode_length_delimited(&mut body)?;
        transaction = assembler.on_message(message)?;
    }
    let transaction = transaction.ok_or(DecodeError::NoCommit)?;
    State::default().apply(&transaction)?;
    Ok(Kept {
        transaction,
        former,
    })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]
mod tests {
    use super::*;
    use sluice_offload_api::testing::sample;

    /// Of a pod of the sample that is gone.
    fn former() -> Former {
        let mut former = Former::default();
        former.note(&sample(), &State::default());
        assert!(former.iter().count() > 0);
        former
    }

    #[test]
    fn what_is_kept_comes_back() {
        let kept = decode(&encode(&sample(), &former())).unwrap();
        assert_eq!(kept.transaction, sample().to_snapshot());
        assert_eq!(kept.former, former());
    }

    #[test]
    fn one_of_before_has_the_generation_alone() {
        let mut bytes = encode(&sample(), &Former::default());
        let body = bytes.split_off(HEADER_LEN).split_off(4);
        bytes.clear();
        bytes.extend(MAGIC_BEFORE);
        bytes.extend((body.len() as u64).to_be_bytes());
        bytes.extend(digest(&SHA256, &body).as_ref());
        bytes.extend(body);
        let kept = decode(&bytes).unwrap();
        assert_eq!(kept.transaction, sample().to_snapshot());
        assert_eq!(kept.former, Former::default());
    }

    #[test]
    fn cut_short_at_any_length_it_is_refused() {
        let bytes = encode(&sample(), &former());
        for len in 0..bytes.len() {
            let cut = decode(bytes.get(..len).unwrap());
            assert!(matches!(cut, Err(DecodeError::Short { .. })), "{len} bytes");
        }
        assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn one_changed_bit_anywhere_is_found() {
        let good = encode(&sample(), &former());
        for at in 0..good.len() {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() ^= 1 << (at % 8);
            assert!(decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn more_than_its_length_is_refused() {
        let mut bytes = encode(&sample(), &former());
        bytes.push(0);
        assert!(matches!(decode(&bytes), Err(DecodeError::Long { .. })));
    }
}
