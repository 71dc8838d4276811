//! A file with the key material of one SA in hex.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sluice_crypto::key::{Algorithm, EspKey, KeyError};
use sluice_host_agent::text::read_at_most;
use zeroize::Zeroizing;

/// Length of a key file in bytes, at most.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// Why a key file can't be used. Never carries a byte of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error("can't read the key file: {0}")]
    Read(#[from] std::io::Error),
    /// Others may read it.
    #[error("the key file has mode {mode:04o}; others may read it: chmod 0600")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
    /// Not hex.
    #[error("the key file must have hex digits and nothing else, two for each byte")]
    NotHex,
    /// A wrong length.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Refuses a file that its group or others may use.
pub(crate) fn check_mode(path: &Path) -> Result<(), KeyFileError> {
    let mode = std::fs::metadata(path)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { mode });
    }
    Ok(())
}

pub(super) fn read(path: &Path, algorithm: Algorithm) -> Result<EspKey, KeyFileError> {
    check_mode(path)?;
    let text = Zeroizing::new(read_at_most(path, KEY_FILE_BYTES_MAX)?);
    let keymat = decode(text.trim_ascii())?;
    Ok(EspKey::from_keymat(algorithm, &keymat)?)
}

/// Bytes of hex digits, upper case or lower.
pub(crate) fn decode(hex: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    // The whole room at once: a vector that grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(hex.len() / 2));
    for pair in hex.chunks(2) {
        match pair {
            &[high, low] => {
                let byte = digit(high).zip(digit(low)).ok_or(KeyFileError::NotHex)?;
                out.push(byte.0 << 4 | byte.1);
            }
            _ => return Err(KeyFileError::NotHex),
        }
    }
    Ok(out)
}
