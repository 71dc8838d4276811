//! Bursts over ports in memory. Only what a worker does is on the clock: how frames get
//! into and out of memory is not what a NIC does.

use std::time::Duration;

use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::port::{BURST_MAX, Port};

use crate::bed::{Bed, UPLINK, VF0};
use crate::timing::timed;

/// One burst of a frame of a pod through a bed.
pub fn through(bed: &mut Bed, frame: &[u8]) -> Duration {
    for _ in 0..BURST_MAX {
        bed.deliver(VF0, frame);
    }
    let spent = timed(|| bed.poll());
    assert_eq!(bed.discard(), BURST_MAX, "none lost");
    spent
}

/// One burst that node B sealed for A, through A.
pub fn opened(b: &mut Bed, a: &mut Bed, frame: &[u8]) -> Duration {
    for _ in 0..BURST_MAX {
        b.deliver(VF0, frame);
    }
    b.poll();
    for sealed in b.collect(UPLINK) {
        a.deliver(UPLINK, &sealed);
    }
    b.discard();
    let spent = timed(|| a.poll());
    assert_eq!(a.collect(VF0).len(), BURST_MAX, "none lost");
    a.discard();
    spent
}

/// Two ports in memory and nothing between them.
#[derive(Debug)]
pub struct Noop {
    pool: MemPool,
    ports: [MemPort; 2],
}

impl Default for Noop {
    fn default() -> Self {
        let pool = MemPool::new(BURST_MAX * 2);
        let ports = [(); 2].map(|()| MemPort::new(&pool, BURST_MAX));
        Self { pool, ports }
    }
}

impl Noop {
    /// One burst from a receive queue to a transmit queue and nothing more.
    pub fn moved(&mut self, frame: &[u8]) -> Duration {
        let [from, to] = &mut self.ports;
        for _ in 0..BURST_MAX {
            from.deliver(self.pool.frame(frame).expect("short enough"));
        }
        let spent = timed(|| {
            from.rx(&mut |frame| drop(to.tx(frame)));
            to.flush();
        });
        let moved = core::iter::from_fn(|| to.collect()).count();
        assert_eq!(moved, BURST_MAX, "none lost");
        spent
    }
}
