//! `GET /metrics` and `GET /healthz`, and nothing else: as much HTTP/1.1 as that needs.
//!
//! One request a connection, at most [`HEAD_BYTES_MAX`] of it, within [`REQUEST_MAX`].

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::metrics::{Numbers, render};
use crate::runtime::{ControlClient, Counted, Silent, Vitals};
use crate::serve::LeaseClock;

/// Connections at a time, at most.
const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request, at most.
const HEAD_BYTES_MAX: usize = 4096;
/// From accept to the end of the answer, at most.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// After an accept that failed.
const RETRY: Duration = Duration::from_millis(100);
/// A worker that didn't poll for so long doesn't protect anybody.
const WORKER_SILENT_MS_MAX: u64 = 2_000;

/// Where the numbers come from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) control: ControlClient,
    pub(crate) lease: Arc<LeaseClock>,
    pub(crate) counted: Counted,
    pub(crate) channel: Option<watch::Receiver<sluice_node_channel::Status>>,
}

/// The socket can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't serve metrics on {address}: {error}")]
pub struct MetricsError {
    /// Its address.
    pub address: SocketAddr,
    /// Why.
    pub error: std::io::Error,
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct Metrics(TcpListener);

impl Metrics {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let failed = |error| MetricsError { address, error };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        TcpListener::from_std(listener).map(Self).map_err(failed)
    }

    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    /// Answers for ever.
    pub(crate) async fn serve(self, sources: Sources) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = self.0.accept().await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let sources = sources.clone();
            tokio::spawn(async move {
                // A reader that is too slow or breaks off gets nothing more.
                drop(tokio::time::timeout(REQUEST_MAX, answer(stream, &sources)).await);
                drop(place);
            });
        }
    }
}

async fn answer(mut stream: TcpStream, sources: &Sources) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    let whole = loop {
        if head.windows(4).any(|it| it == b"\r\n\r\n") {
            break true;
        }
        let room = HEAD_BYTES_MAX - head.len();
        if room == 0 {
            break false;
        }
        let mut limited = (&mut stream).take(room as u64);
        if limited.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let (status, kind, body) = if whole {
        respond(&head, sources).await
    } else {
        (
            "431 Request Header Fields Too Large",
            TEXT,
            "the request is too long\n".to_owned(),
        )
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

type Answer = (&'static str, &'static str, String);

async fn respond(head: &[u8], sources: &Sources) -> Answer {
    let line = head.split(|it| *it == b'\r').next().unwrap_or_default();
    let mut words = line.split(|it| *it == b' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if method != b"GET" {
        return ("405 Method Not Allowed", TEXT, "only GET\n".to_owned());
    }
    match path {
        b"/metrics" => match metrics(sources).await {
            Ok(text) => ("200 OK", PROMETHEUS, text),
            Err(silent) => unhealthy(silent.to_string()),
        },
        b"/healthz" => match sources.control.vitals().await.map(|it| fault(&it)) {
            Ok(None) => ("200 OK", TEXT, "ok\n".to_owned()),
            Ok(Some(fault)) => unhealthy(fault),
            Err(silent) => unhealthy(silent.to_string()),
        },
        _ => (
            "404 Not Found",
            TEXT,
            "there are /metrics and /healthz\n".to_owned(),
        ),
    }
}

fn unhealthy(why: String) -> Answer {
    ("503 Service Unavailable", TEXT, why + "\n")
}

async fn metrics(sources: &Sources) -> Result<String, Silent> {
    let Sources {
        control,
        lease,
        counted,
        channel,
    } = sources;
    let status = control.status(lease.lease()).await?;
    let (ports, sas, vitals) = (
        control.counters().await?,
        control.sas(None).await?,
        control.vitals().await?,
    );
    let channel = channel.as_ref().map(|it| it.borrow().clone());
    Ok(render(&Numbers {
        status: &status,
        ports: &ports,
        sas: &sas,
        vitals: &vitals,
        counters: &counted.counters(),
        stats: &counted.stats(),
        channel: channel.as_ref(),
    }))
}

/// Why the dataplane isn't well.
fn fault(vitals: &Vitals) -> Option<String> {
    if vitals.worker_silent_ms > WORKER_SILENT_MS_MAX {
        return Some(format!(
            "the worker did not poll for {} ms",
            vitals.worker_silent_ms
        ));
    }
    vitals.checkpoint_fault.clone()
}
