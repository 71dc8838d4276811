//! Asking the agent, blocking and within a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::message::{Ask, Fault, Reply, Request, Response};
use super::{RESPONSE_BYTES_MAX, VERSION};

/// How long an agent that isn't there is waited for: it may be about to start.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two attempts.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent.
    #[error("no agent listens on {path}: {error}; start sluice-agent, or name its socket")]
    Connect {
        /// The socket as it was given.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It went away, or is too slow.
    #[error("the agent did not answer within {ms} ms: {error}")]
    Io {
        /// How long was waited at most.
        ms: u128,
        /// Why.
        error: io::Error,
    },
    /// It hung up.
    #[error("the agent hung up before it answered; see its log")]
    HungUp,
    /// Not what this version understands.
    #[error("the agent's answer makes no sense here: {why}; are both of one version?")]
    Nonsense {
        /// Why.
        why: String,
    },
    /// It can't.
    #[error("{}", .0.text)]
    Fault(Fault),
}

/// Asks the agent that listens on `socket`.
///
/// # Errors
/// [`ClientError`]. After any but a fault it isn't known whether the agent did it.
pub fn ask(socket: &Path, request: Request, timeout: Duration) -> Result<Response, ClientError> {
    let start = Instant::now();
    let mut stream = connect(socket, timeout.min(CONNECT_WAIT_MAX))?;
    let io = |error| ClientError::Io {
        ms: timeout.as_millis(),
        error,
    };
    // Zero would mean for ever.
    let left = timeout
        .saturating_sub(start.elapsed())
        .max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).map_err(io)?;
    stream.set_write_timeout(Some(left)).map_err(io)?;
    let ask = Ask {
        version: VERSION,
        ask: request,
    };
    let nonsense = |why: String| ClientError::Nonsense { why };
    let mut line = serde_json::to_vec(&ask).map_err(|error| nonsense(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(io)?;

    let max = RESPONSE_BYTES_MAX as u64;
    let mut line = Vec::new();
    BufReader::new(stream.take(max))
        .read_until(b'\n', &mut line)
        .map_err(io)?;
    if line.is_empty() {
        return Err(ClientError::HungUp);
    }
    if line.last() != Some(&b'\n') {
        return Err(nonsense("it is cut short".to_owned()));
    }
    let reply: Reply =
        serde_json::from_slice(&line).map_err(|error| nonsense(error.to_string()))?;
    if reply.version != VERSION {
        let why = format!("version {}, not {VERSION}", reply.version);
        return Err(nonsense(why));
    }
    match (reply.answer, reply.fault) {
        (Some(answer), None) => Ok(answer),
        (None, Some(fault)) => Err(ClientError::Fault(fault)),
        _ => Err(nonsense("neither an answer nor a fault".to_owned())),
    }
}

fn connect(socket: &Path, wait: Duration) -> Result<UnixStream, ClientError> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() >= wait || !is_absent(&error) => {
                let path = socket.display().to_string();
                return Err(ClientError::Connect { path, error });
            }
            Err(_) => thread::sleep(CONNECT_PAUSE),
        }
    }
}

/// Whether an agent could still come.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
