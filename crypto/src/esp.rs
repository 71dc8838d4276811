//! ESP (RFC 4303) in tunnel and transport mode, with AES-GCM (RFC 4106) and ChaCha20-Poly1305
//! (RFC 7634).
//!
//! ```text
//!  offset
//!   0  +-------------------------------+
//!      |  SPI                          |  4 bytes   \  ESP_HEADER_LEN = 16
//!   4  +-------------------------------+             |
//!      |  sequence number, low 32 bits |  4 bytes    |  all in network byte order
//!   8  +-------------------------------+             |
//!      |  IV: sequence number, 64 bits |  8 bytes   /
//!  16  +===============================+ \
//!      |  inner packet                 |  |  encrypted
//!      +-------------------------------+  |
//!      |  padding 1, 2, 3  (0-3 bytes) |  |  \
//!      |  pad length       (1 byte)    |  |   |  trailer_len: 18 to 21 bytes
//!      |  next header      (1 byte)    |  |   |
//!      +===============================+ /    |
//!      |  ICV              (16 bytes)  |     /
//!      +-------------------------------+
//!
//!  nonce (12 bytes)   salt (4) | IV (8)
//!  AAD without ESN    SPI (4) | sequence low (4)
//!  AAD with ESN       SPI (4) | sequence high (4) | sequence low (4)
//! ```
//!
//! In transport mode the inner packet is without its IP header, which stands before the SPI.
//!
//! The high half of an extended sequence number never travels; the receiver infers it and the
//! ICV confirms it.

mod ecn;
mod open;
mod sa;
mod seal;
mod seq;
mod trailer;
mod transport;
mod tunnel;
mod udp;

pub use self::ecn::decap_ecn;
pub use self::open::{InboundSa, OpenError, Opened};
pub use self::sa::{ReservedSpi, Spi};
pub use self::seal::{OutboundSa, SealError};
pub use self::transport::{Transport, TransportError, unshield};
pub use self::tunnel::{Outer, Tunnel, TunnelError};
pub use self::udp::{PORT_NAT_T, UdpEncap, esp_in_udp};

use crate::aead::TAG_LEN;

/// Length in bytes of what precedes the inner packet: SPI, sequence number and IV.
pub const ESP_HEADER_LEN: usize = 16;

/// Length in bytes of pad length and next header, the trailer's fixed part.
const TRAILER_FIXED_LEN: usize = 2;

/// Shortest packet [`InboundSa::open`] looks at: an empty inner packet without padding.
pub const ESP_LEN_MIN: usize = ESP_HEADER_LEN + TRAILER_FIXED_LEN + TAG_LEN;

/// IP protocol number of ESP itself, for outer headers.
pub const PROTOCOL_ESP: u8 = 50;

/// Next header of an inner IPv4 packet.
pub const NEXT_HEADER_IPV4: u8 = 4;

/// Next header of an inner IPv6 packet.
pub const NEXT_HEADER_IPV6: u8 = 41;

/// Next header of a dummy packet, sent to hide how much traffic there is.
///
//= RFC 4303 section 2.6
//# A transmitter MUST be capable of generating dummy packets marked with this value in the next
//# protocol field, and a receiver MUST be prepared to discard such packets
pub const NEXT_HEADER_DUMMY: u8 = 59;
