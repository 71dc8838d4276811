//! The agent's socket: who may connect, one request a line, each bounded in length and time.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::local::{
    Ask, Fault, FaultKind, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Reply, Request, Response, VERSION,
};

/// Connections at one time, at most; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// A connection may be without a request so long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// A response is taken within.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// What a connection brings.
#[derive(Debug)]
pub enum Call {
    /// A request.
    Ask {
        /// What is asked.
        request: Request,
        /// Who waits for the answer.
        reply: oneshot::Sender<Result<Response, Fault>>,
    },
    /// An ADD that made an attachment was answered, and the answer not taken: whoever asked
    /// takes it for failed.
    Undelivered {
        /// The sandbox.
        container: String,
        /// The interface inside.
        ifname: String,
    },
}

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent is there.
    #[error("{} is another agent's; stop that one, or give this one another socket", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, and not ours to remove.
    #[error("{} is there and no socket; give the agent another path", path.display())]
    NoSocket {
        /// What is there.
        path: PathBuf,
    },
    /// It can't be made.
    #[error("{}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Makes the socket, for this process's user only. What a killed agent left is replaced.
///
/// # Errors
/// [`SocketError`].
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |error| SocketError::Io {
        path: path.to_owned(),
        error,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let path = path.to_owned();
            return Err(SocketError::NoSocket { path });
        }
        if StdStream::connect(path).is_ok() {
            let path = path.to_owned();
            return Err(SocketError::Taken { path });
        }
        fs::remove_file(path).map_err(failed)?;
    }
    // Made under the process's umask, so that it is never open to others.
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Takes the socket away.
pub fn remove(path: &Path) {
    // It is replaced at the next start otherwise.
    let _ = fs::remove_file(path);
}

/// Serves until nobody takes calls any more.
pub async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while !calls.is_closed() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of descriptors: some come back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(why) = check_peer(&stream) {
            tracing::warn!(why, "a connection was refused");
            continue;
        }
        let calls = calls.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &calls).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
}

/// Only root and our own user: the file's mode says so too, the kernel says who it is.
fn check_peer(stream: &UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| error.to_string())?.uid();
    let own = geteuid().as_raw();
    if peer == 0 || peer == own {
        return Ok(());
    }
    Err(format!("user {peer} may not ask; 0 and {own} may"))
}

async fn converse(stream: UnixStream, calls: &mpsc::Sender<Call>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(line) = timeout(IDLE_MAX, read_line(&mut read)).await?? else {
            return Ok(());
        };
        match parse(&line) {
            Err(fault) => {
                // What follows can't be told apart from this.
                return answer(&mut write, Err(fault)).await;
            }
            Ok(request) => {
                let added = match &request {
                    Request::Add(it) => Some((it.container.clone(), it.ifname.clone())),
                    _ => None,
                };
                let response = ask(&mut read, calls, request).await?;
                let made = matches!(response, Ok(Response::Added { fresh: true, .. }));
                let written = answer(&mut write, response).await;
                if let (Err(_), true, Some((container, ifname))) = (&written, made, added) {
                    let call = Call::Undelivered { container, ifname };
                    let _ = calls.send(call).await;
                }
                written?;
            }
        }
    }
}

/// A line with its newline; `None` at the end. A longer one is cut, and then no JSON.
async fn read_line(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = read.take(REQUEST_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).await?;
    Ok((!line.is_empty()).then_some(line))
}

fn parse(line: &[u8]) -> Result<Request, Fault> {
    let fault = |text: String| Err(Fault::new(FaultKind::Request, text));
    if line.last() != Some(&b'\n') {
        return fault(format!(
            "the request is cut short, or longer than {REQUEST_BYTES_MAX} bytes"
        ));
    }
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        version: u32,
    }
    // A later version may have what this one can't read.
    if let Ok(OnlyVersion { version }) = serde_json::from_slice(line)
        && version != VERSION
    {
        return fault(format!(
            "version {version} is not spoken here; {VERSION} is"
        ));
    }
    match serde_json::from_slice::<Ask>(line) {
        Ok(ask) => Ok(ask.ask),
        Err(error) => fault(format!("the request makes no sense: {error}")),
    }
}

/// Has a request answered. Whoever hangs up meanwhile wants no answer.
async fn ask(
    read: &mut BufReader<OwnedReadHalf>,
    calls: &mpsc::Sender<Call>,
    request: Request,
) -> io::Result<Result<Response, Fault>> {
    let (reply, response) = oneshot::channel();
    if calls.send(Call::Ask { request, reply }).await.is_err() {
        let text = "the agent is stopping; try again";
        return Ok(Err(Fault::new(FaultKind::Unavailable, text)));
    }
    tokio::select! {
        response = response => Ok(response.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Unavailable, "the agent is stopping; try again"))
        })),
        ended = hung_up(read) => Err(ended),
    }
}

/// Waits until the other side has closed. What it sends ahead waits where it is.
async fn hung_up(read: &mut BufReader<OwnedReadHalf>) -> io::Error {
    match read.fill_buf().await {
        Ok([]) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn answer(write: &mut OwnedWriteHalf, response: Result<Response, Fault>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Reply::from(response))?;
    line.push(b'\n');
    if line.len() > RESPONSE_BYTES_MAX {
        let text = format!("the answer is longer than {RESPONSE_BYTES_MAX} bytes; ask for less");
        line = serde_json::to_vec(&Reply::from(Err(Fault::new(FaultKind::Refused, text))))?;
        line.push(b'\n');
    }
    timeout(WRITE_MAX, write.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Asks for ADD, and doesn't take the answer. What the agent is told of it.
    async fn not_taken(fresh: bool) -> Option<Call> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (sender, mut calls) = mpsc::channel(4);
        let serving = tokio::spawn(serve(listen(&path).unwrap(), sender));
        let mut client = StdStream::connect(&path).unwrap();
        let ask = Ask {
            version: VERSION,
            ask: Request::Add(crate::agent::AttachRequest {
                container: "c1".to_owned(),
                ifname: "eth0".to_owned(),
                pod: sluice_offload_api::model::PodRef {
                    namespace: "shop".to_owned(),
                    name: "cart".to_owned(),
                },
                uid: None,
                network: None,
                vf: crate::agent::VfHint::default(),
                ips: Vec::new(),
            }),
        };
        client
            .write_all(format!("{}\n", serde_json::to_string(&ask).unwrap()).as_bytes())
            .unwrap();
        // It still holds the connection, but reads no more.
        client.shutdown(std::net::Shutdown::Read).unwrap();
        let Some(Call::Ask { reply, .. }) = calls.recv().await else {
            panic!("no ADD came");
        };
        let answer = Response::Added {
            uid: "u-1".to_owned(),
            open: true,
            standing: "known".to_owned(),
            generation: 3,
            fresh,
        };
        reply.send(Ok(answer)).unwrap();
        // With the listener and the conversation gone, so is the last sender.
        serving.abort();
        let told = timeout(Duration::from_secs(10), calls.recv()).await;
        drop(client);
        told.expect("the conversation ends")
    }

    #[tokio::test]
    async fn an_add_whose_answer_is_not_taken_is_taken_back() {
        let told = not_taken(true).await;
        assert!(matches!(told, Some(Call::Undelivered { .. })), "{told:?}");
    }

    #[tokio::test]
    async fn a_repeated_add_whose_answer_is_not_taken_takes_no_pod_off() {
        let told = not_taken(false).await;
        assert!(told.is_none(), "{told:?}");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        fs::write(&path, "precious").unwrap();
        let error = listen(&path).unwrap_err();
        assert!(matches!(error, SocketError::NoSocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
