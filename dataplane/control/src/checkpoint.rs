//! The last acknowledged generation as bytes, for the next start.
//!
//! ```text
//!  0        8         16            48
//! +--------+---------+-------------+----------------------------------------+
//! | magic  | length  | SHA-256     | ProgramRequests, each behind its length |
//! |        | of body | of the body | (the snapshot as an agent would send it)|
//! +--------+---------+-------------+----------------------------------------+
//! ```
//! Lengths are big endian. The checksum finds accidents; who can write here is root on the
//! DPU and needs no forgery. No key is ever in it: the contract has no field for one.

use core::cmp::Ordering;

use prost::Message;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use sluice_offload_api::convert::to_requests;
use sluice_offload_api::limits::TRANSACTION_BYTES_MAX;
use sluice_offload_api::proto::ProgramRequest;
use sluice_offload_api::{Assembler, Limits, Refusal, State, Transaction};

const MAGIC: &[u8; 8] = b"SLUICEC1";
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

/// A state as it is kept.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    let mut body = Vec::new();
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

/// What was kept, as a snapshot that holds together.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Transaction, DecodeError> {
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
    if magic != MAGIC {
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
    let mut assembler = Assembler::new(Limits::MAX);
    let mut transaction = None;
    while !body.is_empty() {
        let message = ProgramRequest::decode_length_delimited(&mut body)?;
        transaction = assembler.on_message(message)?;
    }
    let transaction = transaction.ok_or(DecodeError::NoCommit)?;
    State::default().apply(&transaction)?;
    Ok(transaction)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]
mod tests {
    use super::*;
    use sluice_offload_api::testing::sample;

    #[test]
    fn cut_short_at_any_length_it_is_refused() {
        let bytes = encode(&sample());
        for len in 0..bytes.len() {
            let cut = decode(bytes.get(..len).unwrap());
            assert!(matches!(cut, Err(DecodeError::Short { .. })), "{len} bytes");
        }
        assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn one_changed_bit_anywhere_is_found() {
        let good = encode(&sample());
        for at in 0..good.len() {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() ^= 1 << (at % 8);
            assert!(decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn more_than_its_length_is_refused() {
        let mut bytes = encode(&sample());
        bytes.push(0);
        assert!(matches!(decode(&bytes), Err(DecodeError::Long { .. })));
    }
}
