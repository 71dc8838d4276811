//! Rekeys as two nodes do them over the node channel: a TLS session with a fresh post-quantum key
//! exchange and the certificates of both, the exchange on it, SAs in and out at both ends. Both
//! nodes run on one thread, and what counts is its CPU time: in between they wait for old SAs to
//! be silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process};

use anyhow::{Context, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyPair, KeyUsagePurpose,
};
use sluice_crypto::esp::Spi;
use sluice_node_channel::{
    Command, Config, Event, Files, Handle, SpiffeId, Status, TrustDomain, make_key_and_request,
    spawn,
};
use sluice_offload_api::model::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

/// How long an old SA has to be silent, and how often it is told whether it was.
const DRAIN_MS: u64 = 4;
const REPORT_EVERY: Duration = Duration::from_millis(2);
/// For one rekey, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rekeys that are measured, at least.
const REKEYS_MIN: u32 = 3;

/// CPU time of one rekey, both ends together, as the mean of those in `share`.
///
/// # Errors
/// Files that can't be written, nodes that come to no keys.
pub(super) fn rekey(share: Duration) -> anyhow::Result<Duration> {
    let folder = Folder::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    runtime.block_on(measure(&folder.0, share))
}

/// Rekeys while the same thread does something else.
pub(super) struct Loaded {
    /// One after another.
    pub(super) rekeys: u32,
    /// What was done between their steps.
    pub(super) passes: u32,
    /// All of it.
    pub(super) took: Duration,
}

/// Rekeys for `share`, with a call of `pass` between any two steps of theirs.
///
/// # Errors
/// Files that can't be written, nodes that come to no keys.
pub(super) fn rekey_under(share: Duration, mut pass: impl FnMut()) -> anyhow::Result<Loaded> {
    let folder = Folder::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    // What has come is looked for after each pass.
    let runtime = { runtime }.enable_all().event_interval(1).build()?;
    runtime.block_on(async {
        let [a, b] = settle(&folder.0).await?;
        let (begun, mut passes) = (Instant::now(), 0);
        let load = async {
            loop {
                pass();
                passes += 1;
                tokio::task::yield_now().await;
            }
        };
        let rekeys = tokio::select! {
            rekeys = rekey_for(&a, &b, share) => rekeys?,
            () = load => 0,
        };
        let took = begun.elapsed();
        Ok(Loaded {
            rekeys,
            passes,
            took,
        })
    })
}

async fn measure(folder: &Path, share: Duration) -> anyhow::Result<Duration> {
    let [a, b] = settle(folder).await?;
    let cpu = thread_cpu()?;
    let count = rekey_for(&a, &b, share).await?;
    Ok((thread_cpu()? - cpu) / count)
}

/// Two nodes that have keys.
async fn settle(folder: &Path) -> anyhow::Result<[Node; 2]> {
    let [a, b] = start(folder).await?;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let (node, management) = (other.name.clone(), other.listen);
        let peer = Command::PeerAdded { node, management };
        one.commands.send(peer).await?;
    }
    settled(&a, &b, 1).await?;
    Ok([a, b])
}

/// One rekey after another; how many they were.
async fn rekey_for(a: &Node, b: &Node, share: Duration) -> anyhow::Result<u32> {
    let (begun, mut count) = (Instant::now(), 0);
    while count < REKEYS_MIN || begun.elapsed() < share {
        let node = b.name.clone();
        a.commands.send(Command::Rekey { node }).await?;
        count += 1;
        settled(a, b, u64::from(count) + 1).await?;
    }
    Ok(count)
}

/// Until that many pairs have been in use, and one is left.
async fn settled(a: &Node, b: &Node, times: u64) -> anyhow::Result<()> {
    for (it, peer) in [(a, &b.name), (b, &a.name)] {
        let is = |s: &Status| {
            let peer = s.peers.get(peer);
            peer.is_some_and(|it| it.established >= times && it.receiving.len() == 1)
        };
        let mut status = it.status.clone();
        let waited = timeout(PATIENCE, status.wait_for(is)).await;
        waited.with_context(|| format!("no keys in {PATIENCE:?}"))??;
    }
    Ok(())
}

/// A node with its dataplane left out.
struct Node {
    name: NodeName,
    listen: SocketAddr,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

/// Two nodes with certificates of one CA.
async fn start(folder: &Path) -> anyhow::Result<[Node; 2]> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let domain = TrustDomain::new("bench.invalid")?;
    let anchors = folder.join("anchors.pem");
    fs::write(&anchors, ca.pem())?;
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let name = NodeName::from(name);
        let path = |what: &str| folder.join(format!("{}.{what}.pem", name.0));
        let files = Files {
            svid: path("svid"),
            key: path("key"),
            anchors: anchors.clone(),
        };
        let id = SpiffeId::of_node(&domain, &name)?;
        let request = make_key_and_request(&files.key, &id)?;
        let request = CertificateSigningRequestParams::from_pem(&request)?;
        fs::write(&files.svid, request.signed_by(&ca)?.pem())?;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(name.clone(), domain.clone(), listen, files);
        config.timing.drain_ms = DRAIN_MS;
        let handle = spawn(config).await?;
        nodes.push(Node {
            name,
            listen: handle.listen,
            commands: handle.commands.clone(),
            status: handle.status.clone(),
        });
        tokio::spawn(follow(handle));
    }
    <[_; 2]>::try_from(nodes).map_err(|_| anyhow::anyhow!("two nodes"))
}

/// Does at once whatever the channel asks of a dataplane, and tells what SAs have opened: nothing.
async fn follow(mut handle: Handle) {
    let mut held: BTreeMap<Spi, NodeName> = BTreeMap::new();
    let mut reports = tokio::time::interval(REPORT_EVERY);
    loop {
        let event = tokio::select! {
            event = handle.events.recv() => event,
            _ = reports.tick() => {
                for (spi, node) in &held {
                    let (node, spi, asked) = (node.clone(), *spi, Instant::now());
                    let used = Command::InboundUsed { node, spi, packets: 0, asked };
                    // Without room there will be others.
                    drop(handle.commands.try_send(used));
                }
                continue;
            }
        };
        let answer = match event {
            Some(Event::InstallInbound { node, sa }) => {
                held.insert(sa.spi, node.clone());
                Command::InboundInstalled { node, spi: sa.spi }
            }
            Some(Event::InstallOutbound { node, sa }) => {
                Command::OutboundInstalled { node, spi: sa.spi }
            }
            Some(Event::RetireInbound { spi, .. }) => {
                held.remove(&spi);
                continue;
            }
            Some(_) => continue,
            None => return,
        };
        if handle.commands.send(answer).await.is_err() {
            return;
        }
    }
}

/// CPU time of this thread (proc_pid_schedstat, first field, ns).
fn thread_cpu() -> anyhow::Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let ns = text.split(' ').next().and_then(|it| it.parse().ok());
    let ns = ns.with_context(|| format!("{path} has no number"))?;
    ensure!(
        ns > 0,
        "{path} counts nothing: the kernel was built without"
    );
    Ok(Duration::from_nanos(ns))
}

/// A folder of the process's own, gone with this: a key is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("sluice-bench-keys-{}", process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
