//! Whether packets between nodes are encrypted.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What one end of a packet between nodes wants of the way. Of both ends' the stricter, the
/// greater one, holds.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// In clear.
    Off,
    /// Encrypted between dataplanes, in clear with a node that has none and is listed as
    /// unprotected.
    Preferred,
    /// Encrypted, or dropped.
    #[default]
    Required,
}

/// A text that is no [`Encryption`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not a setting of encryption: required, preferred or off")]
pub struct EncryptionError {
    /// As given.
    pub text: String,
}

impl Encryption {
    /// All of them, the least strict first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Preferred, Self::Required];

    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }

    /// Whether it is the default.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        matches!(self, Self::Required)
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Encryption {
    type Err = EncryptionError;

    fn from_str(text: &str) -> Result<Self, EncryptionError> {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == text);
        known.ok_or_else(|| EncryptionError {
            text: text.to_owned(),
        })
    }
}
