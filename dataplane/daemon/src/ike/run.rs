//! The loop: a line, what it leads to, the next line.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use sluice_crypto::scrub_stack;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::client::{Client, ClientError};
use super::follow::{Action, Follower, Way};
use super::log::{Log, LogError};
use super::thread::{ChildId, Keyed};
use crate::live::wire::{Add, Remove, Request};

/// What charon doesn't know of an SA.
#[derive(Clone, Debug)]
pub struct SaSetup {
    /// Peers' nodes by the names of their children; those that aren't here have their own.
    pub nodes: BTreeMap<String, String>,
    /// In transport mode the pod that charon speaks for, by its address.
    pub transport: Option<IpAddr>,
    /// ESP in UDP.
    pub udp_encap: bool,
    /// Replay window.
    pub window: Option<usize>,
    /// An SA ends after so long, whatever charon says.
    pub life: Duration,
    /// And after so many packets,
    pub packets_max: Option<u64>,
    /// or bytes.
    pub bytes_max: Option<u64>,
}

/// Why it ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The dataplane.
    #[error(
        "{0}. Start it, then this program with a charon that has no SAs yet: it agrees on new keys"
    )]
    Dataplane(#[from] ClientError),
    /// charon.
    #[error(
        "charon has ended, or closed its log. The dataplane's SAs stay until they reach their \
         limits; start charon and this program again: they are replaced by new ones"
    )]
    CharonEnded,
}

/// Follows a log until it ends.
///
/// # Errors
/// [`RunError`]; it never ends otherwise.
pub async fn run(log: &mut Log, client: &mut Client, setup: &SaSetup) -> RunError {
    let mut follower = Follower::default();
    let began = Instant::now();
    loop {
        let due = follower.due();
        let until = async {
            match due.and_then(|it| began.checked_add(it)) {
                Some(due) => tokio::time::sleep_until(due).await,
                None => core::future::pending().await,
            }
        };
        // Lines first: they put off what is due.
        let line = tokio::select! {
            biased;
            gone = client.closed() => return gone.into(),
            line = log.next() => Some(line),
            () = until => None,
        };
        let now = began.elapsed();
        let actions = match line {
            Some(Ok(Some(line))) => follower.on_line(line, now),
            Some(Ok(None)) => return RunError::CharonEnded,
            Some(Err(error)) => return LogError::Io(error).into(),
            None => follower.on_time(now),
        };
        // Not a line more until this is done: charon waits.
        for action in actions {
            let done = carry_out(action, client, setup).await;
            scrub_stack();
            if let Err(error) = done {
                return error.into();
            }
        }
    }
}

async fn carry_out(
    action: Action,
    client: &mut Client,
    setup: &SaSetup,
) -> Result<(), ClientError> {
    match action {
        Action::Add(child, way, spi, keyed) => add(&child, (way, spi), &keyed, client, setup).await,
        Action::Remove(child, way, spi) => remove(&child, (way, spi), client, setup).await,
        Action::Unclear(why) => {
            tracing::error!("an SA of charon's isn't used: {why}");
            Ok(())
        }
        Action::NoHold => {
            tracing::error!(
                "charon's log doesn't tell how messages are made: set `enc = 3` for it, or packets \
                 can be lost in a rekey"
            );
            Ok(())
        }
        Action::TooMany => {
            tracing::error!("an SA of charon's isn't used: it has too many");
            Ok(())
        }
    }
}

const fn direction(way: Way) -> &'static str {
    match way {
        Way::In => "inbound",
        Way::Out => "outbound",
    }
}

fn node<'a>(child: &'a ChildId, setup: &'a SaSetup) -> &'a str {
    setup.nodes.get(&child.name).unwrap_or(&child.name)
}

async fn add(
    child: &ChildId,
    (way, spi): (Way, u32),
    keyed: &Keyed,
    client: &mut Client,
    setup: &SaSetup,
) -> Result<(), ClientError> {
    let keymat = hex(&keyed.keymat);
    let request = Request::Add(Add {
        direction: direction(way),
        peer: node(child, setup),
        spi,
        algorithm: keyed.algorithm.name(),
        keymat: &keymat,
        esn: keyed.esn,
        mode: setup.transport.map(|_| "transport"),
        pod: setup.transport,
        window: setup.window.filter(|_| way == Way::In),
        udp_encap: (way == Way::Out).then_some(setup.udp_encap),
        packets_max: setup.packets_max,
        bytes_max: setup.bytes_max,
        seconds_max: Some(setup.life.as_secs()),
    });
    let (way, node) = (direction(way), node(child, setup));
    let spi = format_args!("{spi:#010x}").to_string();
    match client.change(&request).await? {
        Ok(()) => tracing::info!(%child, node, way, spi, "in force"),
        Err(refusal) => tracing::error!(
            %child, node, way, spi,
            "the dataplane refuses an SA of charon's, which the peer may use: {}", refusal.message
        ),
    }
    Ok(())
}

async fn remove(
    child: &ChildId,
    (way, spi): (Way, u32),
    client: &mut Client,
    setup: &SaSetup,
) -> Result<(), ClientError> {
    let request = Request::Remove(Remove {
        direction: direction(way),
        peer: node(child, setup),
        spi,
    });
    let (way, node) = (direction(way), node(child, setup));
    let spi = format_args!("{spi:#010x}").to_string();
    match client.change(&request).await? {
        Ok(()) => tracing::info!(%child, node, way, spi, "gone"),
        // A sending SA that was replaced, or one that was refused.
        Err(refusal) if refusal.reason == "no-such-sa" => {}
        Err(refusal) => {
            tracing::error!(%child, node, way, spi, "an SA stays: {}", refusal.message);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    out
}

/// A charon that this program has started.
///
/// # Errors
/// Those of starting it.
pub fn start_charon(
    command: &[std::ffi::OsString],
) -> io::Result<(tokio::process::Child, std::os::fd::OwnedFd)> {
    let (log, stdout) = io::pipe()?;
    let (program, words) = command
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let child = tokio::process::Command::new(program)
        .args(words)
        .stdin(std::process::Stdio::null())
        .stdout(stdout)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, log.into()))
}
