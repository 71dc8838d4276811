//! Whether what a pod or a node says to another node is encrypted: who may set it, and what
//! holds.

use std::collections::BTreeSet;

use sluice_offload_api::model::{Encryption, NodeName};

use super::{Cluster, Node, Pod};

/// What the operator of a cluster says of encryption, the same on every node. The default is
/// that all of it is required and every node has a dataplane.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EncryptionSetup {
    default: Encryption,
    loosest: Encryption,
    unprotected: BTreeSet<NodeName>,
}

/// The loosest setting is stricter than the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{loosest}`, the loosest that an annotation may ask for, is stricter than the default, \
     `{default}`"
)]
pub struct LoosestAboveDefault {
    /// The default.
    pub default: Encryption,
    /// The loosest.
    pub loosest: Encryption,
}

impl EncryptionSetup {
    /// What holds without an annotation, the loosest that an annotation may ask for (the
    /// default, if it is `None`), and the nodes that have no dataplane.
    ///
    /// # Errors
    /// [`LoosestAboveDefault`].
    pub fn new(
        default: Encryption,
        loosest: Option<Encryption>,
        unprotected: BTreeSet<NodeName>,
    ) -> Result<Self, LoosestAboveDefault> {
        let loosest = loosest.unwrap_or(default);
        if loosest > default {
            return Err(LoosestAboveDefault { default, loosest });
        }
        Ok(Self {
            default,
            loosest,
            unprotected,
        })
    }

    /// A pod's setting: its own annotation, or its namespace's, or the default; never looser
    /// than the operator lets annotations be. One in its node's network has the node's.
    #[must_use]
    pub fn of_pod(&self, cluster: &Cluster, pod: &Pod) -> Encryption {
        if pod.host_network {
            return self.of_nodes();
        }
        let namespace = cluster.namespaces.get(&pod.pod.namespace);
        let asked = pod
            .encryption
            .or_else(|| namespace.and_then(|it| it.encryption));
        asked.map_or(self.default, |it| it.max(self.loosest))
    }

    /// Every node's own setting.
    #[must_use]
    pub const fn of_nodes(&self) -> Encryption {
        self.default
    }

    /// The loosest that an annotation may ask for.
    #[must_use]
    pub const fn loosest(&self) -> Encryption {
        self.loosest
    }

    /// The nodes that the operator says have no dataplane.
    pub fn unprotected(&self) -> impl Iterator<Item = &NodeName> {
        self.unprotected.iter()
    }

    /// Whether a node has no dataplane and the operator says so. One that says where its
    /// dataplane is has one, whatever the list says: what is sealed for nobody is dropped.
    #[must_use]
    pub fn is_unprotected(&self, name: &NodeName, node: &Node) -> bool {
        node.tunnel_ips.is_empty() && self.unprotected.contains(name)
    }

    /// Whether packets have a way to a node: it says where its dataplane is, or the operator says
    /// that it has none. To one that does neither, or that isn't there, nothing goes.
    #[must_use]
    pub fn is_reached(&self, cluster: &Cluster, name: &NodeName) -> bool {
        let node = cluster.nodes.get(name);
        node.is_some_and(|it| !it.tunnel_ips.is_empty() || self.is_unprotected(name, it))
    }

    /// Annotations that ask for less than the operator lets them, as people are told.
    #[must_use]
    pub fn overruled(&self, cluster: &Cluster) -> Vec<String> {
        let told = |what: String, asked: Option<Encryption>| {
            let asked = asked.filter(|it| *it < self.loosest)?;
            let loosest = self.loosest;
            Some(format!(
                "{what} asks for encryption `{asked}`; the operator lets annotations go down to \
                 `{loosest}`, and that holds"
            ))
        };
        let namespaces = cluster.namespaces.iter();
        let namespaces =
            namespaces.filter_map(|(name, it)| told(format!("Namespace {name}"), it.encryption));
        let pods = cluster.pods.values();
        let pods = pods.filter_map(|it| told(format!("Pod {}", it.pod), it.encryption));
        namespaces.chain(pods).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Namespace;
    use Encryption::{Off, Preferred, Required};

    fn setup(default: Encryption, loosest: Encryption) -> EncryptionSetup {
        let unprotected = BTreeSet::from(["old".into()]);
        EncryptionSetup::new(default, Some(loosest), unprotected).unwrap()
    }

    fn of_pod(
        setup: &EncryptionSetup,
        namespace: Option<Encryption>,
        pod: Option<Encryption>,
    ) -> Encryption {
        let mut cluster = Cluster::default();
        let of_namespace = Namespace {
            encryption: namespace,
            ..Namespace::default()
        };
        cluster.namespaces.insert("shop".to_owned(), of_namespace);
        let mut it = Pod::new("shop", "web");
        it.encryption = pod;
        setup.of_pod(&cluster, &it)
    }

    #[test]
    fn a_pods_word_goes_before_its_namespaces_and_that_before_the_clusters() {
        let free = setup(Preferred, Off);
        assert_eq!(of_pod(&free, None, None), Preferred);
        assert_eq!(of_pod(&free, Some(Off), None), Off);
        assert_eq!(of_pod(&free, Some(Off), Some(Required)), Required);
        assert_eq!(of_pod(&free, Some(Required), Some(Off)), Off);
    }

    #[test]
    fn nobody_goes_below_what_the_operator_lets_them() {
        for asked in Encryption::ALL {
            let closed = EncryptionSetup::default();
            assert_eq!(of_pod(&closed, Some(asked), None), Required);
            assert_eq!(of_pod(&closed, None, Some(asked)), Required);
        }
        let half = setup(Required, Preferred);
        assert_eq!(of_pod(&half, None, Some(Off)), Preferred);
        assert_eq!(of_pod(&half, None, None), Required);
        let refused = EncryptionSetup::new(Off, Some(Required), BTreeSet::new());
        assert!(refused.is_err());
    }

    #[test]
    fn a_node_that_says_where_its_dataplane_is_has_one() {
        let setup = setup(Preferred, Preferred);
        let (mut node, old) = (Node::default(), NodeName::from("old"));
        assert!(setup.is_unprotected(&old, &node));
        assert!(!setup.is_unprotected(&"new".into(), &node));
        node.tunnel_ips.push([192, 0, 2, 1].into());
        assert!(!setup.is_unprotected(&old, &node));
    }

    #[test]
    fn who_asks_in_vain_is_told() {
        let mut cluster = Cluster::default();
        let mut pod = Pod::new("shop", "web");
        pod.encryption = Some(Off);
        cluster.pods.insert(pod.pod.clone(), pod);
        let told = setup(Required, Preferred).overruled(&cluster);
        let expected = "Pod shop/web asks for encryption `off`; the operator lets annotations go \
                        down to `preferred`, and that holds";
        assert_eq!(told, [expected]);
        assert!(setup(Required, Off).overruled(&cluster).is_empty());
    }
}
