//! An address prefix whose host bits are zero.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An IP prefix in canonical form: the bits past its length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

/// Why something isn't a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Longer than the family's addresses.
    #[error("prefix length {len} is over {max}, the longest for {addr}")]
    Length {
        /// The address part.
        addr: IpAddr,
        /// The length asked for, in bits.
        len: u8,
        /// The family's address length, in bits.
        max: u8,
    },
    /// Host bits set.
    #[error("{addr}/{len} has host bits set; the prefix is {canonical}")]
    HostBits {
        /// The address part.
        addr: IpAddr,
        /// The length, in bits.
        len: u8,
        /// What was probably meant.
        canonical: IpPrefix,
    },
    /// IPv4 addresses in IPv6 form (RFC 4291 section 2.5.5.2). On the wire they are nobody's; as
    /// a prefix they would be a second spelling of somebody else's.
    #[error("{addr}/{len} is IPv4 in IPv6 form; write the IPv4 prefix itself")]
    Mapped {
        /// The address part.
        addr: IpAddr,
        /// The length, in bits.
        len: u8,
    },
    /// Not `address/length`.
    #[error("`{text}` is not an address with a prefix length, such as 10.0.0.0/8 or fd00::/64")]
    Syntax {
        /// The text.
        text: String,
    },
}

const fn bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether an address is an IPv4 address in IPv6 form.
const fn is_mapped(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(addr) => addr.to_ipv4_mapped().is_some(),
    }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & keep).into())
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & keep).into())
        }
    }
}

impl IpPrefix {
    /// The first in order: all of IPv4.
    pub const MIN: Self = Self {
        addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        len: 0,
    };

    /// The first of IPv6 in order, behind all of IPv4: all of IPv6.
    pub const MIN_V6: Self = Self {
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        len: 0,
    };

    /// A prefix whose host bits must be zero.
    ///
    /// # Errors
    /// [`PrefixError::Length`], [`PrefixError::Mapped`] and [`PrefixError::HostBits`].
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let canonical = Self::masked(addr, len)?;
        if canonical.addr == addr {
            Ok(canonical)
        } else {
            Err(PrefixError::HostBits {
                addr,
                len,
                canonical,
            })
        }
    }

    /// A prefix with the host bits cleared.
    ///
    /// # Errors
    /// [`PrefixError::Length`] and [`PrefixError::Mapped`].
    pub fn masked(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let max = bits(addr);
        if len > max {
            return Err(PrefixError::Length { addr, len, max });
        }
        let masked = mask(addr, len);
        if is_mapped(masked) {
            return Err(PrefixError::Mapped { addr, len });
        }
        Ok(Self { addr: masked, len })
    }

    /// The prefix of one address.
    #[must_use]
    pub const fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: bits(addr),
        }
    }

    /// The first address.
    #[must_use]
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length in bits.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a collection's"
    )]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether the address is inside; never across families.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        bits(addr) == bits(self.addr) && mask(addr, self.len) == self.addr
    }

    /// Whether all of `other` is inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax {
            text: text.to_owned(),
        };
        let (addr, len) = text.split_once('/').ok_or_else(syntax)?;
        let addr = addr.parse().map_err(|_| syntax())?;
        let len = len.parse().map_err(|_| syntax())?;
        Self::new(addr, len)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
