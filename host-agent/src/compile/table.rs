//! One policy table: the rules of the policies that select an endpoint, over identities.

use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::Limits;
use sluice_offload_api::limits::{RULE_NAME_LEN_MAX, RULES_PER_POLICY_MAX};
use sluice_offload_api::model::{
    Direction, Fallback, IdentityId, NodeName, Policy, PolicyId, PolicyRow, PortBlock, Protocol,
    RuleIndex, Verdict,
};

use super::addresses::named_ports;
use crate::cluster::{Cluster, Labels, NamespacedName, Peer, Pod, PortRule, PortSpec, Rule};
use crate::evaluate::{NO_POLICY, OWN_NODE, isolation_name, rule_name};
use crate::identity::{IdentityKey, PolicyKey, Subject, printable};

/// What decides a pod's table: two pods with the same key share it.
pub(super) fn policy_key(cluster: &Cluster, pod: &Pod) -> PolicyKey {
    let mut names = BTreeSet::new();
    let mut policies = Vec::new();
    for (name, policy) in cluster.policies_of(pod) {
        policies.push(name.clone());
        for port in policy
            .rules(Direction::Ingress)
            .into_iter()
            .flatten()
            .flat_map(|it| &it.ports)
        {
            if let PortSpec::Named(name) = &port.ports {
                names.insert(name.as_str());
            }
        }
    }
    PolicyKey {
        policies,
        ports: named_ports(pod, &names),
    }
}

/// Writes rules out over the cluster's identities.
pub(super) struct Rules<'a> {
    cluster: &'a Cluster,
    node: &'a NodeName,
    identities: &'a [(&'a IdentityKey, IdentityId)],
    namespaces: BTreeMap<&'a str, Labels>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        node: &'a NodeName,
        identities: &'a [(&'a IdentityKey, IdentityId)],
    ) -> Self {
        let mut namespaces = BTreeMap::new();
        for (key, _) in identities {
            if let Subject::Pod { namespace, .. } = &key.subject {
                let labels = || cluster.namespace_labels(namespace);
                namespaces.entry(namespace.as_str()).or_insert_with(labels);
            }
        }
        Self {
            cluster,
            node,
            identities,
            namespaces,
        }
    }

    /// The table of a key; a closed one if it doesn't fit.
    pub(super) fn table(&self, key: &PolicyKey, id: PolicyId, limits: &Limits) -> Policy {
        let rows_max = limits.rows_per_policy;
        let mut draft = Draft {
            rows_max,
            ..Draft::default()
        };
        let own_node = draft.rule(OWN_NODE.to_owned());
        for (identity, number) in self.identities {
            if matches!(&identity.subject, Subject::Node { name } if name == self.node) {
                let (peer, any) = ([Some(*number)], [PortBlock::ANY]);
                draft.allow_all(Direction::Ingress, &peer, None, &any, own_node);
            }
        }
        let ingress = self.direction(&mut draft, key, Direction::Ingress);
        let egress = self.direction(&mut draft, key, Direction::Egress);
        if draft.rows.len() > rows_max {
            return closed(id, rows_max, "rows");
        }
        if draft.rules.len() > RULES_PER_POLICY_MAX {
            return closed(id, RULES_PER_POLICY_MAX, "rules");
        }
        draft.finish(id, ingress, egress)
    }

    /// Adds a direction's rules, in the order of precedence, and says what else holds.
    fn direction(&self, draft: &mut Draft, key: &PolicyKey, direction: Direction) -> Fallback {
        let mut isolated_by = None;
        for name in &key.policies {
            let policy = self.cluster.policies.get(name);
            let Some(rules) = policy.and_then(|it| it.rules(direction)) else {
                continue;
            };
            isolated_by = isolated_by.or(Some(name));
            for (index, rule) in rules.iter().enumerate() {
                let number = draft.rule(rule_name(name, direction, index));
                self.rule(draft, key, (name, rule), direction, number);
            }
        }
        let (verdict, name) = match isolated_by {
            Some(name) => (Verdict::Deny, isolation_name(name, direction)),
            None => (Verdict::Allow, NO_POLICY.to_owned()),
        };
        Fallback {
            verdict,
            rule: draft.rule(name),
        }
    }

    /// Adds a rule's rows: each matching identity with each block of ports.
    fn rule(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        (policy, rule): (&NamespacedName, &Rule),
        direction: Direction,
        number: RuleIndex,
    ) {
        let everyone = rule.peers.is_empty();
        let matches = |identity: &IdentityKey| {
            everyone
                || rule
                    .peers
                    .iter()
                    .any(|it| self.matches(&policy.namespace, it, identity))
        };
        let peers: Vec<&(&IdentityKey, IdentityId)> = self
            .identities
            .iter()
            .filter(|(identity, _)| matches(identity))
            .collect();
        let rows: Vec<Option<IdentityId>> = if everyone {
            vec![None]
        } else {
            peers.iter().map(|(_, id)| Some(*id)).collect()
        };
        if rule.ports.is_empty() {
            draft.allow_all(direction, &rows, None, &[PortBlock::ANY], number);
        }
        for PortRule { protocol, ports } in &rule.ports {
            let blocks = match (ports, direction) {
                (PortSpec::Any, _) => vec![PortBlock::ANY],
                (PortSpec::Range { first, last }, _) => PortBlock::cover(*first, *last),
                // The endpoint is the destination.
                (PortSpec::Named(name), Direction::Ingress) => {
                    key.ports.numbers(name, *protocol).map(one).collect()
                }
                // The peer is: each has its own numbers, and who is no pod has none.
                (PortSpec::Named(name), Direction::Egress) => {
                    for (identity, id) in &peers {
                        if let Subject::Pod { ports, .. } = &identity.subject {
                            let blocks: Vec<_> = ports.numbers(name, *protocol).map(one).collect();
                            let peer = [Some(*id)];
                            draft.allow_all(direction, &peer, Some(*protocol), &blocks, number);
                        }
                    }
                    continue;
                }
            };
            draft.allow_all(direction, &rows, Some(*protocol), &blocks, number);
        }
    }

    /// Whether a peer of a policy in `policy_namespace` is this identity.
    fn matches(&self, policy_namespace: &str, peer: &Peer, identity: &IdentityKey) -> bool {
        match peer {
            Peer::Block { cidr, except } => {
                identity.blocks.contains(cidr)
                    && !except.iter().any(|it| identity.blocks.contains(it))
            }
            Peer::Pods { namespaces, pods } => {
                let Subject::Pod {
                    namespace, labels, ..
                } = &identity.subject
                else {
                    return false;
                };
                let in_namespace = match namespaces {
                    Some(selector) => self
                        .namespaces
                        .get(namespace.as_str())
                        .is_some_and(|labels| selector.matches(labels)),
                    None => namespace == policy_namespace,
                };
                in_namespace
                    && pods
                        .as_ref()
                        .is_none_or(|selector| selector.matches(labels))
            }
        }
    }
}

fn one(port: u16) -> PortBlock {
    PortBlock::masked(port, 16)
}

/// The table of an endpoint that can't have its own: nothing passes, and the rule's name
/// says why. Its other policies would be no substitute, and neither would the old table.
fn closed(id: PolicyId, max: usize, what: &str) -> Policy {
    let fallback = Fallback {
        verdict: Verdict::Deny,
        rule: RuleIndex(0),
    };
    Policy {
        id,
        ingress: fallback,
        egress: fallback,
        rules: vec![format!("closed: more than the {max} {what} that fit")],
        rows: Vec::new(),
    }
}

type RowKey = (Direction, Option<IdentityId>, Option<Protocol>, PortBlock);

/// A table in the making. All its rows allow: NetworkPolicy denies by isolation only.
#[derive(Default)]
struct Draft {
    rules: Vec<String>,
    rows: BTreeMap<RowKey, RuleIndex>,
    rows_max: usize,
}

impl Draft {
    /// Numbers a rule; later ones give way to earlier ones.
    fn rule(&mut self, name: String) -> RuleIndex {
        // There are never so many; were there, the table is closed for its rules.
        let number = RuleIndex(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        // Within the contract's bound, whatever the policy's name is.
        self.rules.push(printable(&name, RULE_NAME_LEN_MAX));
        number
    }

    /// Allows each peer each block.
    fn allow_all(
        &mut self,
        direction: Direction,
        peers: &[Option<IdentityId>],
        protocol: Option<Protocol>,
        blocks: &[PortBlock],
        rule: RuleIndex,
    ) {
        for &peer in peers {
            for &block in blocks {
                // One too many is enough to know.
                if self.rows.len() > self.rows_max {
                    return;
                }
                // The first of one key decides, and rules come in the order of precedence.
                self.rows
                    .entry((direction, peer, protocol, block))
                    .or_insert(rule);
            }
        }
    }

    fn finish(self, id: PolicyId, ingress: Fallback, egress: Fallback) -> Policy {
        let row = |((direction, peer, protocol, ports), rule)| PolicyRow {
            direction,
            peer,
            protocol,
            ports,
            verdict: Verdict::Allow,
            rule,
        };
        let rows = self.rows.into_iter().map(row).collect();
        Policy {
            id,
            ingress,
            egress,
            rules: self.rules,
            rows,
        }
    }
}
