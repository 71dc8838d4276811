//! What a device is asked for with.

use core::fmt;
use core::str::FromStr;
use std::ffi::{CStr, CString};

use crate::driver;

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
    /// A key that the device's driver doesn't have.
    #[error("devargs {devargs:?}: {driver} has no {key:?}; it takes {known}")]
    UnknownKey {
        /// The whole.
        devargs: String,
        /// The driver.
        driver: &'static str,
        /// The key.
        key: String,
        /// What the driver has.
        known: String,
    },
    /// Something after a comma that isn't `key=value`.
    #[error("devargs {devargs:?}: {part:?} is not key=value")]
    NoValue {
        /// The whole.
        devargs: String,
        /// The part.
        part: String,
    },
    /// None of the keys that the driver can't do without.
    #[error("devargs {devargs:?}: {driver} needs {needs}")]
    Missing {
        /// The whole.
        devargs: String,
        /// The driver.
        driver: &'static str,
        /// Any of these would do.
        needs: String,
    },
}

impl Devargs {
    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let text = self.text.to_str().unwrap_or_default();
        text.get(..self.name_len).unwrap_or_default()
    }

    /// Key and value of each argument.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = self.text.to_str().unwrap_or_default();
        parts(text).filter_map(|part| part.split_once('='))
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.text
    }
}

/// What stands after the name.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').skip(1)
}

/// The arguments of a driver that we know; hardware has its own, which we don't read.
fn check_arguments(text: &str, name: &str) -> Result<(), DevargsError> {
    let Some(driver) = driver::of(name) else {
        return Ok(());
    };
    let devargs = || text.to_owned();
    let mut needed = driver.needs.is_empty();
    for part in parts(text) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if !driver.keys.contains(&key) {
            return Err(DevargsError::UnknownKey {
                devargs: devargs(),
                driver: driver.name,
                key: key.to_owned(),
                known: driver.keys.join(", "),
            });
        }
        if value.is_empty() {
            return Err(DevargsError::NoValue {
                devargs: devargs(),
                part: part.to_owned(),
            });
        }
        needed |= driver.needs.contains(&key);
    }
    if needed {
        return Ok(());
    }
    Err(DevargsError::Missing {
        devargs: devargs(),
        driver: driver.name,
        needs: driver.needs.join(" or "),
    })
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
        check_arguments(text, text.get(..name_len).unwrap_or_default())?;
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
        let devargs: Devargs = "net_ring0,nodeaction=a:0:CREATE".parse().unwrap();
        assert_eq!(devargs.name(), "net_ring0");
        assert_eq!(devargs.to_string(), "net_ring0,nodeaction=a:0:CREATE");
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

    #[test]
    fn a_key_that_the_driver_does_not_have_is_named() {
        let said = |text: &str| text.parse::<Devargs>().unwrap_err().to_string();
        let error = said("net_af_packet0,ifase=veth0");
        assert!(error.contains("\"ifase\"") && error.contains("iface, qpairs"));
        assert!(said("net_af_packet0").contains("needs iface"));
        assert!(said("net_pcap0,infinite_rx=1").contains("rx_pcap or tx_pcap"));
        assert!(said("net_null0,copy").contains("key=value"));
        assert!(said("net_null0,").contains("no \"\""));
        let text = "0000:03:00.0,representor=[0-3],dv_flow_en=2";
        assert!(text.parse::<Devargs>().is_ok(), "hardware has its own");
    }

    #[test]
    fn arguments_are_keys_with_values() {
        let devargs: Devargs = "net_pcap0,rx_pcap=/a=b,tx_pcap=c".parse().unwrap();
        let got: Vec<_> = devargs.arguments().collect();
        assert_eq!(got, [("rx_pcap", "/a=b"), ("tx_pcap", "c")]);
    }
}
