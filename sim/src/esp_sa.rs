//! Keys as Wireshark takes them: lines of its ESP SA table, `esp_sa`.
//!
//! ```text
//! "IPv4","198.18.0.1","198.18.0.2","0x9c0e31f2","AES-GCM with 16 octet ICV [RFC4106]","0x…","NULL",""
//!  family   source       destination  SPI         encryption                           key|salt  authentication
//! ```
//!
//! Only the simulator writes such a file, and only of keys that its seed made.

use core::fmt::Write as _;
use std::net::IpAddr;

use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey, KeyError};

use crate::report::ExposedSa;

/// Wireshark's name for both sizes of AES; the key's length tells them apart.
const AES_GCM: &str = "AES-GCM with 16 octet ICV [RFC4106]";
/// Wireshark's name for ChaCha20, since its version 4.2.
const CHACHA20: &str = "ChaCha20 with Poly1305 [RFC7634]";
/// Lines of a key file that are read, at most.
pub const LINES_MAX: usize = 100_000;

const FIELDS: usize = 8;

/// The file's text.
#[must_use]
pub fn write(sas: &[ExposedSa]) -> String {
    let mut out = String::from("# ESP SAs for Wireshark's preferences folder. Simulated keys.\n");
    for sa in sas {
        let family = if sa.src.is_ipv4() { "IPv4" } else { "IPv6" };
        let mut key = String::new();
        for byte in &sa.keymat {
            let _ = write!(key, "{byte:02x}");
        }
        let (src, dst, spi) = (sa.src, sa.dst, sa.spi);
        let encryption = match sa.algorithm {
            Algorithm::Aes128Gcm16 | Algorithm::Aes256Gcm16 => AES_GCM,
            Algorithm::ChaCha20Poly1305 => CHACHA20,
        };
        let _ = writeln!(
            out,
            r#""{family}","{src}","{dst}","{spi:#010x}","{encryption}","0x{key}","NULL","""#
        );
    }
    out
}

/// An SA of a key file.
#[derive(Debug)]
pub struct KeyLine {
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Index.
    pub spi: Spi,
    /// The key.
    pub key: EspKey,
}

/// What is wrong with a line of a key file. Never carries the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyLineError {
    /// Not eight quoted fields.
    #[error("{got} quoted fields, {FIELDS} expected")]
    Fields {
        /// How many there are.
        got: usize,
    },
    /// A field that can't be read.
    #[error("{field} can't be read")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// Another algorithm.
    #[error("encryption `{got}` is neither `{AES_GCM}` nor `{CHACHA20}`")]
    Encryption {
        /// Its name.
        got: String,
    },
    /// A key length no algorithm has.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Too many lines.
    #[error("more than {LINES_MAX} lines")]
    TooMany,
}

/// Reads a key file; on an error also the number of its line, from 1.
///
/// # Errors
/// [`KeyLineError`].
pub fn read(text: &str) -> Result<Vec<KeyLine>, (usize, KeyLineError)> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if number > LINES_MAX {
            return Err((number, KeyLineError::TooMany));
        }
        if !line.trim().is_empty() && !line.starts_with('#') {
            keys.push(key_line(line).map_err(|error| (number, error))?);
        }
    }
    Ok(keys)
}

fn key_line(line: &str) -> Result<KeyLine, KeyLineError> {
    let inside = line
        .trim()
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'));
    let fields: Vec<_> = inside.unwrap_or_default().split("\",\"").collect();
    let &[_, src, dst, spi, encryption, key, _, _] = fields.as_slice() else {
        return Err(KeyLineError::Fields { got: fields.len() });
    };
    let wrong = |field| KeyLineError::Field { field };
    let ip = |text: &str, field| text.parse().map_err(|_| wrong(field));
    let hex = |text: &str| text.strip_prefix("0x").map(ToOwned::to_owned);
    let spi = hex(spi)
        .and_then(|it| u32::from_str_radix(&it, 16).ok())
        .ok_or(wrong("SPI"))?;
    let keymat = hex(key).and_then(|it| bytes_of(&it)).ok_or(wrong("key"))?;
    // A wrong length is told as that of the nearer algorithm.
    let longest = Algorithm::Aes128Gcm16.keymat_len();
    let algorithm = match encryption {
        AES_GCM if keymat.len() <= longest => Algorithm::Aes128Gcm16,
        AES_GCM => Algorithm::Aes256Gcm16,
        CHACHA20 => Algorithm::ChaCha20Poly1305,
        _ => {
            let got = encryption.to_owned();
            return Err(KeyLineError::Encryption { got });
        }
    };
    Ok(KeyLine {
        src: ip(src, "source address")?,
        dst: ip(dst, "destination address")?,
        spi: Spi(spi),
        key: EspKey::from_keymat(algorithm, &keymat)?,
    })
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    let pair = |at: usize| {
        hex.get(at..at + 2)
            .and_then(|it| u8::from_str_radix(it, 16).ok())
    };
    (0..hex.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sa(algorithm: Algorithm) -> ExposedSa {
        ExposedSa {
            src: "198.18.0.1".parse().unwrap(),
            dst: "198.18.0.2".parse().unwrap(),
            spi: 0x9abc,
            algorithm,
            keymat: (0u8..).take(algorithm.keymat_len()).collect(),
            esn: true,
        }
    }

    #[test]
    fn a_line_has_wiresharks_eight_fields() {
        let text = write(&[sa(Algorithm::Aes128Gcm16)]);
        let expected = concat!(
            r#""IPv4","198.18.0.1","198.18.0.2","0x00009abc","#,
            r#""AES-GCM with 16 octet ICV [RFC4106]","#,
            r#""0x000102030405060708090a0b0c0d0e0f10111213","NULL","""#
        );
        assert_eq!(text.lines().last(), Some(expected));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let sas = Algorithm::ALL.map(sa);
        let keys = read(&write(&sas)).unwrap();
        for (key, sa) in keys.iter().zip(&sas) {
            assert_eq!((key.src, key.dst, key.spi.0), (sa.src, sa.dst, sa.spi));
            assert_eq!(key.key.expose_keymat(), sa.keymat);
        }
        assert_eq!(keys.len(), Algorithm::ALL.len());
    }

    #[test]
    fn a_bad_line_is_named_and_its_key_is_not_shown() {
        let good = write(&[sa(Algorithm::Aes256Gcm16)]);
        let cases = [
            (good.replace(r#","""#, ""), "7 quoted fields"),
            (good.replace("[RFC4106]", ""), "encryption"),
            (good.replace("198.18.0.1", "198.18.0"), "source address"),
            (good.replace("0x00009abc", "9abc"), "SPI"),
            (good.replace("0x0001", "0x01"), "got 35"),
            (good.replace("0x0001", "0x0g01"), "key can't be read"),
            (good.replace("0x0001", "0x001"), "key can't be read"),
        ];
        for (text, expected) in cases {
            let (line, error) = read(&text).unwrap_err();
            assert_eq!(line, 2);
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("0405"), "{message}");
        }
    }
}
