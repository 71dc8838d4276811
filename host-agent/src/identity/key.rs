//! What an identity is of.

use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sluice_offload_api::limits::LABEL_LEN_MAX;
use sluice_offload_api::model::{DomainPattern, Encryption, IpPrefix, NodeName, Protocol};

use crate::cluster::{Labels, NamespacedName};

/// Port numbers by the name and protocol that a pod gave them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(String, Protocol, BTreeSet<u16>)>")]
#[serde(into = "Vec<(String, Protocol, BTreeSet<u16>)>")]
pub struct NamedPorts(BTreeMap<(String, Protocol), BTreeSet<u16>>);

impl NamedPorts {
    /// Adds a number.
    pub fn insert(&mut self, name: &str, protocol: Protocol, number: u16) {
        self.0
            .entry((name.to_owned(), protocol))
            .or_default()
            .insert(number);
    }

    /// The numbers of a name, in order.
    pub fn numbers(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        self.0
            .get(&(name.to_owned(), protocol))
            .into_iter()
            .flatten()
            .copied()
    }
}

impl From<Vec<(String, Protocol, BTreeSet<u16>)>> for NamedPorts {
    fn from(list: Vec<(String, Protocol, BTreeSet<u16>)>) -> Self {
        Self(
            list.into_iter()
                .map(|(name, protocol, it)| ((name, protocol), it))
                .collect(),
        )
    }
}

impl From<NamedPorts> for Vec<(String, Protocol, BTreeSet<u16>)> {
    fn from(ports: NamedPorts) -> Self {
        ports
            .0
            .into_iter()
            .map(|((name, protocol), it)| (name, protocol, it))
            .collect()
    }
}

/// What has an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Pods. The namespace's own labels are looked up by its name at each compile, so they
    /// may change without a new number.
    Pod {
        /// Their namespace.
        namespace: String,
        /// The network that the address is on, if it is a secondary interface's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NamespacedName>,
        /// Their labels.
        labels: Labels,
        /// Their ports by those names that any egress rule uses: such a rule means other
        /// numbers on other pods, so pods that differ in them can't share an identity.
        ports: NamedPorts,
    },
    /// A node and its hostNetwork pods.
    Node {
        /// Its name.
        name: NodeName,
    },
    /// No address of itself: what a pod's resolver gave for such a name, to that pod.
    Domain {
        /// The names.
        pattern: DomainPattern,
    },
    /// Anything else.
    Outside,
}

/// What an identity is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct IdentityKey {
    /// What has the address.
    pub subject: Subject,
    /// All `ipBlock` prefixes and exceptions, of any policy, that the address is in.
    #[serde(with = "prefixes")]
    pub blocks: BTreeSet<IpPrefix>,
    /// What it wants of the way to another node: who want different things can't share an
    /// identity. Required of whatever isn't of the cluster, where it has no meaning.
    #[serde(default, skip_serializing_if = "Encryption::is_required")]
    pub encryption: Encryption,
}

impl IdentityKey {
    /// That of a pattern of domain names.
    #[must_use]
    pub fn domain(pattern: DomainPattern) -> Self {
        Self {
            subject: Subject::Domain { pattern },
            blocks: BTreeSet::new(),
            encryption: Encryption::Required,
        }
    }

    /// The pattern, if it is one's.
    #[must_use]
    pub const fn pattern(&self) -> Option<&DomainPattern> {
        match &self.subject {
            Subject::Domain { pattern } => Some(pattern),
            _ => None,
        }
    }

    /// How people see it: `shop{app=cart}`, `shop{app=cart} on shop/fast`, `node/a`,
    /// `10.0.0.0/8`, `*.example.com`, `world`; with `, encryption off` behind it if that is
    /// its setting.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = match &self.subject {
            Subject::Pod {
                namespace,
                network,
                labels,
                ..
            } => {
                let pairs: Vec<_> = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let network = network.as_ref();
                let on = network.map_or_else(String::new, |it| format!(" on {it}"));
                format!("{namespace}{{{}}}{on}", pairs.join(","))
            }
            Subject::Node { name } => format!("node/{name}"),
            Subject::Domain { pattern } => pattern.to_string(),
            Subject::Outside => {
                let longest = self.blocks.iter().max_by_key(|it| it.len());
                longest.map_or_else(|| "world".to_owned(), ToString::to_string)
            }
        };
        if self.subject != Subject::Outside
            && let Some(block) = self.blocks.iter().max_by_key(|it| it.len())
            && block.len() > 0
        {
            // A String takes all that is written to it.
            let _ = write!(label, " in {block}");
        }
        let setting = match self.encryption {
            Encryption::Required => String::new(),
            other => format!(", encryption {other}"),
        };
        let mut label = printable(&label, LABEL_LEN_MAX - setting.len());
        label.push_str(&setting);
        label
    }
}

/// A text without control characters, and its beginning if it is longer than `len_bytes_max`.
pub(crate) fn printable(text: &str, len_bytes_max: usize) -> String {
    let mut printable = String::new();
    for char in text.chars().filter(|it| !it.is_control()) {
        if printable.len() + char.len_utf8() > len_bytes_max {
            break;
        }
        printable.push(char);
    }
    printable
}

/// Prefixes in JSON are the strings that people write.
mod prefixes {
    use std::collections::BTreeSet;

    use serde::{Deserialize, Deserializer, Serializer, de};
    use sluice_offload_api::model::IpPrefix;

    pub(super) fn serialize<S: Serializer>(
        blocks: &BTreeSet<IpPrefix>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(blocks.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<IpPrefix>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| text.parse().map_err(de::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_cut_to_what_the_contract_takes() {
        let labels = Labels::from([("k\n".to_owned(), "ü".repeat(LABEL_LEN_MAX))]);
        let subject = Subject::Pod {
            namespace: "shop".to_owned(),
            network: None,
            labels,
            ports: NamedPorts::default(),
        };
        let label = IdentityKey {
            subject,
            blocks: BTreeSet::new(),
            encryption: Encryption::Off,
        }
        .label();
        assert!(label.ends_with("ü, encryption off"));
        assert!(label.starts_with("shop{k=ü"));
        assert!((LABEL_LEN_MAX - 1..=LABEL_LEN_MAX).contains(&label.len()));
    }

    #[test]
    fn a_label_names_the_narrowest_block() {
        let blocks = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"].map(|it| it.parse().unwrap());
        let mut key = IdentityKey {
            subject: Subject::Outside,
            blocks: blocks.into(),
            encryption: Encryption::Required,
        };
        assert_eq!(key.label(), "10.1.0.0/16");
        key.subject = Subject::Node { name: "a".into() };
        assert_eq!(key.label(), "node/a in 10.1.0.0/16");
        key.blocks.retain(|it| it.len() == 0);
        assert_eq!(key.label(), "node/a");
        key.blocks.clear();
        key.subject = Subject::Outside;
        assert_eq!(key.label(), "world");
    }
}
