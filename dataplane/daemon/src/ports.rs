//! The seam to real ports: DPDK in production, queues in memory in tests.

use core::time::Duration;

use sluice_dataplane_core::port::Port;

use crate::config::Config;

/// A port that was asked for isn't there. Its text names the port.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct PortError {
    /// What failed: `port uplink (net_af_packet0,iface=up0)`.
    pub what: String,
    /// Why.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

impl PortError {
    /// An error about something.
    pub fn new(
        what: impl Into<String>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            error: error.into(),
        }
    }
}

/// All ports of a configuration, before they are there.
///
/// Two steps, because devices come up on the starting thread and their queues belong to the
/// workers'.
pub trait PortSet: Sized {
    /// One worker's queues.
    type Queues: Queues;
    /// The way to ask the ports' links.
    type Links: Links;

    /// Brings up every port of `config`, in its order, with queues for each worker, or none.
    ///
    /// # Errors
    /// [`PortError`]; nothing is open then.
    fn open(self, config: &Config) -> Result<(Self::Links, Vec<Self::Queues>), PortError>;
}

/// One worker's queues of all ports.
pub trait Queues: Send + 'static {
    /// A queue pair of a port. One worker hands frames to another.
    type Port: Port<Frame: Send>;
    /// Whatever has to be alive in the worker's thread as long as the ports are.
    type Seat;

    /// Hands them over in the worker's thread, in the configuration's order.
    ///
    /// # Errors
    /// [`PortError`]; they are closed then.
    fn enter(self) -> Result<(Self::Seat, Vec<Self::Port>), PortError>;
}

/// Asks ports, from another thread than the workers'.
pub trait Links: Send + 'static {
    /// Whether each port's link is up, in the configuration's order.
    fn up(&mut self) -> Vec<bool>;

    /// Frames that the devices lost before or after the walk, in the configuration's order:
    /// what no counter of the walk can know.
    fn lost(&mut self) -> Vec<DeviceLoss> {
        Vec::new()
    }
}

/// Frames that a device lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceLoss {
    /// Received, but nobody took them in time, or there was no memory, or they were broken.
    pub rx: u64,
    /// Taken for sending, and not sent.
    pub tx: u64,
}

/// A port that receives nothing until policy and keys are in force. What waits in the device
/// meanwhile is judged afterwards like anything else.
#[derive(Debug)]
pub(crate) struct Gated<P> {
    port: P,
    open: bool,
}

impl<P> Gated<P> {
    pub(crate) const fn new(port: P) -> Self {
        Self { port, open: false }
    }

    pub(crate) const fn open(&mut self) {
        self.open = true;
    }
}

impl<P: Port> Port for Gated<P> {
    type Frame = P::Frame;

    fn rx(&mut self, each: &mut impl FnMut(P::Frame)) {
        if self.open {
            self.port.rx(each);
        }
    }

    fn tx(&mut self, frame: P::Frame) -> Result<(), P::Frame> {
        self.port.tx(frame)
    }

    fn flush(&mut self) {
        self.port.flush();
    }

    fn alloc(&mut self, len: usize) -> Option<P::Frame> {
        self.port.alloc(len)
    }
}

/// How long opening ports may take before it counts as failed.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(60);
