//! A Unix socket for its owner and root.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};

use super::listen::{ListenError, RETRY};

/// Takes its file away at the end, if it is still its own.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl UnixSocket {
    /// With mode 0600 from its first moment on.
    pub(crate) fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Unix {
            path: path.to_owned(),
            error,
        };
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(ListenError::NotASocket {
                    path: path.to_owned(),
                });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ListenError::InUse {
                    path: path.to_owned(),
                });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(failed)?;
        let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
        })
    }

    /// The next who may, and as which user: the kernel says so (SO_PEERCRED).
    pub(crate) async fn admit(&self) -> (UnixStream, u32) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            match stream.peer_cred().map(|it| it.uid()) {
                Ok(uid) if may_connect(uid, own) => return (stream, uid),
                Ok(uid) => tracing::warn!(uid, "a user who may not was turned away"),
                Err(error) => {
                    tracing::warn!(%error, "a peer without credentials was turned away");
                }
            }
        }
    }
}

/// Root, and who the daemon runs as.
const fn may_connect(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_may_connect_and_nobody_else() {
        assert!(may_connect(0, 1000));
        assert!(may_connect(1000, 1000));
        assert!(!may_connect(1001, 1000));
        assert!(!may_connect(1000, 0));
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_only_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(
            UnixSocket::bind(&path),
            Err(ListenError::InUse { .. })
        ));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind, as a crash does");
        drop(UnixSocket::bind(&path).unwrap());
        std::fs::write(&path, "a file").unwrap();
        assert!(matches!(
            UnixSocket::bind(&path),
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    }
}
