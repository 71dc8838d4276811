//! SPIFFE IDs, as far as two nodes need them.

use core::fmt;

use sluice_offload_api::model::NodeName;

/// Longest trust domain in bytes (SPIFFE-ID section 2.3).
const TRUST_DOMAIN_LEN_MAX: usize = 255;

/// Longest node name in bytes: a DNS subdomain, as Kubernetes has it.
const NODE_LEN_MAX: usize = 253;

const SCHEME: &str = "spiffe://";
const NODE_PATH: &str = "/sluice/node/";

/// A name that can't stand in a SPIFFE ID, or an ID that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a trust domain.
    #[error(
        "trust domain {got:?}: 1 to 255 of a-z, 0-9, '.', '-' and '_' are allowed (SPIFFE-ID 2.1)"
    )]
    TrustDomain {
        /// What stood there.
        got: String,
    },
    /// Not a node's name.
    #[error("node name {got:?}: 1 to 253 of a-z, 0-9, '.' and '-', and not '.' or '..'")]
    Node {
        /// What stood there.
        got: String,
    },
    /// Not the ID of a Sluice node.
    #[error("{got:?} is not of the form spiffe://TRUST-DOMAIN/sluice/node/NAME")]
    NotANode {
        /// What stood there.
        got: String,
    },
}

/// Who vouches for a node: the first part of its ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Of its name.
    ///
    /// # Errors
    /// [`IdError::TrustDomain`].
    pub fn new(name: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if name.is_empty() || name.len() > TRUST_DOMAIN_LEN_MAX || !name.bytes().all(allowed) {
            let got = name.to_owned();
            return Err(IdError::TrustDomain { got });
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `spiffe://TRUST-DOMAIN/sluice/node/NAME`. Ordered as its bytes: the lower one dials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// The ID of a node.
    ///
    /// # Errors
    /// [`IdError::Node`].
    pub fn of_node(domain: &TrustDomain, node: &NodeName) -> Result<Self, IdError> {
        let name = node.0.as_str();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
        let dots = name == "." || name == "..";
        if name.is_empty() || name.len() > NODE_LEN_MAX || dots || !name.bytes().all(allowed) {
            let got = name.to_owned();
            return Err(IdError::Node { got });
        }
        Ok(Self(format!("{SCHEME}{domain}{NODE_PATH}{name}")))
    }

    /// Reads an ID from a certificate. Only the form that [`Self::of_node`] gives is accepted,
    /// so two spellings of one ID don't exist.
    ///
    /// # Errors
    /// [`IdError`].
    pub fn parse(uri: &str) -> Result<Self, IdError> {
        let not_a_node = || IdError::NotANode {
            got: uri.chars().take(TRUST_DOMAIN_LEN_MAX).collect(),
        };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(not_a_node)?;
        let (domain, node) = rest.split_once(NODE_PATH).ok_or_else(not_a_node)?;
        Self::of_node(&TrustDomain::new(domain)?, &NodeName::from(node))
    }

    /// As it stands in a certificate.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `domain` vouches for it.
    #[must_use]
    pub fn is_in(&self, domain: &TrustDomain) -> bool {
        let rest = self.0.strip_prefix(SCHEME).unwrap_or_default();
        rest.split_once('/').is_some_and(|(d, _)| d == domain.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn an_id_parses_to_what_it_was_made_of() {
        let domain = TrustDomain::new("cluster-1.example").unwrap();
        let id = SpiffeId::of_node(&domain, &NodeName::from("worker-3.rack")).unwrap();
        let text = "spiffe://cluster-1.example/sluice/node/worker-3.rack";
        assert_eq!(id.as_str(), text);
        assert_eq!(SpiffeId::parse(text), Ok(id.clone()));
        assert!(id.is_in(&domain));
        assert!(!id.is_in(&TrustDomain::new("cluster-1").unwrap()));
    }

    #[test]
    fn anything_but_a_nodes_id_in_its_one_spelling_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://t",
            "spiffe://t/sluice/node/",
            "spiffe://t/sluice/node/..",
            "spiffe://t/sluice/node/a/b",
            "spiffe://t/sluice/node/a?x=1",
            "spiffe://t/sluice/node/a#f",
            "spiffe://t/sluice/node/A",
            "spiffe://T/sluice/node/a",
            "spiffe://u@t/sluice/node/a",
            "spiffe://t:1/sluice/node/a",
            "spiffe://t/x/sluice/node/a",
            "spiffe://t/sluice/node/a%62",
            "SPIFFE://t/sluice/node/a",
            "https://t/sluice/node/a",
            "spiffe://t/ns/default/sa/a",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad} was accepted");
        }
        let domain = TrustDomain::new("t").unwrap();
        let long = NodeName("a".repeat(254));
        assert!(SpiffeId::of_node(&domain, &long).is_err());
        assert!(TrustDomain::new(&"a".repeat(256)).is_err());
    }
}
