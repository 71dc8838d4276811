//! A key from a file is for one run: after it, sequence numbers would begin at 1 again under
//! the same key, and every nonce repeat (RFC 4106 section 2); a replay window would be empty.
//!
//! What was used is marked by an empty file beside it, `NAME.used`, on disk before the first
//! port opens, so that a killed run counts too.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpentError {
    /// An earlier run had it.
    #[error(
        "the key in {} was used by an earlier run, and its nonces would repeat: make a new key \
         at both ends, then remove {}",
        key_file.display(),
        mark.display()
    )]
    Used {
        /// The key's file.
        key_file: PathBuf,
        /// What says so.
        mark: PathBuf,
    },
    /// The mark can't be made.
    #[error("can't mark the key as used: {}: {error}", mark.display())]
    Mark {
        /// What says so.
        mark: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The marks of one run's keys.
#[derive(Debug, Default)]
pub(crate) struct Spent(Vec<PathBuf>);

impl Spent {
    /// Marks every key as used, or none.
    ///
    /// # Errors
    /// [`SpentError`].
    pub(crate) fn mark<'a>(
        key_files: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, SpentError> {
        let mut spent = Self::default();
        for key_file in key_files {
            match mark(key_file) {
                Ok(mark) => spent.0.push(mark),
                Err(error) => {
                    spent.take_back();
                    return Err(error);
                }
            }
        }
        Ok(spent)
    }

    /// Takes the marks back: not one packet was sealed.
    pub(crate) fn take_back(self) {
        for mark in self.0 {
            if let Err(error) = remove_file(&mark) {
                tracing::warn!(%error, "{} stays though its key was not used", mark.display());
            }
        }
    }
}

fn mark(key_file: &Path) -> Result<PathBuf, SpentError> {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".used");
    let mark = PathBuf::from(name);
    let made = OpenOptions::new().write(true).create_new(true).open(&mark);
    match made.and_then(|file| sync(&file, &mark)) {
        Ok(()) => Ok(mark),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(SpentError::Used {
            key_file: key_file.to_owned(),
            mark,
        }),
        Err(error) => Err(SpentError::Mark { mark, error }),
    }
}

/// The file and its name are on disk.
fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("out.hex");
        drop(Spent::mark([key.as_path()]).unwrap());
        let error = Spent::mark([key.as_path()]).unwrap_err();
        assert!(matches!(error, SpentError::Used { .. }), "{error}");
        assert!(error.to_string().contains("out.hex.used"), "{error}");
    }

    #[test]
    fn one_used_key_spends_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["old.hex", "new.hex"].map(|name| dir.path().join(name));
        drop(Spent::mark([old.as_path()]).unwrap());
        assert!(Spent::mark([new.as_path(), old.as_path()]).is_err());
        drop(Spent::mark([new.as_path()]).unwrap());
    }

    #[test]
    fn a_run_without_a_packet_spends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("out.hex");
        Spent::mark([key.as_path()]).unwrap().take_back();
        drop(Spent::mark([key.as_path()]).unwrap());
    }

    #[test]
    fn a_mark_that_cannot_be_made_is_an_error() {
        let error = Spent::mark([Path::new("/nowhere/out.hex")]).unwrap_err();
        assert!(matches!(error, SpentError::Mark { .. }), "{error}");
    }
}
