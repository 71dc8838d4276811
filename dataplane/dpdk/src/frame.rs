//! One owned frame in one mbuf.

use core::fmt;
use core::mem;
use core::ptr::NonNull;
use core::slice;

use sluice_dataplane_core::port::Frame;
use sluice_dpdk_sys as sys;

/// A frame whose bytes lie in one piece in one mbuf that nobody else holds.
///
/// Ownership is by type: giving one to a driver consumes it (`into_raw`), dropping
/// one gives its mbuf back to its pool. What a driver hands over becomes one only through
/// `admit`.
///
/// ```text
/// buf_addr          data_off                      buf_len
///     |--- headroom ---|--- bytes (data_len) ---|-- tailroom --|
/// ```
///
/// Invariant, from `from_raw` to the end: the mbuf is held once (`refcnt` 1), is
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
            // Less than the first segment has: DPDK would take the difference for room.
            if header.pkt_len < u32::from(header.data_len) {
                return Err(Refusal::Inconsistent);
            }
            // SAFETY: the mbuf is ours (caller), and its chain a driver's word; the first
            // segment, which is written to, is direct and not shared (checked above).
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

    /// Its bytes in number.
    #[inline]
    pub(crate) const fn len(&self) -> u32 {
        self.header().pkt_len
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::testing;

    /// The mbuf of a frame of 100 bytes, and `more` zeroed bytes in a second segment.
    fn chain(pool: &Pool, more: u16) -> NonNull<sys::rte_mbuf> {
        let raw = pool.frame(&[7; 100]).unwrap().into_raw();
        // SAFETY: the mbuf is ours (into_raw), the pool lives as long as the process.
        let refused = unsafe { sys::sluice_mbuf_append_segment(raw.as_ptr(), pool.as_ptr(), more) };
        assert_eq!(refused, 0);
        raw
    }

    fn admit(raw: NonNull<sys::rte_mbuf>) -> Result<(DpdkFrame, Shape), Refusal> {
        // SAFETY: the tests give up what they own.
        unsafe { DpdkFrame::admit(raw) }
    }

    /// Every way out of `admit` gives each segment back exactly once.
    fn balanced(pool: &Pool) {
        assert_eq!(pool.available(), pool.frames());
    }

    #[test]
    fn a_frame_is_its_bytes_and_goes_back_to_its_pool() {
        let pool = testing::pool("bytes");
        let frame = pool.frame(&[1, 2, 3]).unwrap();
        assert_eq!(pool.available(), pool.frames() - 1);
        assert_eq!(frame.bytes(), [1, 2, 3]);
        drop(frame);
        balanced(&pool);
        assert_eq!(pool.alloc(9).unwrap().bytes(), [0; 9], "zeroed");
        assert!(pool.alloc(60_000).is_none());
        balanced(&pool);
    }

    #[test]
    fn a_dry_pool_gives_nothing() {
        let pool = testing::pool("dry");
        let all: Vec<_> = (0..pool.frames()).map(|_| pool.alloc(1)).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(pool.alloc(1).is_none());
        drop(all);
        balanced(&pool);
    }

    /// A frame and a model of it, through a fixed stream of operations.
    #[test]
    fn growing_and_cutting_keep_to_the_buffer_and_to_the_bytes() {
        let pool = testing::pool("model");
        let room = usize::from(pool.alloc(0).unwrap().header().buf_len);
        for seed in 1..50u64 {
            let mut frame = pool.frame(&[9; 64]).unwrap();
            let (mut front, mut model) = (128, vec![9; 64]);
            let mut state = seed;
            for _ in 0..400 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(seed);
                let n = usize::try_from(state >> 33).unwrap() % 200;
                match state % 4 {
                    0 => {
                        assert_eq!(frame.grow_front(n), n <= front);
                        if n <= front {
                            frame.bytes_mut()[..n].fill(3);
                            front -= n;
                            model.splice(0..0, vec![3; n]);
                        }
                    }
                    1 => {
                        let fits = front + model.len() + n <= room;
                        assert_eq!(frame.grow_back(n), fits);
                        if fits {
                            let len = model.len();
                            frame.bytes_mut()[len..].fill(5);
                            model.resize(len + n, 5);
                        }
                    }
                    2 => {
                        frame.trim_front(n);
                        front += n.min(model.len());
                        model.drain(..n.min(model.len()));
                    }
                    _ => {
                        frame.truncate(n + 60);
                        model.truncate(n + 60);
                    }
                }
                assert_eq!(frame.bytes(), model, "seed {seed}");
            }
            assert!(!frame.grow_front(usize::MAX) && !frame.grow_back(usize::MAX));
            frame.trim_front(usize::MAX);
            assert!(frame.bytes().is_empty());
        }
        balanced(&pool);
    }

    #[test]
    fn segments_that_fit_are_joined() {
        let pool = testing::pool("joined");
        let (frame, shape) = admit(chain(&pool, 500)).unwrap();
        assert_eq!(shape, Shape::Linearized);
        assert_eq!(frame.bytes(), [[7; 100].as_slice(), &[0; 500]].concat());
        assert_eq!(pool.available(), pool.frames() - 1, "the second is free");
        drop(frame);
        balanced(&pool);
    }

    #[test]
    fn segments_that_do_not_fit_are_refused_whole() {
        let pool = testing::pool("apart");
        assert_eq!(admit(chain(&pool, 2040)).unwrap_err(), Refusal::Segmented);
        balanced(&pool);
    }

    #[test]
    fn a_chain_shorter_than_its_first_segment_is_refused() {
        let pool = testing::pool("short");
        let mut raw = chain(&pool, 500);
        // SAFETY: the mbuf is ours, and nobody else refers to it.
        unsafe { raw.as_mut() }.pkt_len = 99;
        assert_eq!(admit(raw).unwrap_err(), Refusal::Inconsistent);
        balanced(&pool);
    }

    #[test]
    fn a_frame_that_others_hold_is_refused_and_left_to_them() {
        let pool = testing::pool("shared");
        let raw = pool.frame(&[1; 60]).unwrap().into_raw();
        // SAFETY: the mbuf is ours.
        unsafe { sys::sluice_mbuf_refcnt_add(raw.as_ptr(), 1) };
        assert_eq!(admit(raw).unwrap_err(), Refusal::Shared);
        assert_eq!(pool.available(), pool.frames() - 1, "the other holds it");
        // SAFETY: the other holder's share, given up here.
        let frame = unsafe { DpdkFrame::from_raw(raw) };
        assert_eq!(frame.bytes(), [1; 60]);
        drop(frame);
        balanced(&pool);
    }

    #[test]
    fn a_frame_whose_header_does_not_say_what_its_bytes_are_is_refused() {
        let pool = testing::pool("header");
        let spoilt = |spoil: fn(&mut sys::rte_mbuf)| {
            let mut frame = pool.frame(&[1; 60]).unwrap();
            spoil(frame.header_mut());
            let refusal = admit(frame.into_raw()).unwrap_err();
            balanced(&pool);
            refusal
        };
        let stripped = spoilt(|header| header.ol_flags |= sys::SLUICE_MBUF_VLAN_STRIPPED);
        assert_eq!(stripped, Refusal::VlanStripped);
        let longer = spoilt(|header| header.pkt_len += 1);
        assert_eq!(longer, Refusal::Inconsistent);
        let beyond = spoilt(|header| {
            header.data_len = header.buf_len;
            header.pkt_len = u32::from(header.buf_len);
        });
        assert_eq!(beyond, Refusal::Inconsistent);
    }
}
