//! ESP in transport mode: the packet keeps its IP header, and what that carries is sealed.
//!
//! ```text
//!   whole    | IP header |                  | payload |
//!   sealed   | IP header | UDP | ESP header | payload, sealed | trailer, ICV |
//!                        |<-- inserted ---->|
//! ```
//!
//! In place: the header moves by what is inserted, the payload stays where it is.

use core::ops::Range;

use sluice_crypto::esp::{
    self, ESP_HEADER_LEN, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, Opened, OutboundSa, Transport,
    TransportError,
};

use crate::meta::Meta;
use crate::port::Frame;
use crate::reason::DropReason;
use crate::walk::seal::reason_of;
use crate::wire::ethernet;

/// Seals what a frame that is one whole IP packet carries, and leaves room for an Ethernet
/// header in front.
pub(super) fn seal<F: Frame>(
    sa: &mut OutboundSa,
    mode: Transport,
    frame: &mut F,
    meta: &Meta,
) -> Result<(), DropReason> {
    let header_len = meta.l3_header_len();
    let payload_len = meta.l3_len() - header_len;
    let inserted = mode.header_len() + ESP_HEADER_LEN;
    let front = ethernet::HEADER_LEN + inserted;
    if !frame.grow_front(front) || !frame.grow_back(OutboundSa::trailer_len(payload_len)) {
        return Err(DropReason::NoHeadroom);
    }
    let bytes = frame.bytes_mut();
    let header = front..front + header_len;
    move_bytes(bytes, header, ethernet::HEADER_LEN).ok_or(DropReason::NoHeadroom)?;
    let esp_off = ethernet::HEADER_LEN + header_len + mode.header_len();
    let (headers, esp) = bytes
        .split_at_mut_checked(esp_off)
        .ok_or(DropReason::NoHeadroom)?;
    let header = headers
        .get_mut(ethernet::HEADER_LEN..)
        .ok_or(DropReason::NoHeadroom)?;
    // Before a number is spent: all that can be wrong with the packet is wrong here.
    let next_header = mode
        .shield(header, esp.len())
        .map_err(|error| match error {
            TransportError::Fragment => DropReason::Fragment,
            TransportError::TooLong { .. } => DropReason::TooBig,
            TransportError::NotIp => DropReason::Malformed,
        })?;
    sa.seal(esp, payload_len, next_header).map_err(reason_of)?;
    Ok(())
}

/// A packet that is whole again: where it lies in its frame, and its version as a next header.
pub(super) struct Restored {
    pub(super) packet: Range<usize>,
    pub(super) next_header: u8,
}

/// Puts the IP header of an opened packet, of which `outer` tells, in front of what ESP
/// carried. `esp_off` is where the ESP header was.
pub(super) fn restore(
    frame: &mut [u8],
    outer: &Meta,
    esp_off: usize,
    opened: &Opened,
) -> Result<Restored, DropReason> {
    let header_len = outer.l3_header_len();
    let payload = esp_off + opened.inner.start..esp_off + opened.inner.end;
    let start = payload
        .start
        .checked_sub(header_len)
        .ok_or(DropReason::InnerMalformed)?;
    let header = usize::from(outer.l3_off)..usize::from(outer.l4_off);
    move_bytes(frame, header, start).ok_or(DropReason::InnerMalformed)?;
    let header = frame
        .get_mut(start..payload.start)
        .ok_or(DropReason::InnerMalformed)?;
    esp::unshield(header, payload.len(), opened.next_header)
        .map_err(|_| DropReason::InnerMalformed)?;
    Ok(Restored {
        packet: start..payload.end,
        next_header: if outer.src.is_v4() {
            NEXT_HEADER_IPV4
        } else {
            NEXT_HEADER_IPV6
        },
    })
}

/// Moves bytes within a frame; `None`, and no change, if they or their new place lie outside.
fn move_bytes(bytes: &mut [u8], from: Range<usize>, to: usize) -> Option<()> {
    bytes.get(from.clone())?;
    bytes.get(to..to.checked_add(from.len())?)?;
    bytes.copy_within(from, to);
    Some(())
}
