//! Ports in memory that another thread fills and empties.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use sluice_dataplane::config::Config;
use sluice_dataplane::ports::{Links, PortError, PortSet, Queues};
use sluice_dataplane_core::port::{BURST_MAX, Frame, HEADROOM_MIN, Port, TAILROOM_MIN};

type Bytes = Vec<u8>;

/// The same tests run over one worker, and over several as `crew`.
pub(crate) const WORKERS: usize = if matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"crew") {
    3
} else {
    1
};

/// The queue that a card brings a frame to: always the same for the same addresses and ports,
/// and no other rule.
fn queue(frame: &[u8]) -> usize {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    let (start, len) = if is_v4 { (26, 12) } else { (22, 36) };
    let tuple = frame.iter().skip(start).take(len);
    let sum = tuple.fold(7usize, |sum, it| sum * 31 % 65_521 + usize::from(*it));
    sum.checked_rem(WORKERS).unwrap_or(0)
}

/// The test's ends of all ports, in the configuration's order.
pub(crate) struct Wires {
    ports: Vec<(Vec<Sender<Bytes>>, Receiver<Bytes>)>,
    /// How many ports are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl Wires {
    pub(crate) fn send(&self, port: usize, frame: Vec<u8>) {
        self.ports[port].0[queue(&frame)].send(frame).unwrap();
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
        self.ports[port].0.iter().map(Sender::len).sum()
    }
}

/// The daemon's ends.
pub(crate) struct MemSet {
    ports: Vec<(Vec<Receiver<Bytes>>, Sender<Bytes>)>,
    open: Arc<AtomicUsize>,
    /// Fails instead of opening.
    pub(crate) broken: bool,
}

pub(crate) fn wires(count: usize) -> (Wires, MemSet) {
    let open = Arc::<AtomicUsize>::default();
    let (mut outer, mut inner) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (to, received) = (0..WORKERS).map(|_| unbounded()).unzip();
        let (sent, from) = unbounded();
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
    type Queues = MemQueues;
    type Links = Up;

    fn open(self, config: &Config) -> Result<(Up, Vec<MemQueues>), PortError> {
        if self.broken {
            return Err(PortError::new("port vf0", "no such wire"));
        }
        assert_eq!(config.ports.len(), self.ports.len());
        let workers = usize::from(config.worker.count());
        let queues = (0..workers).map(|worker| {
            let its = |all: &[Receiver<Bytes>]| {
                let all = all.iter().skip(worker).step_by(workers);
                all.cloned().collect()
            };
            let ports = self.ports.iter();
            MemQueues {
                ports: ports.map(|(rx, tx)| (its(rx), tx.clone())).collect(),
                open: Arc::clone(&self.open),
            }
        });
        Ok((Up(self.ports.len()), queues.collect()))
    }
}

/// One worker's ends.
pub(crate) struct MemQueues {
    ports: Vec<(Vec<Receiver<Bytes>>, Sender<Bytes>)>,
    open: Arc<AtomicUsize>,
}

impl Queues for MemQueues {
    type Port = WirePort;
    type Seat = ();

    fn enter(self) -> Result<((), Vec<WirePort>), PortError> {
        let port = |(rx, tx)| {
            self.open.fetch_add(1, Ordering::SeqCst);
            WirePort {
                rx,
                tx,
                open: Arc::clone(&self.open),
            }
        };
        Ok(((), self.ports.into_iter().map(port).collect()))
    }
}

pub(crate) struct WirePort {
    rx: Vec<Receiver<Bytes>>,
    tx: Sender<Vec<u8>>,
    open: Arc<AtomicUsize>,
}

impl Drop for WirePort {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Port for WirePort {
    type Frame = WireFrame;

    fn rx(&mut self, each: &mut impl FnMut(WireFrame)) {
        let waiting = self.rx.iter().flat_map(Receiver::try_iter);
        for bytes in waiting.take(BURST_MAX) {
            each(WireFrame::new(&bytes));
        }
    }

    fn tx(&mut self, frame: WireFrame) -> Result<(), WireFrame> {
        self.tx.send(frame.bytes().to_vec()).map_err(|_| frame)
    }

    fn flush(&mut self) {}

    fn alloc(&mut self, len: usize) -> Option<WireFrame> {
        Some(WireFrame::new(&vec![0; len]))
    }
}

/// A frame that one thread may hand to another.
pub(crate) struct WireFrame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl WireFrame {
    fn new(bytes: &[u8]) -> Self {
        let (start, end) = (HEADROOM_MIN, HEADROOM_MIN + bytes.len());
        let mut buffer = vec![0; end + TAILROOM_MIN];
        buffer[start..end].copy_from_slice(bytes);
        Self { buffer, start, end }
    }
}

impl Frame for WireFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let fits = n <= self.start;
        self.start -= if fits { n } else { 0 };
        fits
    }

    fn grow_back(&mut self, n: usize) -> bool {
        let fits = self.end + n <= self.buffer.len();
        self.end += if fits { n } else { 0 };
        fits
    }

    fn trim_front(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}
