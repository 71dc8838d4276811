//! Where frames live.

use core::ptr::NonNull;
use std::ffi::CString;

use sluice_dataplane_core::port::{Frame, HEADROOM_MIN, TAILROOM_MIN};
use sluice_dpdk_sys as sys;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::frame::DpdkFrame;

const HEADROOM: usize = sys::RTE_PKTMBUF_HEADROOM as usize;
// Drivers put a frame that far into its buffer, and the walk counts on the room.
const _: () = assert!(HEADROOM >= HEADROOM_MIN);

/// Bytes that XDP keeps in front of a frame, beside our headroom.
const XDP_HEADROOM: usize = 256;

/// Frames that a thread keeps at hand for itself, at most.
pub const CACHE_MAX: u32 = sys::RTE_MEMPOOL_CACHE_MAX_SIZE;

/// Bytes of a buffer behind its headroom, at least. `net_af_packet` refuses less than one of
/// its kernel's slots (`framesz`, 2048 unless said otherwise), `net_af_xdp` less than 2048.
pub const ROOM_MIN: usize = 2048;

/// What a pool is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolConfig<'a> {
    /// Its name, at most 20 bytes; a process has one pool of a name.
    pub name: &'a str,
    /// Frames in all. Each queue's descriptors, each backlog and each thread's cache hold
    /// some. One less than a power of two wastes least.
    pub frames: u32,
    /// The longest frame in bytes, Ethernet header and tags included.
    pub frame_len_max: u16,
    /// Frames that a registered thread keeps at hand: at most [`CACHE_MAX`], and less than
    /// two thirds of `frames`.
    pub cache: u32,
}

/// Frames of one size, in memory that is never given back: what a frame points to is there
/// as long as the process, without a reference count a frame. Make pools once, at the start.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    raw: NonNull<sys::rte_mempool>,
    frames: u32,
}

// SAFETY: a mempool may be used from any thread at any time: its common store is a
// multi-producer multi-consumer ring (rte_pktmbuf_pool_create's default), its caches belong
// to one lcore id each. It lives as long as the process.
unsafe impl Send for Pool {}
// SAFETY: as for Send.
unsafe impl Sync for Pool {}

/// A pool can't be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "a pool {name:?} of {frames} frames of {frame_len_max} bytes (in all {} MiB and more) \
     can't be made: {errno}",
    (u64::from(*frames) * u64::from(*frame_len_max)) >> 20
)]
pub struct PoolError {
    /// Its name.
    pub name: String,
    /// Frames asked for.
    pub frames: u32,
    /// Bytes of each.
    pub frame_len_max: u16,
    /// Why.
    pub errno: Errno,
}

/// `EINVAL` on every Linux.
const INVALID: Errno = Errno(22);

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// [`PoolError`]: too little memory, a name in use, a size that can't be.
    pub fn new(_up: &Eal, config: &PoolConfig<'_>) -> Result<Self, PoolError> {
        let refused = |errno| PoolError {
            name: config.name.to_owned(),
            frames: config.frames,
            frame_len_max: config.frame_len_max,
            errno,
        };
        let room = usize::from(config.frame_len_max) + XDP_HEADROOM + TAILROOM_MIN;
        let room = HEADROOM + room.max(ROOM_MIN);
        let room = u16::try_from(room).map_err(|_| refused(INVALID))?;
        let name = CString::new(config.name).map_err(|_| refused(INVALID))?;
        // SAFETY: the EAL is up (the argument); the name is NUL-terminated and copied; DPDK
        // checks the numbers itself.
        let raw = unsafe {
            sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                config.frames,
                config.cache,
                0,
                room,
                sys::SLUICE_SOCKET_ANY,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| refused(Errno::last()))?;
        Ok(Self {
            raw,
            frames: config.frames,
        })
    }

    /// Frames in all.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Frames that nobody holds: as many as [`Self::frames`] when no frame is out. Exact
    /// only while no other thread takes or gives.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as the process; only its counts are read.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// An empty frame of `len` zeroed bytes; `None` if the pool is dry or `len` is too much.
    #[must_use]
    pub fn alloc(&self, len: usize) -> Option<DpdkFrame> {
        // SAFETY: the pool lives as long as the process and was made for mbufs.
        let raw = unsafe { sys::sluice_mbuf_alloc(self.raw.as_ptr()) };
        let raw = NonNull::new(raw)?;
        // SAFETY: a fresh mbuf is direct, of one segment, held by nobody else, and its empty
        // data lies in its buffer (rte_pktmbuf_alloc).
        let mut frame = unsafe { DpdkFrame::from_raw(raw) };
        if !frame.grow_back(len) {
            return None;
        }
        frame.bytes_mut().fill(0);
        Some(frame)
    }

    /// A frame with these bytes; `None` as for [`Self::alloc`].
    #[must_use]
    pub fn frame(&self, bytes: &[u8]) -> Option<DpdkFrame> {
        let mut frame = self.alloc(bytes.len())?;
        frame.bytes_mut().copy_from_slice(bytes);
        Some(frame)
    }

    pub(crate) const fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}
