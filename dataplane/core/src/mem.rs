//! Ports in memory: for the simulator, for tests and for benches. Frames come from a pool
//! and go back to it, so a warmed worker over them allocates nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::port::{BURST_MAX, Frame, HEADROOM_MIN, Port, TAILROOM_MIN};

/// The longest frame in bytes that fits: a 9216-byte packet, its Ethernet header, a tag.
pub const FRAME_LEN_MAX: usize = 9216 + 18;

const BUFFER_LEN: usize = HEADROOM_MIN + FRAME_LEN_MAX + TAILROOM_MIN;

/// Frames that a transmit queue has room for at first.
const TX_AT_FIRST: usize = 4 * BURST_MAX;

type Buffers = Rc<RefCell<Vec<Box<[u8]>>>>;

/// Buffers that are not in use.
#[derive(Clone, Debug, Default)]
pub struct MemPool(Buffers);

impl MemPool {
    /// A pool with so many buffers ready; more are made when it runs dry.
    #[must_use]
    pub fn new(ready: usize) -> Self {
        let pool = Self::default();
        pool.0
            .borrow_mut()
            .extend((0..ready).map(|_| vec![0u8; BUFFER_LEN].into_boxed_slice()));
        pool
    }

    /// Buffers ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.0.borrow().len()
    }

    /// A frame with these bytes; `None` if they are more than [`FRAME_LEN_MAX`].
    #[must_use]
    pub fn frame(&self, bytes: &[u8]) -> Option<MemFrame> {
        let mut frame = self.empty(bytes.len())?;
        frame.bytes_mut().copy_from_slice(bytes);
        Some(frame)
    }

    fn empty(&self, len: usize) -> Option<MemFrame> {
        if len > FRAME_LEN_MAX {
            return None;
        }
        let ready = self.0.borrow_mut().pop();
        let buffer = ready.unwrap_or_else(|| vec![0u8; BUFFER_LEN].into_boxed_slice());
        Some(MemFrame {
            buffer,
            start: HEADROOM_MIN,
            len,
            home: self.clone(),
        })
    }
}

/// A frame in memory.
#[derive(Debug)]
pub struct MemFrame {
    buffer: Box<[u8]>,
    start: usize,
    len: usize,
    home: MemPool,
}

impl Drop for MemFrame {
    fn drop(&mut self) {
        self.home
            .0
            .borrow_mut()
            .push(core::mem::take(&mut self.buffer));
    }
}

impl Frame for MemFrame {
    fn bytes(&self) -> &[u8] {
        self.buffer
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let Some(start) = self.start.checked_sub(n) else {
            return false;
        };
        self.start = start;
        self.len += n;
        true
    }

    fn grow_back(&mut self, n: usize) -> bool {
        if self.start + self.len + n > self.buffer.len() {
            return false;
        }
        self.len += n;
        true
    }

    fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// A port in memory: two queues that a driver fills and empties.
#[derive(Debug)]
pub struct MemPort {
    rx: VecDeque<MemFrame>,
    tx: VecDeque<MemFrame>,
    tx_max: usize,
    pool: MemPool,
}

impl MemPort {
    /// A port whose transmit queue holds `tx_max` frames.
    #[must_use]
    pub fn new(pool: &MemPool, tx_max: usize) -> Self {
        Self {
            rx: VecDeque::with_capacity(BURST_MAX),
            // More is made when that many wait: a simulator has thousands of ports, and hardly
            // any of them ever sends more than a burst or two before it is emptied.
            tx: VecDeque::with_capacity(tx_max.min(TX_AT_FIRST)),
            tx_max,
            pool: pool.clone(),
        }
    }

    /// Puts a frame where the worker will receive it.
    pub fn deliver(&mut self, frame: MemFrame) {
        self.rx.push_back(frame);
    }

    /// Frames that the worker hasn't received yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.rx.len()
    }

    /// Takes the next frame that the worker sent.
    pub fn collect(&mut self) -> Option<MemFrame> {
        self.tx.pop_front()
    }
}

impl Port for MemPort {
    type Frame = MemFrame;

    fn rx(&mut self, each: &mut impl FnMut(MemFrame)) {
        for _ in 0..BURST_MAX {
            let Some(frame) = self.rx.pop_front() else {
                return;
            };
            each(frame);
        }
    }

    fn tx(&mut self, frame: MemFrame) -> Result<(), MemFrame> {
        if self.tx.len() >= self.tx_max {
            return Err(frame);
        }
        self.tx.push_back(frame);
        Ok(())
    }

    fn flush(&mut self) {}

    fn alloc(&mut self, len: usize) -> Option<MemFrame> {
        let mut frame = self.pool.empty(len)?;
        frame.bytes_mut().fill(0);
        Some(frame)
    }
}
