//! What a device is asked for with.

use core::fmt;
use core::str::FromStr;
use std::ffi::{CStr, CString};

/// Bytes of a device's name, at most: `RTE_DEV_NAME_MAX_LEN` less its NUL.
pub const NAME_LEN_MAX: usize = 63;

/// Bytes of the whole, at most.
pub const DEVARGS_LEN_MAX: usize = 1023;

/// DPDK's words for a device: `net_af_packet0,iface=veth0` or `0000:03:00.0`. The name is
/// what stands before the first comma; a process has one device of a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Devargs {
    text: CString,
    name_len: usize,
}

/// Not devargs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DevargsError {
    /// Nothing before the first comma.
    #[error("devargs {0:?} name no device")]
    NoName(String),
    /// A NUL, a control character or a blank: no driver takes one, and a log line or an
    /// argument must not be broken by one.
    #[error("devargs {0:?} have a blank or a control character")]
    Character(String),
    /// Longer than [`NAME_LEN_MAX`] or [`DEVARGS_LEN_MAX`]: DPDK would cut it in silence.
    #[error(
        "devargs of {len} bytes (name {name_len}) are longer than {DEVARGS_LEN_MAX} (name {NAME_LEN_MAX})"
    )]
    TooLong {
        /// Bytes in all.
        len: usize,
        /// Bytes of the name.
        name_len: usize,
    },
}

impl Devargs {
    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let text = self.text.to_str().unwrap_or_default();
        text.get(..self.name_len).unwrap_or_default()
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.text
    }
}

impl FromStr for Devargs {
    type Err = DevargsError;

    fn from_str(text: &str) -> Result<Self, DevargsError> {
        let name_len = text.find(',').unwrap_or(text.len());
        if name_len == 0 {
            return Err(DevargsError::NoName(text.to_owned()));
        }
        let len = text.len();
        if name_len > NAME_LEN_MAX || len > DEVARGS_LEN_MAX {
            return Err(DevargsError::TooLong { len, name_len });
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(DevargsError::Character(text.to_owned()));
        }
        let text = CString::new(text).map_err(|_| DevargsError::Character(text.to_owned()))?;
        Ok(Self { text, name_len })
    }
}

impl fmt::Display for Devargs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_ends_at_the_first_comma() {
        let devargs: Devargs = "net_ring0,nodeaction=a,b".parse().unwrap();
        assert_eq!(devargs.name(), "net_ring0");
        assert_eq!(devargs.to_string(), "net_ring0,nodeaction=a,b");
        assert_eq!("net_null0".parse::<Devargs>().unwrap().name(), "net_null0");
    }

    #[test]
    fn what_no_driver_would_take_is_refused_before_dpdk_sees_it() {
        for bad in ["", ",iface=x", "net_null0 ", "net\0null", "net_null0,a=\n"] {
            assert!(bad.parse::<Devargs>().is_err(), "{bad:?}");
        }
        let long = "n".repeat(NAME_LEN_MAX + 1);
        assert!(long.parse::<Devargs>().is_err());
        assert!(long[1..].parse::<Devargs>().is_ok());
    }
}
