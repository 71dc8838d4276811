//! The dataplane's SA socket from the other end.

use core::time::Duration;
use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::live::wire::{LINE_BYTES_MAX, Listed, Request, Response};

/// For an answer.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Between two tries to reach a dataplane that starts.
const RETRY: Duration = Duration::from_millis(50);
/// How often it is asked again when it is busy, and how long after.
const BUSY_TRIES_MAX: usize = 100;
const BUSY: Duration = Duration::from_millis(5);
/// An answer, at most: a line for each of all its SAs.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why there is no answer. The dataplane is gone, or as good as that.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket.
    #[error("the dataplane's SA socket: {0}")]
    Io(#[from] io::Error),
    /// It has closed.
    #[error("the dataplane has closed its SA socket: it has ended, and its SAs with it")]
    Closed,
    /// Silence.
    #[error("the dataplane did not answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// It has no room, and goes on having none.
    #[error("the dataplane is too busy to take an SA")]
    Busy,
    /// Not our language.
    #[error("the dataplane's answer makes no sense; are both of one version?")]
    Nonsense,
}

/// Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A connection to a dataplane.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects, and tries again for a while: both may be starting.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok(Self { stream }),
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Has an SA come or go; what came of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change(
        &mut self,
        request: &Request<'_>,
    ) -> Result<Result<(), Refusal>, ClientError> {
        for _ in 0..BUSY_TRIES_MAX {
            match self.ask(request).await? {
                Response::Done {} => return Ok(Ok(())),
                Response::Refused { reason, .. } if reason == "busy" => {
                    tokio::time::sleep(BUSY).await;
                }
                Response::Refused { reason, message } => {
                    return Ok(Err(Refusal { reason, message }));
                }
                Response::Sas(_) => return Err(ClientError::Nonsense),
            }
        }
        Err(ClientError::Busy)
    }

    /// All SAs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self) -> Result<Vec<Listed>, ClientError> {
        match self.ask(&Request::List {}).await? {
            Response::Sas(sas) => Ok(sas),
            // Nothing else bars it.
            Response::Refused { .. } => Err(ClientError::Silent),
            Response::Done {} => Err(ClientError::Nonsense),
        }
    }

    async fn ask(&mut self, request: &Request<'_>) -> Result<Response, ClientError> {
        // The whole room at once: a buffer that grows leaves copies of keys behind.
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
        serde_json::to_writer(&mut *line, request).map_err(|_| ClientError::Nonsense)?;
        line.push(b'\n');
        let asked = async {
            self.stream.write_all(&line).await?;
            let mut answer = Vec::new();
            let mut some = [0; 4096];
            while answer.last() != Some(&b'\n') {
                match self.stream.read(&mut some).await? {
                    0 => return Err(ClientError::Closed),
                    more => answer.extend_from_slice(some.get(..more).unwrap_or_default()),
                }
                if answer.len() > ANSWER_BYTES_MAX {
                    return Err(ClientError::Nonsense);
                }
            }
            serde_json::from_slice(&answer).map_err(|_| ClientError::Nonsense)
        };
        let answer = tokio::time::timeout(ANSWER_MAX, asked).await;
        answer.map_err(|_| ClientError::Silent)?
    }

    /// Returns when the dataplane has gone.
    pub async fn closed(&mut self) -> ClientError {
        match self.stream.read(&mut [0]).await {
            Ok(0) => ClientError::Closed,
            Ok(_) => ClientError::Nonsense,
            Err(error) => error.into(),
        }
    }
}
