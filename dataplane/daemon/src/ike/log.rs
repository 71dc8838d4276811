//! charon's log, by a pipe that holds one page.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::geteuid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use zeroize::{Zeroize as _, Zeroizing};

/// What a pipe holds, at least: one page. What is in it charon has got rid of, so it is to be
/// less than charon writes between an SA and the message that makes the peer use it.
const PIPE_BYTES: usize = 4096;
/// The same for what we have read and not looked at.
const READ_BYTES: usize = 512;
/// Of a line, at most; what is longer is cut.
const LINE_BYTES_MAX: usize = 4096;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a pipe.
    #[error(
        "{0} isn't a pipe: keys would stay on disk in a file, and charon would not wait for the \
         dataplane; make one with mkfifo -m 600"
    )]
    NotAPipe(String),
    /// Others can open it.
    #[error(
        "{0} is open to others, who could take keys out of it or put some in: chmod 600, chown"
    )]
    OthersToo(String),
    /// The system.
    #[error("charon's log: {0}")]
    Io(#[from] io::Error),
}

/// Lines of a log.
#[derive(Debug)]
pub struct Log {
    pipe: pipe::Receiver,
    /// A line and what came of the next.
    buffer: Zeroizing<Vec<u8>>,
    /// What is in front of this was a line.
    taken: usize,
    /// What the pipe holds.
    held: usize,
}

/// A FIFO, or standard input for `-`. Waits until charon opens it, too.
///
/// # Errors
/// [`LogError`].
pub fn open(path: &Path) -> Result<OwnedFd, LogError> {
    let file = if path == Path::new("-") {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        if !std::fs::metadata(path)?.file_type().is_fifo() {
            return Err(LogError::NotAPipe(path.display().to_string()));
        }
        File::open(path)?
    };
    let found = file.metadata()?;
    if !found.file_type().is_fifo() {
        return Err(LogError::NotAPipe(path.display().to_string()));
    }
    // Who may read a FIFO takes keys out of it, and who may write one puts keys in. Standard input
    // is of who started us.
    let is_ours = found.uid() == geteuid().as_raw() || found.uid() == 0;
    if path != Path::new("-") && !(is_ours && found.mode() & 0o077 == 0) {
        return Err(LogError::OthersToo(path.display().to_string()));
    }
    Ok(file.into())
}

impl Log {
    /// The log that comes out of a pipe. Inside a Tokio runtime.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn new(pipe: OwnedFd) -> Result<Self, LogError> {
        let held = fcntl_setpipe_size(&pipe, PIPE_BYTES).map_err(io::Error::from)?;
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(pipe)?,
            buffer: Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + READ_BYTES)),
            taken: 0,
            held,
        })
    }

    /// Whether charon is held back: pages larger than usual let it run ahead.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.held <= PIPE_BYTES
    }

    /// The next line, without its end; `None` at the log's end. Reads no more than it has to.
    /// Given up in its midst it loses nothing.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let taken = core::mem::take(&mut self.taken);
        let left = self.buffer.len() - taken;
        self.buffer.copy_within(taken.., 0);
        // What is behind may be of a key.
        self.buffer.get_mut(left..).unwrap_or_default().zeroize();
        self.buffer.truncate(left);
        loop {
            if let Some(end) = self.buffer.iter().position(|it| *it == b'\n') {
                self.taken = end + 1;
                return Ok(self.buffer.get(..end));
            }
            // Not a line that matters: only its end does.
            self.buffer.truncate(LINE_BYTES_MAX);
            let mut some = Zeroizing::new([0; READ_BYTES]);
            let count = self.pipe.read(&mut *some).await?;
            let Some(some) = some.get(..count).filter(|it| !it.is_empty()) else {
                return Ok(None);
            };
            self.buffer.extend_from_slice(some);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_fifo_that_others_can_open_is_none_of_charons() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // Opened both ways it waits for nobody.
        let mut both = std::fs::OpenOptions::new();
        let _charon = both.read(true).write(true).open(&path).unwrap();
        for (mode, is_taken) in [(0o600, true), (0o644, false), (0o620, false), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let opened = open(&path);
            assert_eq!(opened.is_ok(), is_taken, "{mode:o}: {opened:?}");
        }
        assert!(matches!(open(dir.path()), Err(LogError::NotAPipe(_))));
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_charon_waits_for_who_reads_them() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut log = Log::new(reader.into()).unwrap();
        assert!(log.holds());
        let line = |number: usize| format!("08[ENC] line {number:05}");
        let (told, written) = std::sync::mpsc::channel();
        let charon = std::thread::spawn(move || {
            for number in 0..1000 {
                writeln!(writer, "{}", line(number)).unwrap();
                told.send(number).unwrap();
            }
        });
        let long = PIPE_BYTES + READ_BYTES;
        for number in 0..1000 {
            assert_eq!(log.next().await.unwrap(), Some(line(number).as_bytes()));
            let ahead = written
                .try_iter()
                .last()
                .unwrap_or(number)
                .saturating_sub(number);
            assert!(ahead * (line(0).len() + 1) <= long, "{ahead} lines ahead");
        }
        charon.join().unwrap();
        assert_eq!(log.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_more_than_its_room() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut log = Log::new(reader.into()).unwrap();
        let charon = std::thread::spawn(move || {
            writer.write_all(&vec![b'x'; 100_000]).unwrap();
            writer.write_all(b"\n08[CHD] next\n").unwrap();
        });
        assert!(log.next().await.unwrap().unwrap().len() <= LINE_BYTES_MAX + READ_BYTES);
        assert_eq!(log.next().await.unwrap(), Some(&b"08[CHD] next"[..]));
        charon.join().unwrap();
    }

    #[test]
    fn a_file_is_no_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("charon.log");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(open(&path), Err(LogError::NotAPipe(_))));
    }
}
