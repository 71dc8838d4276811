//! What the wire can get wrong, and where.

use crate::model::{DomainError, PrefixError};

/// A message that isn't what the contract says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ConvertError {
    /// The field at fault, relative to the message that was converted: `ips[1]`.
    pub path: String,
    /// What is wrong with it.
    pub why: ConvertReason,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConvertReason {
    /// A message that must be there isn't, or none of a choice is; an unknown choice, from
    /// a newer sender, looks the same.
    #[error("is absent, or is a choice this side does not know; it must be given")]
    Absent,
    /// A number this side has no name for; 0 is the enum left unset.
    #[error("{value} is not a known value (0 is unset); use one that the contract names")]
    UnknownEnum {
        /// The number.
        value: i32,
    },
    /// A byte string of a wrong length.
    #[error("has {len} bytes; {expected} needs {}", or_list(.sizes))]
    Length {
        /// Its length.
        len: usize,
        /// What it should be.
        expected: &'static str,
        /// The lengths that are right.
        sizes: &'static [usize],
    },
    /// A number out of range.
    #[error("{value} is over {max}, the highest")]
    Range {
        /// The number.
        value: u64,
        /// The highest that fits.
        max: u64,
    },
    /// An address and length that are no prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// A text that is no domain name.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// Numbers that are no block of ports.
    #[error("{base}/{len} is not a block of ports: at most 16 bits, and none set past them")]
    PortBlock {
        /// The first port.
        base: u32,
        /// How many leading bits are fixed.
        len: u32,
    },
}

/// An enum left unset: the number 0, which stands for no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is unset; use a value that the contract names")]
pub struct Unspecified;

fn or_list(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    sizes.join(" or ")
}

impl ConvertError {
    /// An error at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, why: impl Into<ConvertReason>) -> Self {
        Self {
            path: path.into(),
            why: why.into(),
        }
    }

    /// The same error seen from the message that has this one as its field `outer`.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => outer.to_owned(),
            path if path.starts_with('[') => format!("{outer}{path}"),
            path => format!("{outer}.{path}"),
        };
        self
    }
}
