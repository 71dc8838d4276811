//! Keys for Wireshark, in laboratories only: lines of its ESP SA table, `esp_sa`.
//!
//! Off unless the configuration names a file (`node_channel.lab_key_file`), and then said
//! aloud at start. Every sending SA is a line; the other node writes those of its own.

use core::fmt::Write as _;
use core::net::IpAddr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use sluice_crypto::key::Algorithm;
use sluice_dataplane_control::SaConfig;
use zeroize::Zeroizing;

/// The file can't be made.
#[derive(Debug, thiserror::Error)]
#[error("can't make the laboratory's key file {}: {error}", path.display())]
pub struct LabKeysError {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// A key file that is open.
#[derive(Debug)]
pub struct LabKeys(File);

impl LabKeys {
    /// Opens the file, for this user only; its own lines of an earlier run stay. A file
    /// that others may read, or that is no file, gets no key.
    ///
    /// # Errors
    /// [`LabKeysError`].
    pub fn open(path: &Path) -> Result<Self, LabKeysError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        let file = file.and_then(private).map_err(|error| LabKeysError {
            path: path.to_owned(),
            error,
        })?;
        tracing::warn!(
            "LABORATORY: every ESP key is written to {}; never do this with real traffic",
            path.display()
        );
        Ok(Self(file))
    }

    /// Writes an SA down. A fault is told and has no other effect.
    pub fn write(&mut self, (src, dst): (IpAddr, IpAddr), sa: &SaConfig) {
        let line = line(src, dst, sa);
        if let Err(error) = self.0.write_all(line.as_bytes()) {
            tracing::error!(%error, "the laboratory's key file lacks an SA");
        }
    }
}

fn private(file: File) -> io::Result<File> {
    let found = file.metadata()?;
    if found.is_file() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(file);
    }
    let why = "it is there and not a file of this user alone (mode 0600): remove it";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Wireshark's eight fields: family, source, destination, SPI, encryption, key and salt,
/// authentication and its key. The key's length tells AES-128 from AES-256. ChaCha20 is known to
/// Wireshark since 4.2.
fn line(src: IpAddr, dst: IpAddr, sa: &SaConfig) -> Zeroizing<String> {
    let family = if src.is_ipv4() { "IPv4" } else { "IPv6" };
    let keymat = sa.key.expose_keymat();
    let encryption = match sa.key.algorithm() {
        Algorithm::Aes128Gcm16 | Algorithm::Aes256Gcm16 => "AES-GCM with 16 octet ICV [RFC4106]",
        Algorithm::ChaCha20Poly1305 => "ChaCha20 with Poly1305 [RFC7634]",
    };
    // Grown once, so that no copy of the key stays behind.
    let mut out = Zeroizing::new(String::with_capacity(256 + 2 * keymat.len()));
    let _ = write!(
        out,
        r#""{family}","{src}","{dst}","{:#010x}","{encryption}","0x"#,
        sa.spi.0
    );
    for byte in keymat {
        let _ = write!(out, "{byte:02x}");
    }
    let _ = writeln!(out, r#"","NULL","""#);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sluice_crypto::esp::Spi;
    use sluice_crypto::key::EspKey;
    use sluice_crypto::replay::ReplayWindow;
    use sluice_dataplane_core::sad::Mode;

    use sluice_dataplane_control::Child;

    use super::*;

    #[test]
    fn an_sa_is_a_line_of_wiresharks_table_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("esp_sa");
        let keymat: Vec<u8> = (0..20).collect();
        let sa = SaConfig {
            spi: Spi(0x9abc),
            key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &keymat).unwrap(),
            esn: true,
            window: ReplayWindow::DEFAULT,
            udp_encap: false,
            mode: Mode::Tunnel,
            child: Child::ONLY,
        };
        let outer = ("198.18.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap());
        LabKeys::open(&path).unwrap().write(outer, &sa);
        LabKeys::open(&path).unwrap().write(outer, &sa);
        let expected = concat!(
            r#""IPv4","198.18.0.1","198.18.0.2","0x00009abc","#,
            r#""AES-GCM with 16 octet ICV [RFC4106]","#,
            r#""0x000102030405060708090a0b0c0d0e0f10111213","NULL","""#,
            "\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.repeat(2));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_gets_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("esp_sa");
        std::fs::write(&path, "").unwrap();
        let readable = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&path, readable).unwrap();
        let error = LabKeys::open(&path).unwrap_err();
        assert!(error.to_string().contains("0600"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = LabKeys::open(Path::new("/nowhere/esp_sa")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/esp_sa"), "{error}");
    }
}
