//! The daemon put together: what is opened in which order, and what ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use miette::Diagnostic;
use serde::Serialize;
use sluice_dataplane_control::Former;
use sluice_offload_api::model::{Generation, PortCounters};
use tokio::sync::watch;

use crate::channel::{self, Joined};
use crate::checkpoint::Checkpoint;
use crate::config::{Config, PolicySource};
use crate::http::{Metrics, MetricsError, Sources};
use crate::keys::{KeyDriver, NoKeys, SaSender, StaticKeys, StaticSa};
use crate::live::{Ledger, LedgerError, LiveKeys, SaSocket};
use crate::ports::PortSet;
use crate::runtime::{Dataplane, Opening, Silent, StartError, WorkerEnd, check_roles};
use crate::serve::{self, LeaseClock, ListenError, Offload, TlsError};
use crate::spent::{Spent, SpentError};
use crate::statics::{self, StaticError, Statics, TransportEnds};

/// The daemon didn't start, or ended as it shouldn't. Nothing is left open.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum DaemonError {
    /// The files of static mode.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Static(#[from] StaticError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The agents' sockets.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The metrics' socket.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The node channel.
    #[error("the node channel: {0}")]
    Channel(#[from] sluice_node_channel::StartError),
    /// A key that was used before.
    #[error(transparent)]
    Spent(#[from] SpentError),
    /// Which keys were used isn't known, or one was.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Ports, threads, the first generation.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread.
    #[error("a thread of the dataplane broke; every port is closed; the log has the reason")]
    Broke,
    /// A thread.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The gRPC server.
    #[error("the gRPC server ended: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl DaemonError {
    /// Whether a person's file is at fault, and not the machine.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Static(_)
                | Self::Tls(_)
                | Self::Spent(SpentError::Used { .. })
                | Self::Ledger(LedgerError::Used { .. } | LedgerError::Broken { .. })
                | Self::Listen(ListenError::Tls(_))
                | Self::Channel(sluice_node_channel::StartError::Identity(_))
        )
    }
}

/// What a configuration leads to, before anything is opened.
struct Prepared {
    opening: Opening,
    /// SAs that a file gives.
    sas: Vec<StaticSa>,
    ends: TransportEnds,
}

fn prepare(config: &mut Config) -> Result<Prepared, DaemonError> {
    let ports = config.ports.clone();
    match &mut config.source {
        PolicySource::Static(fixed) => {
            let Statics { transaction, ends } = statics::read(fixed)?;
            let first = Some(transaction);
            let exit_when_idle = fixed.exit_when_idle;
            let sas = core::mem::take(&mut fixed.sas);
            let opening = Opening {
                first,
                former: Former::new(),
                checkpoint: None,
                checkpoint_fault: None,
                exit_when_idle,
            };
            Ok(Prepared { opening, sas, ends })
        }
        PolicySource::Listen(listen) => {
            if let Some(tcp) = &listen.tcp {
                drop(serve::acceptor(tcp)?);
            }
            let checkpoint = listen.checkpoint.clone().map(Checkpoint::new);
            let mut opening = Opening {
                first: None,
                former: Former::new(),
                checkpoint,
                checkpoint_fault: None,
                exit_when_idle: None,
            };
            if let Some(checkpoint) = &opening.checkpoint {
                let loaded = checkpoint.load().map_err(|error| error.to_string());
                let checked = loaded.and_then(|kept| match kept {
                    None => Ok(None),
                    Some(kept) => {
                        // Who is gone is gone, whatever the ports are.
                        opening.former = kept.former;
                        match check_roles(&kept.transaction, &ports) {
                            Ok(()) => Ok(Some(kept.transaction)),
                            Err(refusal) => Err(format!("it doesn't fit the ports: {refusal}")),
                        }
                    }
                });
                match checked {
                    Ok(first) => opening.first = first,
                    Err(why) => {
                        let path = checkpoint.path().display();
                        let fault = format!(
                            "the checkpoint {path} can't be used: {why}; every port stays \
                             closed until an agent programs this dataplane"
                        );
                        tracing::error!("{fault}");
                        opening.checkpoint_fault = Some(fault);
                    }
                }
            }
            Ok(Prepared {
                opening,
                sas: Vec::new(),
                ends: TransportEnds::default(),
            })
        }
    }
}

/// Checks everything that a configuration names, and opens nothing. What an operator should
/// know besides.
///
/// # Errors
/// [`DaemonError`].
pub fn check(mut config: Config) -> Result<Option<String>, DaemonError> {
    let fault = prepare(&mut config)?.opening.checkpoint_fault;
    if let Some(it) = &config.node_channel {
        sluice_node_channel::check(&it.channel)?;
    }
    Ok(fault)
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    dataplane: Dataplane,
    offload: Option<Offload>,
    sa_socket: Option<SaSocket>,
    metrics: Option<Metrics>,
    lease: Arc<LeaseClock>,
    channel: Option<Joined>,
}

/// Why a daemon ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// No frame came for as long as the configuration says.
    Idle,
    /// It was told to.
    Stopped,
}

/// What a daemon did in its life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub ended: Ended,
    /// The generation that was in force.
    pub generation: Generation,
    /// What went through the ports.
    pub ports: Vec<PortCounters>,
}

impl Daemon {
    /// Opens sockets, then ports, and returns when frames are received under the first
    /// generation; agents are let in by [`Self::run`]. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing is open then.
    pub async fn start<S: PortSet>(mut config: Config, set: S) -> Result<Self, DaemonError> {
        let Prepared { opening, sas, ends } = prepare(&mut config)?;
        let (offload, sa_socket) = match &config.source {
            PolicySource::Static(fixed) => (None, fixed.sa_socket.as_ref()),
            PolicySource::Listen(listen) => (Some(Offload::bind(listen)?), None),
        };
        let live = match sa_socket {
            None => None,
            Some(it) => Some((SaSocket::bind(it)?, Ledger::open(&it.used_keys)?)),
        };
        let metrics = config.metrics.map(Metrics::bind).transpose()?;
        let channel = match &config.node_channel {
            None => None,
            Some(it) => Some(sluice_node_channel::spawn(it.channel.clone()).await?),
        };
        let key_files: Vec<_> = sas.iter().map(|sa| sa.key_file.clone()).collect();
        let (sa_socket, static_keys): (_, Box<dyn KeyDriver>) = match live {
            Some((socket, ledger)) => {
                let keys = LiveKeys::new(sas, ends, ledger)?;
                (Some(socket), Box::new(keys))
            }
            None if sas.is_empty() => (None, Box::new(NoKeys)),
            None => (None, Box::new(StaticKeys::new(sas))),
        };
        let spent = Spent::mark(key_files.iter().map(PathBuf::as_path))?;
        let mut joined = None;
        let keys = |sender: SaSender| -> Box<dyn KeyDriver> {
            match (channel, &config.node_channel) {
                (Some(handle), Some(config)) => {
                    let (keys, channel) = channel::join(handle, config, sender);
                    joined = Some(channel);
                    Box::new(keys)
                }
                _ => static_keys,
            }
        };
        let dataplane = match Dataplane::start(&config, set, opening, keys) {
            Ok(dataplane) => dataplane,
            Err(error) => {
                // Without a port there was no worker.
                if matches!(error, StartError::Port(_)) {
                    spent.take_back();
                }
                return Err(error.into());
            }
        };
        Ok(Self {
            dataplane,
            offload,
            sa_socket,
            metrics,
            lease: Arc::default(),
            channel: joined,
        })
    }

    /// Where agents reach it by TCP.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.offload.as_ref()?.tcp_addr()
    }

    /// Where the metrics are.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.addr()
    }

    /// Serves until `shutdown`, or until the worker ends; then closes everything.
    ///
    /// # Errors
    /// [`DaemonError`] if it ended as it shouldn't.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Summary, DaemonError> {
        let Self {
            mut dataplane,
            offload,
            sa_socket,
            metrics,
            lease,
            channel,
        } = self;
        let client = dataplane.client().clone();
        let sources = Sources {
            control: client.clone(),
            lease: Arc::clone(&lease),
            counted: dataplane.counted().clone(),
            channel: channel.as_ref().map(|it| it.status.clone()),
        };
        let keyless = async {
            match channel {
                Some(joined) => drop(joined.relay.await),
                None => core::future::pending().await,
            }
        };
        let (stop, stopped) = watch::channel(false);
        let (sas_client, sas_stopped) = (client.clone(), stopped.clone());
        let taking_sas = async {
            match sa_socket {
                Some(socket) => socket.serve(sas_client, sas_stopped).await,
                None => core::future::pending().await,
            }
        };
        let serving = async {
            match offload {
                Some(offload) => {
                    offload
                        .serve(client.clone(), Arc::clone(&lease), stopped)
                        .await
                }
                None => core::future::pending().await,
            }
        };
        let showing = async {
            match metrics {
                Some(metrics) => metrics.serve(sources).await,
                None => core::future::pending().await,
            }
        };
        let ended = tokio::select! {
            end = dataplane.ended() => match end {
                Some(WorkerEnd::Idle) => Ended::Idle,
                Some(WorkerEnd::Stopped) => Ended::Stopped,
                None => return Err(DaemonError::Broke),
            },
            served = serving => {
                served?;
                Ended::Stopped
            }
            () = taking_sas => Ended::Stopped,
            () = showing => Ended::Stopped,
            // What nobody can retire any more would be used to its limit.
            () = keyless => return Err(DaemonError::Broke),
            () = shutdown => Ended::Stopped,
        };
        drop(stop);
        tracing::info!(?ended, "closing every port");
        dataplane.stop_worker();
        dataplane.ended().await;
        // The control thread is still there to read what the worker counted last.
        let generation = client.status(lease.lease()).await?.generation;
        let ports = client.counters().await?;
        dataplane.stop();
        Ok(Summary {
            ended,
            generation,
            ports,
        })
    }
}
