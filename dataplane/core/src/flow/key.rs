//! A flow's tuple, the same from either end.

use crate::addr::Addr;
use crate::hash::HashKey;
use crate::meta::Meta;
use crate::wire::embedded::Embedded;

/// A packet's tuple as it travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, or the ICMP identifier.
    pub src_port: u16,
    /// Destination port, or the ICMP identifier.
    pub dst_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of the answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
        }
    }
}

impl From<&Meta> for Tuple {
    fn from(meta: &Meta) -> Self {
        Self {
            src: meta.src,
            dst: meta.dst,
            src_port: meta.src_port,
            dst_port: meta.dst_port,
            protocol: meta.protocol,
        }
    }
}

impl From<&Embedded> for Tuple {
    fn from(inside: &Embedded) -> Self {
        Self {
            src: inside.src,
            dst: inside.dst,
            src_port: inside.src_port,
            dst_port: inside.dst_port,
            protocol: inside.protocol,
        }
    }
}

/// The tuple in one order for both directions: the lower (address, port) first.
///
/// Addresses are bytes, big-endian: a table of these wastes nothing on alignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    low: [u8; 16],
    high: [u8; 16],
    low_port: u16,
    high_port: u16,
    protocol: u8,
}

const _: () = assert!(size_of::<FlowKey>() == 38);

impl FlowKey {
    /// The key of a tuple, and whether the tuple had to be turned round for it.
    #[must_use]
    pub fn of(t: Tuple) -> (Self, bool) {
        let turned = (t.src, t.src_port) > (t.dst, t.dst_port);
        let t = if turned { t.reversed() } else { t };
        let key = Self {
            low: t.src.to_v6(),
            high: t.dst.to_v6(),
            low_port: t.src_port,
            high_port: t.dst_port,
            protocol: t.protocol,
        };
        (key, turned)
    }

    /// The tuple as it travels in one direction.
    #[must_use]
    pub const fn tuple(self, turned: bool) -> Tuple {
        let t = Tuple {
            src: Addr::v6(self.low),
            dst: Addr::v6(self.high),
            src_port: self.low_port,
            dst_port: self.high_port,
            protocol: self.protocol,
        };
        if turned { t.reversed() } else { t }
    }

    /// The key's hash.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the halves of the addresses"
    )]
    #[must_use]
    pub fn hash(self, key: HashKey) -> u64 {
        let ports = u64::from(self.low_port)
            | u64::from(self.high_port) << 16
            | u64::from(self.protocol) << 32;
        let (low, high) = (Addr::v6(self.low).0, Addr::v6(self.high).0);
        key.hash([
            low as u64,
            (low >> 64) as u64,
            high as u64,
            (high >> 64) as u64,
            ports,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key() {
        let t = Tuple {
            src: Addr::v4([10, 0, 0, 9]),
            dst: Addr::v4([10, 0, 0, 1]),
            src_port: 5,
            dst_port: 80,
            protocol: 6,
        };
        let (there, turned) = FlowKey::of(t);
        let (back, turned_back) = FlowKey::of(t.reversed());
        assert_eq!(there, back);
        assert_ne!(turned, turned_back);
        assert_eq!(there.tuple(turned), t);
        assert_eq!(there.tuple(turned_back), t.reversed());
    }

    #[test]
    fn a_pod_that_talks_to_itself_has_one_key_by_ports() {
        let a = Addr::v4([10, 0, 0, 1]);
        let t = Tuple {
            src: a,
            dst: a,
            src_port: 9,
            dst_port: 3,
            protocol: 17,
        };
        assert_eq!(FlowKey::of(t).0, FlowKey::of(t.reversed()).0);
    }
}
