//! One representation for both address families.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address as a 128-bit number, IPv4 in its v4-mapped form
/// (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2). Compares and hashes as one word.
///
/// A real packet can't carry a v4-mapped IPv6 address past [`crate::wire::parse`]:
/// it is refused there, so the two families never alias.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub u128);

const V4_MAPPED: u128 = 0xffff_0000_0000;

impl Addr {
    /// The unspecified address, `::`.
    pub const UNSPECIFIED: Self = Self(0);

    /// From the four bytes of an IPv4 header field, network order.
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self(V4_MAPPED | u32::from_be_bytes(bytes) as u128)
    }

    /// From the sixteen bytes of an IPv6 header field, network order.
    #[must_use]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == V4_MAPPED >> 32
    }

    /// Whether no packet on a wire may have it as its source: unspecified, loopback, the
    /// limited broadcast. A multicast source is malformed already.
    //= RFC 1122 section 3.2.1.3: "a host MUST silently discard an incoming datagram" with such
    //= a source; RFC 4291 section 2.5.2 and 2.5.3 for IPv6
    #[must_use]
    pub const fn is_martian(self) -> bool {
        if self.is_v4() {
            let [a, b, c, d] = self.to_v4();
            // 240.0.0.0/4 but for the broadcast is reserved, and in use here and there.
            a == 0 || a == 127 || a & b & c & d == 255
        } else {
            self.0 <= 1
        }
    }

    /// The IPv4 bytes, network order; meaningful only if [`Self::is_v4`].
    #[must_use]
    pub const fn to_v4(self) -> [u8; 4] {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        [a, b, c, d]
    }

    /// The IPv6 bytes, network order.
    #[must_use]
    pub const fn to_v6(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(a) => Self::v4(a.octets()),
            IpAddr::V6(a) => Self::v6(a.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        if addr.is_v4() {
            Self::V4(Ipv4Addr::from(addr.to_v4()))
        } else {
            Self::V6(Ipv6Addr::from(addr.to_v6()))
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: multicast or broadcast (IEEE 802.3 section 3.2.3).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
