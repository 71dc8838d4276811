//! One owned frame in one mbuf.

use core::fmt;
use core::mem;
use core::ptr::NonNull;
use core::slice;

use sluice_dataplane_core::port::Frame;
use sluice_dpdk_sys as sys;

/// A frame whose bytes lie in one piece in one mbuf that nobody else holds.
///
/// Ownership is by type: giving one to a driver consumes it ([`Self::into_raw`]), dropping
/// one gives its mbuf back to its pool. What a driver hands over becomes one only through
/// [`Self::admit`].
///
/// ```text
/// buf_addr          data_off                      buf_len
///     |--- headroom ---|--- bytes (data_len) ---|-- tailroom --|
/// ```
///
/// Invariant, from [`Self::from_raw`] to the end: the mbuf is held once (`refcnt` 1), is
/// direct, has one segment, `pkt_len == data_len`, and `data_off + data_len <= buf_len`.
#[repr(transparent)]
pub struct DpdkFrame(NonNull<sys::rte_mbuf>);

// SAFETY: nobody else holds the mbuf (invariant), and its pool may be given to from any
// thread (see `Pool`).
unsafe impl Send for DpdkFrame {}

/// Why a received mbuf did not become a frame. It was given back to its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Several segments that don't fit in the first.
    Segmented,
    /// Held by others too, or its bytes are another's: writing into it isn't ours.
    Shared,
    /// The driver took the VLAN tag off: the bytes don't say what the wire said.
    VlanStripped,
    /// Lengths that don't agree.
    Inconsistent,
}

/// How a received mbuf became a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// As it came.
    Single,
    /// Its segments were copied into the first.
    Linearized,
}

const NOT_OURS: u64 = sys::SLUICE_MBUF_INDIRECT | sys::SLUICE_MBUF_EXTERNAL;

impl DpdkFrame {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `raw` points to an mbuf of a [`crate::pool::Pool`] that the caller owns and gives up,
    /// and for which the invariant of [`DpdkFrame`] holds.
    pub(crate) const unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    /// The mbuf, for who takes over: not given back to its pool.
    pub(crate) const fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        let raw = self.0;
        mem::forget(self);
        raw
    }

    /// Makes a received mbuf a frame, if it is one we may read and write in one piece.
    ///
    /// # Safety
    /// `raw` points to an mbuf that a driver or DPDK made and the caller owns and gives up.
    #[inline]
    pub(crate) unsafe fn admit(raw: NonNull<sys::rte_mbuf>) -> Result<(Self, Shape), Refusal> {
        // Dropped on every way out but the last: gives the mbuf back. Until the checks are
        // through only its header is read, which needs no more than ownership.
        let frame = Self(raw);
        let header = frame.header();
        if header.ol_flags & NOT_OURS != 0 || header.refcnt != 1 {
            return Err(Refusal::Shared);
        }
        if header.ol_flags & sys::SLUICE_MBUF_VLAN_STRIPPED != 0 {
            return Err(Refusal::VlanStripped);
        }
        let mut shape = Shape::Single;
        if header.nb_segs != 1 {
            // SAFETY: the mbuf is ours (caller); the first segment, which is written to, is
            // direct and not shared (checked above).
            if unsafe { sys::sluice_mbuf_linearize(frame.0.as_ptr()) } != 0 {
                return Err(Refusal::Segmented);
            }
            shape = Shape::Linearized;
        }
        let header = frame.header();
        let end = u32::from(header.data_off) + u32::from(header.data_len);
        if end > u32::from(header.buf_len) || header.pkt_len != u32::from(header.data_len) {
            return Err(Refusal::Inconsistent);
        }
        Ok((frame, shape))
    }

    #[inline]
    const fn header(&self) -> &sys::rte_mbuf {
        // SAFETY: the mbuf is live until this is dropped, and nobody else writes to it
        // (invariant; in `admit`, its caller's ownership).
        unsafe { self.0.as_ref() }
    }

    #[inline]
    const fn header_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: as in `header`; `&mut self` is the only way to it.
        unsafe { self.0.as_mut() }
    }

    #[inline]
    const fn start(&self) -> *mut u8 {
        let header = self.header();
        header
            .buf_addr
            .cast::<u8>()
            .wrapping_add(header.data_off as usize)
    }

    /// The caller keeps the invariant: `len` bytes from `off` are in the buffer.
    #[inline]
    fn set(&mut self, off: u16, len: u16) {
        let header = self.header_mut();
        header.data_off = off;
        header.data_len = len;
        header.pkt_len = u32::from(len);
    }
}

impl Drop for DpdkFrame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this owns the mbuf and ends here; pools outlive the process's frames.
        unsafe { sys::sluice_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for DpdkFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpdkFrame({} bytes)", self.header().data_len)
    }
}

impl Frame for DpdkFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: data_off + data_len <= buf_len (invariant), so the bytes are in the mbuf's
        // buffer, which is mapped memory that the kernel zeroed once; nobody writes to it
        // while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.start(), len) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: as in `bytes`; `&mut self` makes it the only reference.
        unsafe { slice::from_raw_parts_mut(self.start(), len) }
    }

    #[inline]
    fn grow_front(&mut self, n: usize) -> bool {
        let header = self.header();
        let (off, len) = (header.data_off, header.data_len);
        let Ok(n) = u16::try_from(n) else {
            return false;
        };
        let (Some(off), Some(len)) = (off.checked_sub(n), len.checked_add(n)) else {
            return false;
        };
        self.set(off, len);
        true
    }

    #[inline]
    fn grow_back(&mut self, n: usize) -> bool {
        let header = self.header();
        let (off, len, room) = (header.data_off, header.data_len, header.buf_len);
        let Some(len) = u16::try_from(n).ok().and_then(|n| len.checked_add(n)) else {
            return false;
        };
        if u32::from(off) + u32::from(len) > u32::from(room) {
            return false;
        }
        self.set(off, len);
        true
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        let (off, len) = (self.header().data_off, self.header().data_len);
        let n = u16::try_from(n).map_or(len, |n| n.min(len));
        // data_off + data_len fits in buf_len, a u16, so the sum below does too.
        self.set(off.saturating_add(n), len - n);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let (off, held) = (self.header().data_off, self.header().data_len);
        let len = u16::try_from(len).map_or(held, |len| len.min(held));
        self.set(off, len);
    }
}
