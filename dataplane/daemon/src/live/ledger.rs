//! Which keys were given before, in this run or an earlier one: sequence numbers begin at 1
//! with every SA, so a key that comes again would repeat nonces (RFC 4106 section 2).
//!
//! Fingerprints only, one a line; each is on disk before its SA is on its way.

use core::fmt::Write as _;
use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sluice_crypto::key::Fingerprint;
use sluice_host_agent::text::read_at_most;

/// Keys that are remembered, at most. When there are more, the older half is forgotten:
/// a key from hundreds of thousands of rekeys ago doesn't come again by mistake.
const KEYS_MAX: usize = 1 << 18;
/// Hex digits and a line's end.
const LINE_LEN: usize = 2 * Fingerprint::LEN + 1;

/// The ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Reading, writing.
    #[error("can't use the list of used keys {}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It says nothing that can be relied on.
    #[error(
        "line {line} of the list of used keys {} is no fingerprint: restore it; without the list a \
         key could be used twice", path.display()
    )]
    Broken {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A key file's key is in it.
    #[error(
        "the key in {} was used before, by a file or the SA socket: make a new one at both ends",
        key_file.display()
    )]
    Used {
        /// The key's file.
        key_file: PathBuf,
    },
}

/// Keys that were given before.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    known: BTreeSet<[u8; Fingerprint::LEN]>,
    /// What is on disk, oldest first.
    order: VecDeque<[u8; Fingerprint::LEN]>,
    keys_max: usize,
}

impl Ledger {
    /// Reads what is there, or begins with nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::open_within(path, KEYS_MAX)
    }

    fn open_within(path: &Path, keys_max: usize) -> Result<Self, LedgerError> {
        let failed = |error| LedgerError::File {
            path: path.to_owned(),
            error,
        };
        let file = appending(path).map_err(failed)?;
        lock(&file).map_err(failed)?;
        let bytes_max = ((keys_max + 1) * LINE_LEN) as u64;
        let text = read_at_most(path, bytes_max).map_err(failed)?;
        let mut this = Self {
            path: path.to_owned(),
            file,
            known: BTreeSet::new(),
            order: VecDeque::new(),
            keys_max,
        };
        // A line that a crash cut short is of a key that was never in use: what comes after it
        // begins on a line of its own.
        let whole = text.len() - text.len() % LINE_LEN;
        for (line, text) in text[..whole].chunks(LINE_LEN).enumerate() {
            let parsed = parse(text).ok_or_else(|| LedgerError::Broken {
                path: path.to_owned(),
                line: line + 1,
            })?;
            this.known.insert(parsed);
            this.order.push_back(parsed);
        }
        if whole < text.len() {
            this.file.set_len(whole as u64).map_err(failed)?;
        }
        Ok(this)
    }

    /// Whether a key was given before.
    #[must_use]
    pub fn has(&self, key: Fingerprint) -> bool {
        self.known.contains(key.as_bytes())
    }

    /// Remembers a key that a file gave, for this run: until it is in use its file may go on to
    /// have it.
    pub fn remember(&mut self, key: Fingerprint) {
        self.known.insert(*key.as_bytes());
    }

    /// Has a remembered key on disk as used, now that it is.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_remembered(&mut self, key: Fingerprint) -> io::Result<()> {
        if self.order.contains(key.as_bytes()) {
            return Ok(());
        }
        self.write(key)
    }

    /// Has a key on disk as used.
    ///
    /// # Errors
    /// Those of writing; the key may not be used then.
    pub fn write(&mut self, key: Fingerprint) -> io::Result<()> {
        if self.order.len() >= self.keys_max {
            self.forget_half()?;
        }
        let line = format!("{key}\n");
        let written = self.file.write_all(line.as_bytes());
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Half a line would make nonsense of all that follow.
            self.file.set_len((self.order.len() * LINE_LEN) as u64)?;
            return Err(error);
        }
        self.known.insert(*key.as_bytes());
        self.order.push_back(*key.as_bytes());
        Ok(())
    }

    /// Writes the newer half to a new file, which takes the old one's place.
    fn forget_half(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        drop(std::fs::remove_file(&new));
        let mut file = appending(&new)?;
        let old = self.order.len() / 2;
        let kept = self.order.iter().skip(old);
        let mut text = String::with_capacity(self.order.len() * LINE_LEN);
        for it in kept {
            for byte in it {
                // Nothing fails that writes to a string.
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        lock(&file)?;
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        // What is appended from here on counts only if the new name does.
        sync_folder(&self.path)?;
        for it in self.order.drain(..old) {
            self.known.remove(&it);
        }
        Ok(())
    }
}

fn appending(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let file = options.open(path)?;
    sync_folder(path)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Two that write one list know nothing of each other's keys.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::Error::other("another dataplane has it open"),
    })
}

fn parse(line: &[u8]) -> Option<[u8; Fingerprint::LEN]> {
    let digits = line.strip_suffix(b"\n")?;
    let digits = core::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().map(u64::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use sluice_crypto::key::{Algorithm, EspKey};

    use super::*;

    fn key(byte: u8) -> Fingerprint {
        let key = EspKey::from_keymat(Algorithm::Aes128Gcm16, &[byte; 20]).unwrap();
        key.fingerprint()
    }

    #[test]
    fn a_key_stays_used_over_a_restart_and_a_cut_line_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.write(key(1)).unwrap();
        ledger.write(key(2)).unwrap();
        drop(ledger);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert!(ledger.has(key(1)) && !ledger.has(key(2)) && !ledger.has(key(3)));
        ledger.write(key(3)).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        assert!(ledger.has(key(1)) && ledger.has(key(3)));
    }

    #[test]
    fn what_is_no_ledger_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        std::fs::write(&path, format!("{}\nnot a fingerprint\n", key(1))).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(
            matches!(error, LedgerError::Broken { line: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn the_older_half_goes_when_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        let mut ledger = Ledger::open_within(&path, 4).unwrap();
        (1..=5).for_each(|byte| ledger.write(key(byte)).unwrap());
        let held = |ledger: &Ledger| {
            (1..=5)
                .filter(|it| ledger.has(key(*it)))
                .collect::<Vec<_>>()
        };
        assert_eq!(held(&ledger), [3, 4, 5]);
        drop(ledger);
        assert_eq!(held(&Ledger::open_within(&path, 4).unwrap()), [3, 4, 5]);
    }

    #[test]
    fn a_files_key_has_a_line_from_its_first_use_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.remember(key(1));
        assert!(ledger.has(key(1)));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        for _ in 0..2 {
            ledger.write_remembered(key(1)).unwrap();
        }
        drop(ledger);
        assert_eq!(std::fs::read(&path).unwrap().len(), LINE_LEN);
        assert!(Ledger::open(&path).unwrap().has(key(1)));
    }

    #[test]
    fn a_second_dataplane_does_not_get_the_same_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        let mut ledger = Ledger::open_within(&path, 4).unwrap();
        for byte in 1..=6 {
            assert!(Ledger::open(&path).is_err(), "{byte}");
            ledger.write(key(byte)).unwrap();
        }
        drop(ledger);
        assert!(Ledger::open(&path).unwrap().has(key(6)));
    }
}
