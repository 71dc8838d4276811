//! The last acknowledged generation, kept on disk for the next start.
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

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use sluice_host_agent::text::read_at_most;
use sluice_offload_api::convert::to_requests;
use sluice_offload_api::limits::TRANSACTION_BYTES_MAX;
use sluice_offload_api::proto::ProgramRequest;
use sluice_offload_api::{Assembler, Limits, Refusal, State, Transaction};

const MAGIC: &[u8; 8] = b"SLUICEC1";
const HEADER_LEN: usize = MAGIC.len() + 8 + SHA256_OUTPUT_LEN;
/// Length of a checkpoint, at most: the largest transaction, and a length before each message.
const FILE_BYTES_MAX: u64 = 2 * TRANSACTION_BYTES_MAX as u64;

/// A checkpoint can't be used. The dataplane stays closed until an agent programs it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("can't read it: {0}")]
    Read(#[from] io::Error),
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

/// The file of a dataplane.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// The one at a path.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was acknowledged last, as a snapshot that holds together; `None` if there is no
    /// file.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self) -> Result<Option<Transaction>, LoadError> {
        match read_at_most(&self.path, FILE_BYTES_MAX) {
            Ok(bytes) => decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a state so that a crash at any moment leaves this one or the one before. It is
    /// on the disk when this returns.
    ///
    /// # Errors
    /// Those of the file system; the one before stays then.
    pub fn store(&self, state: &State) -> io::Result<()> {
        let bytes = encode(state);
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        // The rename itself is durable only when its folder is.
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn encode(state: &State) -> Vec<u8> {
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

fn decode(bytes: &[u8]) -> Result<Transaction, LoadError> {
    let len = bytes.len();
    let short = LoadError::Short {
        len,
        expected: HEADER_LEN as u64,
    };
    let Some((header, mut body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(short);
    };
    let (magic, header) = header.split_at(MAGIC.len());
    let (length, checksum) = header.split_at(8);
    if magic != MAGIC {
        return Err(LoadError::Magic);
    }
    let length = length
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let expected = length.saturating_add(HEADER_LEN as u64);
    match (len as u64).cmp(&expected) {
        core::cmp::Ordering::Less => return Err(LoadError::Short { len, expected }),
        core::cmp::Ordering::Greater => return Err(LoadError::Long { len, expected }),
        core::cmp::Ordering::Equal => {}
    }
    if digest(&SHA256, body).as_ref() != checksum {
        return Err(LoadError::Checksum);
    }
    let mut assembler = Assembler::new(Limits::MAX);
    let mut transaction = None;
    while !body.is_empty() {
        let message = ProgramRequest::decode_length_delimited(&mut body)?;
        transaction = assembler.on_message(message)?;
    }
    let transaction = transaction.ok_or(LoadError::NoCommit)?;
    State::default().apply(&transaction)?;
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_offload_api::testing::sample;

    #[test]
    fn what_is_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("last"));
        assert_eq!(checkpoint.load().unwrap(), None);
        checkpoint.store(&sample()).unwrap();
        let loaded = checkpoint.load().unwrap().unwrap();
        assert_eq!(State::default().apply(&loaded).unwrap(), sample());
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing else is left behind");
    }

    #[test]
    fn cut_short_at_any_length_it_is_refused() {
        let bytes = encode(&sample());
        for len in 0..bytes.len() {
            let cut = decode(bytes.get(..len).unwrap());
            assert!(matches!(cut, Err(LoadError::Short { .. })), "{len} bytes");
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
        assert!(matches!(decode(&bytes), Err(LoadError::Long { .. })));
    }

    #[test]
    fn a_write_cut_short_by_a_crash_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("last"));
        checkpoint.store(&sample()).unwrap();
        fs::write(folder.path().join("last.new"), b"SLUICEC1 half").unwrap();
        assert!(checkpoint.load().unwrap().is_some());
        let mut next = sample();
        next.generation.0 += 1;
        checkpoint.store(&next).unwrap();
        assert_eq!(
            checkpoint.load().unwrap().unwrap().generation,
            next.generation
        );
    }
}
