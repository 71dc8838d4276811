//! ESP with the outer headers of what was opened before is for us, too.

use crate::batch::{Path, Slot};
use crate::meta::Meta;
use crate::port::{Frame, Port};
use crate::walk::Walk;
use crate::ways::{To, Way};
use crate::wire::parse::{Headers, parse_esp_again};

/// The outer headers of a frame that is yet to be opened.
pub(crate) struct Unknown {
    headers: Headers,
    meta: Meta,
}

/// Finds the frames of a burst from the wire that are ESP by their headers, as the parser and the
/// guard would: a bit for each.
pub(crate) fn find_known<P: Port>(walk: &mut Walk<'_, P>) -> u32 {
    let (ways, in_port, epoch) = (&*walk.ways, walk.batch.in_port, walk.handoff.epoch);
    let mut last: Option<&Way> = None;
    let (mut known, mut left) = (0, walk.batch.live);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let Some(slot) = walk.batch.slot(at) else {
            break;
        };
        let Some(bytes) = slot.frame.as_ref().map(Frame::bytes) else {
            continue;
        };
        let Some(headers) = Headers::read_esp(bytes) else {
            continue;
        };
        let before = last.filter(|it| it.headers.are(&headers));
        let way = before.or_else(|| ways.find(&headers, in_port, epoch));
        let Some(way) = way.filter(|it| matches!(it.to, To::Opening)) else {
            continue;
        };
        last = Some(way);
        slot.meta = way.meta;
        if parse_esp_again(bytes, &mut slot.meta) {
            slot.path = Path::Esp;
            known |= 1 << at;
        }
    }
    known
}

/// What is gone when it is opened.
pub(crate) fn unknown<F: Frame>(slot: &Slot<F>) -> Option<Unknown> {
    let headers = Headers::read_esp(slot.frame.as_ref()?.bytes())?;
    let meta = slot.meta;
    Some(Unknown { headers, meta })
}

/// Keeps what the headers of one that was opened come to. Only such are kept: who has no key
/// can't push out others'.
pub(crate) fn remember<P: Port>(walk: &mut Walk<'_, P>, it: Unknown) {
    walk.ways.keep(Way {
        headers: it.headers,
        in_port: walk.batch.in_port,
        epoch: walk.handoff.epoch,
        meta: it.meta,
        to: To::Opening,
    });
}
