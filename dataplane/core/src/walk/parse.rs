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
        match wire::parse(frame.bytes()) {
            Ok(meta) => slot.meta = meta,
            Err(reason) => walk.drop(at, reason),
        }
    });
}
