//! Stage parse: every frame's offsets and tuple, or the reason it has none.

use crate::port::{Frame, Port};
use crate::walk::Walk;
use crate::wire;

pub(crate) fn parse<P: Port>(walk: &mut Walk<'_, P>) {
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.slot(at) else { return };
        let Some(frame) = slot.frame.as_ref() else {
            return;
        };
        if let Err(reason) = wire::parse_into(frame.bytes(), &mut slot.meta) {
            walk.drop(at, reason);
        }
    });
}
