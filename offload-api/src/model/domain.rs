//! Domain names that policies name, with or without a wildcard.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a name in text, at most: 255 in a message (RFC 1035 section 2.3.4) are two fewer
/// without the first length and the root's.
pub const DOMAIN_LEN_MAX: usize = 253;
/// Bytes of a label, at most (RFC 1035 section 2.3.4).
pub const DOMAIN_LABEL_LEN_MAX: usize = 63;
/// Stands for one or more whole labels.
const WILDCARD: &str = "*.";

/// A name (`db.example.com`), or all names below one (`*.example.com`): lower case, two or
/// more labels, no dot at its end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainPattern(String);

/// Why a text is no [`DomainPattern`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DomainError {
    /// Longer than a name can be.
    #[error("a domain name of {len} bytes is longer than {max}, the most there can be")]
    Long {
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// A label longer than a label can be.
    #[error("label `{label}` is longer than {DOMAIN_LABEL_LEN_MAX} bytes")]
    LongLabel {
        /// The label.
        label: String,
    },
    /// Names have no case, and patterns are compared as bytes.
    #[error("`{text}` has upper-case letters in it; write it in lower case")]
    UpperCase {
        /// As given.
        text: String,
    },
    /// Not labels of letters, digits, `-` and `_`.
    #[error(
        "`{text}` is not a domain name: two or more labels of letters, digits, hyphens and \
         underscores, each with a letter or digit at both ends, perhaps with `*.` \
         before them"
    )]
    Syntax {
        /// As given.
        text: String,
    },
    /// An address.
    #[error("`{text}` is an address, not a name; name addresses by `networks`")]
    Address {
        /// As given.
        text: String,
    },
}

impl DomainPattern {
    /// As people see it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is for all names below its own, which is not among them.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(WILDCARD)
    }

    /// Its own name: what stands behind the wildcard.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.strip_prefix(WILDCARD).unwrap_or(&self.0)
    }

    /// Whether it is for a name: `*.` stands for one or more whole labels. Names have no
    /// case, and a dot at the end adds nothing.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !self.is_wildcard() {
            return name == self.0;
        }
        let above = name.strip_suffix(self.base());
        let labels = above.and_then(|it| it.strip_suffix('.'));
        labels.is_some_and(|it| it.split('.').all(|label| !label.is_empty()))
    }
}

impl FromStr for DomainPattern {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let name = text.strip_prefix(WILDCARD);
        // Below a wildcard there must be room for something.
        let max = DOMAIN_LEN_MAX - name.map_or(0, |_| WILDCARD.len());
        let name = name.unwrap_or(text);
        if text.parse::<IpAddr>().is_ok() || name.parse::<IpAddr>().is_ok() {
            let text = text.to_owned();
            return Err(DomainError::Address { text });
        }
        if name.len() > max {
            let len = name.len();
            return Err(DomainError::Long { len, max });
        }
        if text.bytes().any(|it| it.is_ascii_uppercase()) {
            let text = text.to_owned();
            return Err(DomainError::UpperCase { text });
        }
        let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
        let is_label = |label: &str| {
            let bytes = label.as_bytes();
            let inside = |it: &u8| plain(*it) || matches!(it, b'-' | b'_');
            bytes.iter().all(inside)
                && [bytes.first(), bytes.last()]
                    .iter()
                    .all(|it| it.is_some_and(|it| plain(*it)))
        };
        if !name.contains('.') || !name.split('.').all(is_label) {
            let text = text.to_owned();
            return Err(DomainError::Syntax { text });
        }
        if let Some(label) = name.split('.').find(|it| it.len() > DOMAIN_LABEL_LEN_MAX) {
            let label = label.to_owned();
            return Err(DomainError::LongLabel { label });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for DomainPattern {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        text.parse()
    }
}

impl From<DomainPattern> for String {
    fn from(pattern: DomainPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DomainPattern {
        text.parse().unwrap()
    }

    #[test]
    fn an_exact_name_matches_itself_in_any_case_and_nothing_else() {
        let it = pattern("kubernetes.io");
        for name in ["kubernetes.io", "Kubernetes.IO", "kubernetes.io."] {
            assert!(it.matches(name), "{name}");
        }
        for name in ["www.kubernetes.io", "my-kubernetes.io", "io", "", "."] {
            assert!(!it.matches(name), "{name}");
        }
    }

    #[test]
    fn a_wildcard_matches_one_or_more_labels_and_not_the_apex() {
        let it = pattern("*.kubernetes.io");
        for name in ["www.kubernetes.io", "latest.blog.Kubernetes.io."] {
            assert!(it.matches(name), "{name}");
        }
        for name in [
            "kubernetes.io",
            ".kubernetes.io",
            "a..kubernetes.io",
            "my-kubernetes.io",
            "kubernetes.io.evil.org",
        ] {
            assert!(!it.matches(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = ["a2345678."; 29].concat() + "example";
        for text in [
            "",
            "com",
            "*.com",
            "*",
            "a.*.com",
            "*a.example.com",
            "**.example.com",
            "Example.com",
            "example.com.",
            "a..com",
            "-a.com",
            "a_.com",
            "1.2.3.4",
            "*.1.2.3.4",
            "::1",
            "bücher.example",
            &long,
            &longer,
        ] {
            assert!(text.parse::<DomainPattern>().is_err(), "{text}");
        }
        assert!(["a2345678."; 27].concat().len() < DOMAIN_LEN_MAX);
    }
}
