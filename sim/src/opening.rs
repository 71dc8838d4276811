//! Opens the ESP packets of a capture with a key file: a debugging aid, and the other end
//! of the tests against foreign implementations. Uses the dataplane's own SA and parser.

use core::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;
use sluice_crypto::esp::{InboundSa, OpenError, PORT_NAT_T, UdpEncap, esp_in_udp};
use sluice_crypto::replay::{ReplayWindow, WindowError};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::wire;

use crate::esp_sa::KeyLine;

/// UDP's header, in bytes.
const UDP_LEN: usize = 8;

/// What a capture held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenRecord {
    /// ESP packets that opened, in order.
    pub opened: Vec<OpenedFrame>,
    /// ESP packets that didn't.
    pub refused: Vec<RefusedFrame>,
    /// Frames whose headers can't be read, cut ones for example.
    pub malformed: Vec<RefusedFrame>,
    /// Frames that are no ESP.
    pub other: usize,
}

/// An ESP packet that opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenedFrame {
    /// The frame's number in the capture, from 1.
    pub frame: usize,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Index.
    pub spi: u32,
    /// The full sequence number.
    pub seq: u64,
    /// What is inside: 4 IPv4, 41 IPv6; in transport mode what the packet carries.
    pub next_header: u8,
    /// The inner packet in hex, in transport mode without its IP header.
    pub inner: String,
}

impl OpenRecord {
    /// Whether no frame was bad.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.refused.is_empty() && self.malformed.is_empty()
    }
}

/// A frame that didn't open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedFrame {
    /// The frame's number in the capture, from 1.
    pub frame: usize,
    /// Why.
    pub reason: String,
}

/// Why a packet doesn't open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RefusedError {
    #[error("shorter than an SPI")]
    Runt,
    #[error("no key for SPI {spi:#010x} to {dst}")]
    NoKey { spi: u32, dst: IpAddr },
    #[error("comes from {src}, its SA is that of {from}")]
    Source { src: IpAddr, from: IpAddr },
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Opens what can be opened. `esn` is for all SAs: the key file doesn't say.
///
/// # Errors
/// None that can occur: the window's size is the default.
pub fn open_all(
    frames: &[&[u8]],
    keys: Vec<KeyLine>,
    esn: bool,
) -> Result<OpenRecord, WindowError> {
    let mut sas = Vec::new();
    for key in keys {
        let sa = InboundSa::new(key.spi, key.key, esn, ReplayWindow::DEFAULT)?;
        sas.push((key.src, key.dst, sa));
    }
    let mut record = OpenRecord::default();
    for (number, frame) in (1..).zip(frames) {
        let mut bytes = frame.to_vec();
        let (src, dst, start, end) = match esp_of(&bytes) {
            Ok(Some(found)) => found,
            Ok(None) => {
                record.other += 1;
                continue;
            }
            Err(reason) => {
                record.malformed.push(RefusedFrame {
                    frame: number,
                    reason: format!("the headers can't be read: {}", reason.name()),
                });
                continue;
            }
        };
        let esp = bytes.get_mut(start..end).unwrap_or_default();
        match open(&mut sas, src, dst, esp) {
            Ok(opened) => record.opened.push(OpenedFrame {
                frame: number,
                ..opened
            }),
            Err(error) => {
                record.refused.push(RefusedFrame {
                    frame: number,
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(record)
}

/// The outer addresses and the ESP packet's place, if a frame is one.
fn esp_of(frame: &[u8]) -> Result<Option<(IpAddr, IpAddr, usize, usize)>, DropReason> {
    let meta = wire::parse(frame)?;
    let (start, end) = (usize::from(meta.l4_off), usize::from(meta.l3_end));
    let start = match meta.protocol {
        proto::ESP => start,
        proto::UDP if meta.dst_port == PORT_NAT_T => {
            let payload = frame.get(start + UDP_LEN..end).unwrap_or_default();
            if matches!(esp_in_udp(payload), UdpEncap::Ike | UdpEncap::Keepalive) {
                return Ok(None);
            }
            start + UDP_LEN
        }
        _ => return Ok(None),
    };
    Ok(Some((meta.src.into(), meta.dst.into(), start, end)))
}

fn open(
    sas: &mut [(IpAddr, IpAddr, InboundSa)],
    src: IpAddr,
    dst: IpAddr,
    esp: &mut [u8],
) -> Result<OpenedFrame, RefusedError> {
    let spi = esp.first_chunk::<4>().map(|raw| u32::from_be_bytes(*raw));
    let spi = spi.ok_or(RefusedError::Runt)?;
    let found = sas
        .iter_mut()
        .find(|(_, to, sa)| *to == dst && sa.spi().0 == spi);
    let (from, _, sa) = found.ok_or(RefusedError::NoKey { spi, dst })?;
    if *from != src {
        return Err(RefusedError::Source { src, from: *from });
    }
    let opened = sa.open(esp)?;
    let mut inner = String::new();
    for byte in esp.get(opened.inner).unwrap_or_default() {
        let _ = write!(inner, "{byte:02x}");
    }
    let (seq, next_header) = (opened.seq, opened.next_header);
    Ok(OpenedFrame {
        frame: 0,
        src,
        dst,
        spi,
        seq,
        next_header,
        inner,
    })
}
