//! Fields: the small conversions that all messages are made of.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ConvertError, ConvertReason, Unspecified};
use crate::model::MacAddr;

/// What must be there.
pub(super) fn required<T>(path: &str, field: Option<T>) -> Result<T, ConvertError> {
    field.ok_or_else(|| ConvertError::new(path, ConvertReason::Absent))
}

/// A message that must be there, converted.
pub(super) fn message<W, D>(path: &str, field: Option<W>) -> Result<D, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    D::try_from(required(path, field)?).map_err(|error| error.inside(path))
}

/// Messages, each converted.
pub(super) fn messages<W, D>(path: &str, field: Vec<W>) -> Result<Vec<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    let convert =
        |(index, it)| D::try_from(it).map_err(|error| error.inside(&format!("{path}[{index}]")));
    field.into_iter().enumerate().map(convert).collect()
}

/// An enum's value by its number.
pub(super) fn enumeration<W, D>(path: &str, value: i32) -> Result<D, ConvertError>
where
    W: TryFrom<i32>,
    D: TryFrom<W, Error = Unspecified>,
{
    let unknown = || ConvertError::new(path, ConvertReason::UnknownEnum { value });
    let known = W::try_from(value).map_err(|_| unknown())?;
    D::try_from(known).map_err(|Unspecified| unknown())
}

/// A number that must fit in 16 bits.
pub(super) fn short(path: &str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| out_of_range(path, value, u16::MAX.into()))
}

/// A number that must fit in 8 bits.
pub(super) fn octet(path: &str, value: u32) -> Result<u8, ConvertError> {
    u8::try_from(value).map_err(|_| out_of_range(path, value, u8::MAX.into()))
}

fn out_of_range(path: &str, value: u32, max: u64) -> ConvertError {
    let value = value.into();
    ConvertError::new(path, ConvertReason::Range { value, max })
}

/// An address of 4 or 16 bytes.
pub(super) fn ip(path: &str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(Ipv6Addr::from(bytes).into()),
        Err(_) => Err(length(path, bytes, "an address", &[4, 16])),
    }
}

/// Addresses.
pub(super) fn ips(path: &str, field: &[Vec<u8>]) -> Result<Vec<IpAddr>, ConvertError> {
    let convert = |(index, bytes): (usize, &Vec<u8>)| ip(&format!("{path}[{index}]"), bytes);
    field.iter().enumerate().map(convert).collect()
}

/// A MAC of 6 bytes.
pub(super) fn mac(path: &str, bytes: &[u8]) -> Result<MacAddr, ConvertError> {
    octets(path, bytes, "a MAC", &[6]).map(MacAddr)
}

/// Exactly `N` bytes; `sizes` says so too, for the error.
pub(super) fn octets<const N: usize>(
    path: &str,
    bytes: &[u8],
    expected: &'static str,
    sizes: &'static [usize],
) -> Result<[u8; N], ConvertError> {
    bytes
        .try_into()
        .map_err(|_| length(path, bytes, expected, sizes))
}

fn length(
    path: &str,
    bytes: &[u8],
    expected: &'static str,
    sizes: &'static [usize],
) -> ConvertError {
    let len = bytes.len();
    let why = ConvertReason::Length {
        len,
        expected,
        sizes,
    };
    ConvertError::new(path, why)
}

/// An address as it travels.
pub(super) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Declares which number stands for which value, once for both ways.
macro_rules! enumerate {
    ($wire:ty, $domain:ty { $($from:ident <=> $to:ident),* $(,)? }) => {
        impl TryFrom<$wire> for $domain {
            type Error = crate::convert::Unspecified;

            fn try_from(value: $wire) -> Result<Self, Self::Error> {
                match value {
                    <$wire>::Unspecified => Err(crate::convert::Unspecified),
                    $(<$wire>::$from => Ok(Self::$to),)*
                }
            }
        }

        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value {
                    $(<$domain>::$to => Self::$from,)*
                }
            }
        }
    };
}

pub(super) use enumerate;
