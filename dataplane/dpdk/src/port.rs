//! A queue pair of a device as the walk's [`Port`].

use core::ptr::NonNull;
use std::sync::Arc;

use sluice_dataplane_core::counters::Counter;
use sluice_dataplane_core::port::{BURST_MAX, Port};
use sluice_dpdk_sys as sys;

use crate::frame::{DpdkFrame, Refusal, Shape};
use crate::pool::Pool;
use crate::probe::OpenPort;

#[allow(clippy::cast_possible_truncation, reason = "32")]
pub(crate) const BURST: u16 = BURST_MAX as u16;

/// Flushes in a row in which the driver takes nothing, at most; then the frame at the head
/// is dropped. Some drivers never take a frame that they can't send, and all behind it would
/// wait for ever.
pub const STUCK_FLUSHES_MAX: u32 = 4096;

/// What a port did that the walk doesn't see: written by the port's worker, read by anyone.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Received frames of several segments that were joined.
    pub rx_linearized: Counter,
    /// Received frames of several segments that don't fit in one: dropped.
    pub rx_segmented: Counter,
    /// Received frames that others hold too: dropped.
    pub rx_shared: Counter,
    /// Received frames whose VLAN tag the driver took off: dropped.
    pub rx_vlan_stripped: Counter,
    /// Received frames whose lengths don't agree: dropped.
    pub rx_inconsistent: Counter,
    /// Flushes that left frames behind because the driver took no more.
    pub tx_stalled: Counter,
    /// Frames not taken because the backlog was full; the walk counts them as `tx-full`.
    pub tx_refused: Counter,
    /// Frames not taken because they are longer than the driver sends; the walk counts them
    /// as `tx-full` too.
    pub tx_too_long: Counter,
    /// Frames dropped after the driver took nothing for [`STUCK_FLUSHES_MAX`] flushes.
    pub tx_stuck: Counter,
    /// Frames that were taken and still waited when the port was dropped.
    pub tx_abandoned: Counter,
}

impl PortCounters {
    /// Received frames that were dropped before the walk could see them.
    #[must_use]
    pub fn rx_dropped(&self) -> u64 {
        [
            &self.rx_segmented,
            &self.rx_shared,
            &self.rx_vlan_stripped,
            &self.rx_inconsistent,
        ]
        .into_iter()
        .map(Counter::read)
        .sum()
    }
}

/// An mbuf out of a [`DpdkFrame`]: the backlog's, until a driver takes it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Waiting(NonNull<sys::rte_mbuf>);

/// One queue pair, used by one worker.
///
/// [`Port::tx`] puts frames in the backlog; [`Port::flush`], or a full backlog, gives them to
/// the driver in bursts. What the driver takes has left our hands; the rest stays, in order,
/// for the next flush. After its start it allocates nothing.
#[derive(Debug)]
pub struct DpdkPort {
    open: Arc<OpenPort>,
    queue: u16,
    pool: Pool,
    /// Never longer than the capacity it was made with.
    backlog: Vec<Waiting>,
    backlog_max: usize,
    /// Bytes of the longest frame that the driver sends.
    tx_len_max: u32,
    /// Flushes since the driver last took a frame while some waited.
    stuck: u32,
    counters: Arc<PortCounters>,
}

// SAFETY: the mbufs in the backlog are as good as `DpdkFrame`s, which are Send; the queue is
// used through `&mut self` only, and DPDK doesn't mind which thread that is.
unsafe impl Send for DpdkPort {}

impl DpdkPort {
    /// The only port on `queue` of the device.
    pub(crate) fn new(open: Arc<OpenPort>, queue: u16, pool: Pool, backlog_max: usize) -> Self {
        let tx_len_max = open.tx_len_max();
        Self {
            tx_len_max,
            stuck: 0,
            open,
            queue,
            pool,
            backlog: Vec::with_capacity(backlog_max),
            backlog_max,
            counters: Arc::default(),
        }
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> Arc<PortCounters> {
        Arc::clone(&self.counters)
    }

    /// Frames that wait for the driver.
    #[must_use]
    pub const fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Gives the backlog to the driver, in bursts, until it is empty or the driver takes
    /// none. Ends: each round but the last takes at least one frame.
    fn drain(&mut self) {
        while !self.backlog.is_empty() {
            let n = self.backlog.len().min(BURST_MAX);
            #[allow(clippy::cast_possible_truncation, reason = "at most BURST_MAX")]
            let n = n as u16;
            let frames = self.backlog.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            // SAFETY: `frames` are n mbufs of the backlog (`Waiting` is a pointer,
            // transparently) that nobody else holds; the device is started while `open` is
            // there; this is the queue's only user (`&mut self`).
            let taken = unsafe { sys::sluice_tx_burst(self.open.id(), self.queue, frames, n) };
            // Those up to `taken` are the driver's now: forgotten here, freed by it.
            self.backlog.drain(..usize::from(taken.min(n)));
            if taken == 0 {
                return;
            }
        }
    }

    /// Drops the frame at the head of the backlog once the driver has not taken it for long.
    #[cold]
    fn give_up(&mut self) {
        self.counters.tx_stalled.add(1);
        if self.stuck < STUCK_FLUSHES_MAX {
            return;
        }
        self.stuck = 0;
        let Waiting(raw) = self.backlog.remove(0);
        self.counters.tx_stuck.add(1);
        // SAFETY: it came out of a `DpdkFrame` in `tx` and no driver took it.
        drop(unsafe { DpdkFrame::from_raw(raw) });
    }

    fn refuse(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Segmented => &self.counters.rx_segmented,
            Refusal::Shared => &self.counters.rx_shared,
            Refusal::VlanStripped => &self.counters.rx_vlan_stripped,
            Refusal::Inconsistent => &self.counters.rx_inconsistent,
        };
        counter.add(1);
    }
}

impl Port for DpdkPort {
    type Frame = DpdkFrame;

    #[inline]
    fn rx(&mut self, each: &mut impl FnMut(DpdkFrame)) {
        let mut burst = [core::ptr::null_mut(); BURST_MAX];
        let frames = burst.as_mut_ptr();
        // SAFETY: `frames` has room for BURST pointers; the device is started while `open`
        // is there; this is the queue's only user (`&mut self`).
        let n = unsafe { sys::sluice_rx_burst(self.open.id(), self.queue, frames, BURST) };
        for raw in burst.into_iter().take(usize::from(n)) {
            let Some(raw) = NonNull::new(raw) else {
                continue;
            };
            // SAFETY: the first n pointers are mbufs that the driver gave up to us.
            match unsafe { DpdkFrame::admit(raw) } {
                Ok((frame, Shape::Single)) => each(frame),
                Ok((frame, Shape::Linearized)) => {
                    self.counters.rx_linearized.add(1);
                    each(frame);
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
    }

    #[inline]
    fn tx(&mut self, frame: DpdkFrame) -> Result<(), DpdkFrame> {
        if frame.len() > self.tx_len_max {
            self.counters.tx_too_long.add(1);
            return Err(frame);
        }
        if self.backlog.len() >= self.backlog_max {
            self.drain();
            if self.backlog.len() >= self.backlog_max {
                self.counters.tx_refused.add(1);
                return Err(frame);
            }
        }
        self.backlog.push(Waiting(frame.into_raw()));
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let waiting = self.backlog.len();
        self.drain();
        let left = self.backlog.len();
        self.stuck = if left < waiting { 0 } else { self.stuck + 1 };
        if left != 0 {
            self.give_up();
        }
    }

    fn alloc(&mut self, len: usize) -> Option<DpdkFrame> {
        self.pool.alloc(len)
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        self.drain();
        self.counters.tx_abandoned.add(self.backlog.len() as u64);
        for Waiting(raw) in self.backlog.drain(..) {
            // SAFETY: it came out of a `DpdkFrame` in `tx` and no driver took it.
            drop(unsafe { DpdkFrame::from_raw(raw) });
        }
    }
}
