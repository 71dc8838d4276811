//! The socket by which SAs come: lines in, lines out.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::order::{Order, OrderRefused};
use super::wire::{LINE_BYTES_MAX, Request, Response, request};
use crate::config::SaSocketConfig;
use crate::runtime::ControlClient;
use crate::serve::{ListenError, UnixSocket};

/// Connections at once, at most: one that programs, one that is half dead, a person's.
const CONNECTIONS_MAX: usize = 4;

/// The socket, open, before anybody is let in.
#[derive(Debug)]
pub struct SaSocket(UnixSocket);

impl SaSocket {
    /// Opens it.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(config: &SaSocketConfig) -> Result<Self, ListenError> {
        UnixSocket::bind(&config.path).map(Self)
    }

    /// Serves until `stop` turns true.
    pub async fn serve(self, control: ControlClient, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut open = JoinSet::new();
        let accepting = async {
            loop {
                let (stream, uid) = self.0.admit().await;
                while open.try_join_next().is_some() {}
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(uid, "turned away: {CONNECTIONS_MAX} connections are open");
                    continue;
                };
                let control = control.clone();
                open.spawn(async move {
                    // Who has gone away doesn't hear why.
                    drop(converse(stream, &control).await);
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stop.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// Answers one line after the other until the other end closes.
async fn converse(mut stream: UnixStream, control: &ControlClient) -> std::io::Result<()> {
    // The whole room at once: a buffer that grows leaves copies of keys behind.
    let mut buffer = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let mut len = 0;
    loop {
        while let Some(end) = buffer[..len].iter().position(|it| *it == b'\n') {
            let response = respond(&buffer[..end], control).await;
            buffer.copy_within(end + 1..len, 0);
            len -= end + 1;
            buffer[len..].fill(0);
            send(&mut stream, &response).await?;
        }
        if len == buffer.len() {
            let max = LINE_BYTES_MAX - 1;
            return send(&mut stream, &OrderRefused::TooLong { max }.into()).await;
        }
        match stream.read(&mut buffer[len..]).await? {
            0 => return Ok(()),
            more => len += more,
        }
    }
}

async fn send(stream: &mut UnixStream, response: &Response) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn respond(line: &[u8], control: &ControlClient) -> Response {
    let order = match read(line) {
        Ok(Some(order)) => order,
        Ok(None) => {
            return match control.sas(None).await {
                Ok(sas) => Response::Sas(sas.iter().map(Into::into).collect()),
                Err(_) => OrderRefused::Silent.into(),
            };
        }
        Err(why) => return why.into(),
    };
    match control.order(order).await {
        Ok(()) => Response::Done {},
        Err(why) => why.into(),
    }
}

/// An order, or `None`: all SAs are asked for. Leaves nothing of a key on the stack.
fn read(line: &[u8]) -> Result<Option<Order>, OrderRefused> {
    let order = read_one(line);
    sluice_crypto::scrub_stack();
    order
}

#[inline(never)]
fn read_one(line: &[u8]) -> Result<Option<Order>, OrderRefused> {
    match request(line)? {
        Request::Add(it) => it.try_into().map(Some),
        Request::Remove(it) => it.try_into().map(Some),
        Request::List {} => Ok(None),
    }
}
