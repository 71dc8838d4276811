//! The last acknowledged generation, kept on disk for the next start: the bytes are
//! [`sluice_dataplane_control::checkpoint`]'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sluice_dataplane_control::Former;
use sluice_dataplane_control::checkpoint::{BYTES_MAX, DecodeError, Kept, decode, encode};
use sluice_host_agent::text::read_at_most;
use sluice_offload_api::State;

/// A checkpoint can't be used. The dataplane stays closed until an agent programs it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("can't read it: {0}")]
    Read(#[from] io::Error),
    /// It isn't what was written.
    #[error(transparent)]
    Decode(#[from] DecodeError),
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

    /// What was acknowledged last; `None` if there is no file.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self) -> Result<Option<Kept>, LoadError> {
        match read_at_most(&self.path, BYTES_MAX) {
            Ok(bytes) => Ok(Some(decode(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a state, and the addresses that nobody has any more, so that a crash at any moment
    /// leaves this one or the one before. It is on the disk when this returns.
    ///
    /// # Errors
    /// Those of the file system; the one before stays then.
    pub fn store(&self, state: &State, former: &Former) -> io::Result<()> {
        let bytes = encode(state, former);
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

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_offload_api::testing::sample;

    #[test]
    fn what_is_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("last"));
        assert_eq!(checkpoint.load().unwrap(), None);
        checkpoint.store(&sample(), &Former::default()).unwrap();
        let loaded = checkpoint.load().unwrap().unwrap().transaction;
        assert_eq!(State::default().apply(&loaded).unwrap(), sample());
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_write_cut_short_by_a_crash_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("last"));
        checkpoint.store(&sample(), &Former::default()).unwrap();
        fs::write(folder.path().join("last.new"), b"SLUICEC2 half").unwrap();
        assert!(checkpoint.load().unwrap().is_some());
        let mut next = sample();
        next.generation.0 += 1;
        checkpoint.store(&next, &Former::default()).unwrap();
        let loaded = checkpoint.load().unwrap().unwrap().transaction;
        assert_eq!(loaded.generation, next.generation);
    }
}
