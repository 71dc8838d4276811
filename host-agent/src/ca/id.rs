//! Names in certificates: `spiffe://DOMAIN/sluice/node/NAME`.

use core::fmt;
use core::str::FromStr;

/// Bytes of a trust domain, at most (SPIFFE-ID section 2.1).
const DOMAIN_LEN_MAX: usize = 255;
/// Bytes of a node's name, at most: a DNS subdomain's.
const NAME_LEN_MAX: usize = 253;

/// What is no name of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// Not a trust domain.
    #[error("`{0}` is no trust domain; use up to 255 lower-case letters, digits, `.`, `-` and `_`")]
    Domain(String),
    /// Not a node's name.
    #[error("`{0}` is no node name; use up to 253 lower-case letters, digits, `.` and `-`")]
    Name(String),
    /// Something else.
    #[error("`{0}` is not spiffe://DOMAIN/sluice/node/NAME or spiffe://DOMAIN/sluice/agent/NAME")]
    Shape(String),
}

/// Who signs for whom: `example.org`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Its SPIFFE ID: `spiffe://example.org`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("spiffe://{}", self.0)
    }

    /// From its SPIFFE ID.
    ///
    /// # Errors
    /// [`IdError`].
    pub fn from_uri(uri: &str) -> Result<Self, IdError> {
        let domain = uri.strip_prefix("spiffe://");
        domain
            .ok_or_else(|| IdError::Domain(uri.to_owned()))?
            .parse()
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fine = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || ".-_".contains(it);
        if text.is_empty() || text.len() > DOMAIN_LEN_MAX || !text.chars().all(fine) {
            return Err(IdError::Domain(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A node's dataplane.
    Node,
    /// A node's agent.
    Agent,
}

impl Role {
    /// Its part of the path.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Agent => "agent",
        }
    }
}

/// A dataplane's or agent's SPIFFE ID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SvidId {
    domain: TrustDomain,
    role: Role,
    name: String,
}

impl SvidId {
    /// Of a node's name.
    ///
    /// # Errors
    /// [`IdError::Name`].
    pub fn new(domain: TrustDomain, role: Role, name: &str) -> Result<Self, IdError> {
        let fine = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || ".-".contains(it);
        // A path may not have the segments `.` and `..`.
        let dots = name.chars().all(|it| it == '.');
        if dots || name.len() > NAME_LEN_MAX || !name.chars().all(fine) {
            return Err(IdError::Name(name.to_owned()));
        }
        let name = name.to_owned();
        Ok(Self { domain, role, name })
    }

    /// Who must sign it.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whose it is: `node/a`.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}/{}", self.role.word(), self.name)
    }
}

impl FromStr for SvidId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let shape = || IdError::Shape(text.to_owned());
        let rest = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<_> = rest.split('/').collect();
        let [domain, "sluice", role, name] = parts.as_slice() else {
            return Err(shape());
        };
        let role = match *role {
            "node" => Role::Node,
            "agent" => Role::Agent,
            _ => return Err(shape()),
        };
        Self::new(domain.parse()?, role, name)
    }
}

impl fmt::Display for SvidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, role, name } = self;
        write!(f, "{}/sluice/{}/{name}", domain.uri(), role.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_was_read() {
        for text in [
            "spiffe://example.org/sluice/node/a",
            "spiffe://example.org/sluice/agent/worker-1.rack2",
        ] {
            assert_eq!(text.parse::<SvidId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_ours_is_no_id() {
        for text in [
            "",
            "https://example.org/sluice/node/a",
            "spiffe://example.org",
            "spiffe:///sluice/node/a",
            "spiffe://Example.org/sluice/node/a",
            "spiffe://example.org:80/sluice/node/a",
            "spiffe://user@example.org/sluice/node/a",
            "spiffe://example.org/sluice/root/a",
            "spiffe://example.org/sluice/node/",
            "spiffe://example.org/sluice/node/..",
            "spiffe://example.org/sluice/node/a/b",
            "spiffe://example.org/sluice/node/a?x",
            "spiffe://example.org/sluice/node/A",
            "spiffe://example.org/other/node/a",
        ] {
            assert!(text.parse::<SvidId>().is_err(), "{text}");
        }
    }
}
