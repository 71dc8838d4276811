//! Worker threads: `std::thread`s that bind themselves to a CPU and register with DPDK.

use core::marker::PhantomData;

use sluice_dpdk_sys as sys;

use crate::eal::Eal;
use crate::errno::Errno;

/// Threads that can be registered in a process, the main one included, at most.
pub const LCORES_MAX: u32 = sys::RTE_MAX_LCORE;

/// While it is there, the thread that made it has a lcore id, and with it a cache of its own
/// in every pool; without, each frame taken or given is an operation on the pool's common
/// ring. Ends in its own thread only.
#[derive(Debug)]
pub struct Lcore {
    id: u32,
    _stays_in_its_thread: PhantomData<*const ()>,
}

/// A thread can't become a worker.
#[derive(Debug, thiserror::Error)]
pub enum LcoreError {
    /// The thread has a lcore id: DPDK's main thread has.
    #[error("this thread is lcore {0} already")]
    Registered(u32),
    /// The CPU isn't there, or isn't this process's.
    #[error("binding this thread to CPU {cpu}: {errno}")]
    Affinity {
        /// The CPU.
        cpu: u32,
        /// Why.
        errno: Errno,
    },
    /// DPDK refused: [`LCORES_MAX`] are registered.
    #[error("registering this thread with DPDK: {0}")]
    Register(Errno),
}

impl Lcore {
    /// Makes the calling thread a worker, on one CPU if one is given.
    ///
    /// # Errors
    /// [`LcoreError`]. After [`LcoreError::Register`] the thread stays bound to its CPU.
    pub fn enter(_up: &Eal, cpu: Option<u32>) -> Result<Self, LcoreError> {
        if let Some(id) = current() {
            return Err(LcoreError::Registered(id));
        }
        if let Some(cpu) = cpu {
            // SAFETY: no precondition; the shim checks the number.
            let refused = unsafe { sys::sluice_pin_thread(cpu) };
            if refused != 0 {
                let errno = Errno(refused);
                return Err(LcoreError::Affinity { cpu, errno });
            }
        }
        // SAFETY: the EAL is up (the argument); this thread isn't registered (above).
        if unsafe { sys::rte_thread_register() } != 0 {
            return Err(LcoreError::Register(Errno::last()));
        }
        Ok(Self {
            id: current().unwrap_or(sys::SLUICE_LCORE_NONE),
            _stays_in_its_thread: PhantomData,
        })
    }

    /// The thread's lcore id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: this thread registered in `enter`, and this value can't leave it.
        unsafe { sys::rte_thread_unregister() }
    }
}

fn current() -> Option<u32> {
    // SAFETY: reads a thread-local of this thread; no precondition.
    let id = unsafe { sys::sluice_lcore_id() };
    (id != sys::SLUICE_LCORE_NONE).then_some(id)
}
