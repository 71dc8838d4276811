//! Where frames come from and go to: the one trait that DPDK, AF_PACKET and the
//! simulator implement. Everything else in the walk is the same code on all of them.

/// Frames taken from or given to a port in one call, at most.
pub const BURST_MAX: usize = 32;

/// Free bytes a port leaves in front of a received frame: room for the widest
/// encapsulation (IPv6 40, UDP 8, ESP 16) with a margin.
pub const HEADROOM_MIN: usize = 128;

/// Free bytes a port leaves behind a received frame: ESP padding, trailer and ICV.
pub const TAILROOM_MIN: usize = 64;

/// One owned frame, Ethernet header first. Dropping it returns it to its pool.
pub trait Frame {
    /// The frame's bytes.
    fn bytes(&self) -> &[u8];

    /// The frame's bytes, to change in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `n` bytes at its front; their content is unspecified.
    /// `false`, and no change, if there is no room.
    #[must_use]
    fn grow_front(&mut self, n: usize) -> bool;

    /// Grows the frame by `n` bytes at its end; their content is unspecified.
    /// `false`, and no change, if there is no room.
    #[must_use]
    fn grow_back(&mut self, n: usize) -> bool;

    /// Cuts `n` bytes off the front; at most the frame's length.
    fn trim_front(&mut self, n: usize);

    /// Cuts the frame to its first `len` bytes; no effect if it is shorter.
    fn truncate(&mut self, len: usize);
}

/// A queue pair of a port, owned by one worker.
pub trait Port {
    /// What the port carries.
    type Frame: Frame;

    /// Hands at most [`BURST_MAX`] received frames to `each`.
    fn rx(&mut self, each: &mut impl FnMut(Self::Frame));

    /// Takes one frame to send; the frame, if the queue is full.
    ///
    /// # Errors
    /// The frame comes back when it was not taken.
    fn tx(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Ends a burst of [`Self::tx`] calls: whatever was taken leaves now.
    fn flush(&mut self);

    /// A fresh empty frame of `len` bytes with [`HEADROOM_MIN`] in front, zeroed,
    /// for frames the dataplane itself originates (ARP, ND, ICMP errors).
    fn alloc(&mut self, len: usize) -> Option<Self::Frame>;
}
