//! The frames of one burst on their way through the stages.

use crate::flow::table::Found;
use crate::frag::DatagramSlot;
use crate::meta::Meta;
use crate::port::BURST_MAX;
use crate::route::Attach;
use crate::snapshot::PortIndex;
use crate::ways::Step;

/// Which way through the stages a frame takes; the guard decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// A packet of a flow with an endpoint of this node: tracked and judged.
    Tracked,
    /// ESP for this dataplane: opened first.
    Esp,
    /// A router's word that what this dataplane sealed was too big.
    TooBig,
    /// A later fragment of such a packet: goes where its first went.
    Later,
    /// Between this node itself and another node's pod: no endpoint here judges it, but
    /// it is sealed or was opened.
    Routed,
    /// Between host and uplink, and no business of ours: leaves as it came.
    Unchanged,
}

/// One frame's place in the batch.
#[derive(Debug)]
pub(crate) struct Slot<F> {
    pub(crate) frame: Option<F>,
    pub(crate) meta: Meta,
    pub(crate) path: Path,
    pub(crate) from: Attach,
    pub(crate) to: Attach,
    pub(crate) found: Option<Found>,
    /// Of a first fragment.
    pub(crate) datagram: Option<DatagramSlot>,
    /// A fragment that the worker who gathers its datagram has handed to this one.
    pub(crate) collected: bool,
    pub(crate) opened: Option<Opened>,
}

impl<F> Slot<F> {
    /// Where those like it went before.
    #[inline]
    pub(crate) fn step(&self) -> Option<Step> {
        self.opened?.step
    }
}

/// What is known of a packet that came out of an SA in tunnel mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// As the ESP trailer has it.
    pub(crate) next_header: u8,
    /// Where those with its headers went before.
    pub(crate) step: Option<Step>,
}

/// Up to [`BURST_MAX`] frames of one port; a bit of `live` for each that is still on its
/// way.
#[derive(Debug)]
pub(crate) struct Batch<F> {
    pub(crate) in_port: PortIndex,
    pub(crate) live: u32,
    /// Frames whose flow is unknown or was judged by another generation.
    pub(crate) judge: u32,
    /// Frames that are ESP for us, of the live ones: mostly none or all.
    pub(crate) esp: u32,
    /// Frames with a router's word on the size of what we sealed, of the live ones.
    pub(crate) too_big: u32,
    /// First fragments whose datagrams wait to hear what became of them.
    pub(crate) firsts: u32,
    slots: [Slot<F>; BURST_MAX],
}

impl<F> Batch<F> {
    pub(crate) fn new() -> Self {
        let nowhere = Attach::Port(PortIndex(u16::MAX));
        Self {
            in_port: PortIndex(0),
            live: 0,
            judge: 0,
            esp: 0,
            too_big: 0,
            firsts: 0,
            slots: core::array::from_fn(|_| Slot {
                frame: None,
                meta: Meta::default(),
                path: Path::Tracked,
                from: nowhere,
                to: nowhere,
                found: None,
                datagram: None,
                collected: false,
                opened: None,
            }),
        }
    }

    /// Starts over for a burst of another port.
    pub(crate) fn begin(&mut self, in_port: PortIndex) {
        self.in_port = in_port;
        self.live = 0;
        self.judge = 0;
        self.esp = 0;
        self.too_big = 0;
        self.firsts = 0;
    }

    /// Leaves only these frames on their way; the others are for [`Self::go_on`].
    pub(crate) const fn only(&mut self, mask: u32) -> u32 {
        let others = self.live & !mask;
        self.live &= mask;
        others
    }

    /// Puts frames on their way that have waited for those before them to have gone theirs.
    pub(crate) const fn go_on(&mut self, others: u32) {
        self.live = others;
        self.judge = 0;
        self.esp = 0;
        self.too_big = 0;
        self.firsts = 0;
    }

    /// Adds a frame; it comes back if the batch is full.
    #[inline]
    pub(crate) fn push(&mut self, frame: F) -> Result<(), F> {
        let at = self.live.trailing_ones() as usize;
        let from = Attach::Port(self.in_port);
        let Some(slot) = self.slots.get_mut(at) else {
            return Err(frame);
        };
        slot.frame = Some(frame);
        slot.from = from;
        // Until the guard has said so it isn't anybody's.
        slot.path = Path::Unchanged;
        slot.found = None;
        slot.datagram = None;
        slot.collected = false;
        slot.opened = None;
        self.live |= 1 << at;
        Ok(())
    }

    /// The place of the frame that was added last, if none was taken off since.
    #[inline]
    pub(crate) fn last(&mut self) -> Option<&mut Slot<F>> {
        let at = self.live.trailing_ones().checked_sub(1)?;
        self.slots.get_mut(at as usize)
    }

    /// What was read of the frames in `mask`, dropped ones too.
    #[inline]
    pub(crate) fn metas(&self, mask: u32) -> impl Iterator<Item = &Meta> + Clone {
        let slots = self.slots.iter().enumerate();
        let wanted = slots.filter(move |(at, _)| mask >> at & 1 == 1);
        wanted.map(|(_, slot)| &slot.meta)
    }

    #[inline]
    pub(crate) fn slot(&mut self, at: usize) -> Option<&mut Slot<F>> {
        self.slots.get_mut(at)
    }

    /// The first frame that is on its way.
    #[inline]
    pub(crate) fn first(&self) -> Option<(usize, &F)> {
        let at = self.live.trailing_zeros() as usize;
        Some((at, self.frame(at)?))
    }

    /// The first frame that is on its way, if its way is known.
    #[inline]
    pub(crate) fn first_step(&self) -> Option<(usize, Step)> {
        let at = self.live.trailing_zeros() as usize;
        Some((at, self.slots.get(at)?.step()?))
    }

    /// A frame that is on its way.
    #[inline]
    pub(crate) fn frame(&self, at: usize) -> Option<&F> {
        self.slots.get(at)?.frame.as_ref()
    }

    /// Takes a frame off its way.
    #[inline]
    pub(crate) fn take(&mut self, at: usize) -> Option<F> {
        self.live &= !(1 << at);
        self.slots.get_mut(at)?.frame.take()
    }
}
