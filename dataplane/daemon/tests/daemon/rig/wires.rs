//! Ports in memory that another thread fills and empties.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use sluice_dataplane::config::Config;
use sluice_dataplane::ports::{Links, PortError, PortSet};
use sluice_dataplane_core::mem::{MemFrame, MemPool};
use sluice_dataplane_core::port::{BURST_MAX, Frame, Port};

type Bytes = Vec<u8>;

/// The test's ends of all ports, in the configuration's order.
pub(crate) struct Wires {
    ports: Vec<(Sender<Bytes>, Receiver<Bytes>)>,
    /// How many ports are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl Wires {
    pub(crate) fn send(&self, port: usize, frame: Vec<u8>) {
        self.ports[port].0.send(frame).unwrap();
    }

    /// The next frame that came out of a port.
    pub(crate) fn receive(&self, port: usize) -> Vec<u8> {
        self.ports[port]
            .1
            .recv_timeout(super::PATIENCE)
            .expect("no frame came")
    }

    pub(crate) fn try_receive(&self, port: usize) -> Option<Vec<u8>> {
        self.ports[port].1.try_recv().ok()
    }

    /// Frames that the daemon hasn't received yet.
    pub(crate) fn backlog(&self, port: usize) -> usize {
        self.ports[port].0.len()
    }
}

/// The daemon's ends.
pub(crate) struct MemSet {
    ports: Vec<(Receiver<Bytes>, Sender<Bytes>)>,
    open: Arc<AtomicUsize>,
    /// Fails instead of opening.
    pub(crate) broken: bool,
}

pub(crate) fn wires(count: usize) -> (Wires, MemSet) {
    let open = Arc::<AtomicUsize>::default();
    let (mut outer, mut inner) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let ((to, received), (sent, from)) = (unbounded(), unbounded());
        outer.push((to, from));
        inner.push((received, sent));
    }
    let wires = Wires {
        ports: outer,
        open: Arc::clone(&open),
    };
    (
        wires,
        MemSet {
            ports: inner,
            open,
            broken: false,
        },
    )
}

pub(crate) struct Up(usize);

impl Links for Up {
    fn up(&mut self) -> Vec<bool> {
        vec![true; self.0]
    }
}

impl PortSet for MemSet {
    type Port = WirePort;
    type Seat = ();
    type Links = Up;

    fn open(&mut self, config: &Config) -> Result<Up, PortError> {
        if self.broken {
            return Err(PortError::new("port vf0", "no such wire"));
        }
        assert_eq!(config.ports.len(), self.ports.len());
        Ok(Up(self.ports.len()))
    }

    fn enter(self) -> Result<((), Vec<WirePort>), PortError> {
        let pool = MemPool::new(64);
        let port = |(rx, tx)| {
            self.open.fetch_add(1, Ordering::SeqCst);
            WirePort {
                rx,
                tx,
                pool: pool.clone(),
                open: Arc::clone(&self.open),
            }
        };
        Ok(((), self.ports.into_iter().map(port).collect()))
    }
}

pub(crate) struct WirePort {
    rx: Receiver<Vec<u8>>,
    tx: Sender<Vec<u8>>,
    pool: MemPool,
    open: Arc<AtomicUsize>,
}

impl Drop for WirePort {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Port for WirePort {
    type Frame = MemFrame;

    fn rx(&mut self, each: &mut impl FnMut(MemFrame)) {
        for bytes in self.rx.try_iter().take(BURST_MAX) {
            each(self.pool.frame(&bytes).unwrap());
        }
    }

    fn tx(&mut self, frame: MemFrame) -> Result<(), MemFrame> {
        self.tx.send(frame.bytes().to_vec()).map_err(|_| frame)
    }

    fn flush(&mut self) {}

    fn alloc(&mut self, len: usize) -> Option<MemFrame> {
        let mut frame = self.pool.frame(&vec![0; len])?;
        frame.bytes_mut().fill(0);
        Some(frame)
    }
}
