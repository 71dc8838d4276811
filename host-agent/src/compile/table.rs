//! One policy table: the rules of the policies that select an endpoint, over identities.

use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::limits::{RULE_NAME_LEN_MAX, RULES_PER_POLICY_MAX};
use sluice_offload_api::model::{
    Action, Direction, Fallback, IdentityId, NodeName, Policy, PolicyId, PolicyRow, PortBlock,
    Protocol, RowKey, RuleIndex, Tier, Verdict,
};
use sluice_offload_api::{Limits, SharedMap};

use super::addresses::named_ports;
use crate::cluster::{
    Cluster, Labels, NamespacedName, Peer, Pod, PortRule, PortSpec, Rule, RuleAction,
};
use crate::evaluate::{NO_POLICY, OWN_NODE, cluster_rule_name, isolation_name, rule_name};
use crate::identity::{IdentityKey, PolicyKey, Subject, printable};

/// What decides a pod's table: two pods with the same key share it.
pub(super) fn policy_key(cluster: &Cluster, pod: &Pod) -> PolicyKey {
    let (mut policies, mut rules) = (Vec::new(), Vec::new());
    for (name, policy) in cluster.policies_of(pod) {
        policies.push(name.clone());
        rules.extend(policy.rules(Direction::Ingress).into_iter().flatten());
    }
    let mut cluster_policies = Vec::new();
    for (name, policy) in cluster.cluster_policies_of(pod) {
        cluster_policies.push(name.clone());
        let flows = policy.rules(Direction::Ingress).iter();
        rules.extend(flows.filter_map(|it| it.flows.as_ref()));
    }
    let mut names = BTreeSet::new();
    for port in rules.into_iter().flat_map(|it| &it.ports) {
        if let PortSpec::Named(name) = &port.ports {
            names.insert(name.as_str());
        }
    }
    PolicyKey {
        policies,
        cluster_policies,
        ports: named_ports(pod, |name| names.contains(name)),
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
        // Before everything else, but a tier that has rows is one more to ask.
        let policies = key.cluster_policies.iter();
        let mut policies = policies.filter_map(|it| self.cluster.cluster_policies.get(it));
        let tier = if policies.any(|it| it.tier == Tier::Admin) {
            Tier::Admin
        } else {
            Tier::Namespace
        };
        for (identity, number) in self.identities {
            if matches!(&identity.subject, Subject::Node { name } if name == self.node) {
                let own = Write {
                    direction: Direction::Ingress,
                    tier,
                    action: Action::Allow,
                    rule: own_node,
                };
                draft.write(own, &[Some(*number)], None, &[PortBlock::ANY]);
            }
        }
        let ingress = self.direction(&mut draft, key, Direction::Ingress);
        let egress = self.direction(&mut draft, key, Direction::Egress);
        if draft.rows.len() > rows_max {
            return closed(id, &draft.too_many_rows());
        }
        if draft.rules.len() > RULES_PER_POLICY_MAX {
            let count = draft.rules.len();
            return closed(
                id,
                &format!("{count} rules, and {RULES_PER_POLICY_MAX} fit"),
            );
        }
        draft.finish(id, ingress, egress)
    }

    /// Adds a direction's rules, in the order of precedence, and says what else holds.
    fn direction(&self, draft: &mut Draft, key: &PolicyKey, direction: Direction) -> Fallback {
        self.cluster_policies(draft, key, direction, Tier::Admin);
        if let Some(name) = self.network_policies(draft, key, direction) {
            // NetworkPolicies have the last word on whom they isolate: no Baseline.
            return Fallback {
                verdict: Verdict::Deny,
                rule: draft.rule(isolation_name(name, direction)),
            };
        }
        self.cluster_policies(draft, key, direction, Tier::Baseline);
        Fallback {
            verdict: Verdict::Allow,
            rule: draft.rule(NO_POLICY.to_owned()),
        }
    }

    /// Adds the rows of NetworkPolicies; the first that isolates.
    fn network_policies<'k>(
        &self,
        draft: &mut Draft,
        key: &'k PolicyKey,
        direction: Direction,
    ) -> Option<&'k NamespacedName> {
        let mut isolated_by = None;
        for name in &key.policies {
            let policy = self.cluster.policies.get(name);
            let Some(rules) = policy.and_then(|it| it.rules(direction)) else {
                continue;
            };
            isolated_by = isolated_by.or(Some(name));
            for (index, rule) in rules.iter().enumerate() {
                let write = Write {
                    direction,
                    tier: Tier::Namespace,
                    action: Action::Allow,
                    rule: draft.rule(rule_name(name, direction, index)),
                };
                self.rule(draft, key, Some(&name.namespace), rule, write);
            }
        }
        isolated_by
    }

    /// Adds the rows of a tier's ClusterNetworkPolicies.
    fn cluster_policies(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        direction: Direction,
        tier: Tier,
    ) {
        for name in &key.cluster_policies {
            let policy = self.cluster.cluster_policies.get(name);
            let Some(policy) = policy.filter(|it| it.tier == tier) else {
                continue;
            };
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                // Numbered all the same, so that people can look it up.
                let number = draft.rule(cluster_rule_name(name, policy, direction, index));
                let write = Write {
                    direction,
                    tier,
                    action: match rule.action {
                        RuleAction::Accept => Action::Allow,
                        RuleAction::Deny => Action::Deny,
                        RuleAction::Pass => Action::Pass,
                    },
                    rule: number,
                };
                if let Some(flows) = &rule.flows {
                    self.rule(draft, key, None, flows, write);
                }
            }
        }
    }

    /// Adds a rule's rows: each matching identity with each block of ports.
    fn rule(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        namespace: Option<&str>,
        rule: &Rule,
        write: Write,
    ) {
        let everyone = rule.peers.is_empty();
        let matches = |identity: &IdentityKey| {
            everyone
                || rule
                    .peers
                    .iter()
                    .any(|it| self.matches(namespace, it, identity))
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
            draft.write(write, &rows, None, &[PortBlock::ANY]);
        }
        for PortRule { protocol, ports } in &rule.ports {
            let blocks = match (ports, write.direction) {
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
                            draft.write(write, &peer, Some(*protocol), &blocks);
                        }
                    }
                    continue;
                }
            };
            draft.write(write, &rows, Some(*protocol), &blocks);
        }
    }

    /// Whether a peer is this identity. `policy_namespace` is a NetworkPolicy's own.
    fn matches(&self, policy_namespace: Option<&str>, peer: &Peer, identity: &IdentityKey) -> bool {
        match peer {
            Peer::Nodes(selector) => {
                let Subject::Node { name } = &identity.subject else {
                    return false;
                };
                let node = self.cluster.nodes.get(name);
                node.is_some_and(|it| selector.matches(&it.labels))
            }
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
                    None => policy_namespace == Some(namespace.as_str()),
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

/// Closes the largest tables until all fit together: whoever needs the most must not keep
/// everybody else's changes from the dataplane.
pub(super) fn close_the_largest(policies: &mut SharedMap<PolicyId, Policy>, rows_max: usize) {
    loop {
        let total: usize = policies.values().map(|it| it.rows.len()).sum();
        let largest = policies.values().max_by_key(|it| it.rows.len());
        let Some(largest) = largest.filter(|_| total > rows_max) else {
            return;
        };
        let (id, own) = (largest.id, largest.rows.len());
        let why = format!(
            "all tables of the node need {total} rows, and {rows_max} fit; this one, the \
             largest, needs {own}"
        );
        policies.insert(id, closed(id, &why));
    }
}

/// The table of an endpoint that can't have its own: nothing passes, and the rule's name
/// says why. Its other policies would be no substitute, and neither would the old table.
fn closed(id: PolicyId, why: &str) -> Policy {
    let fallback = Fallback {
        verdict: Verdict::Deny,
        rule: RuleIndex(0),
    };
    Policy {
        id,
        ingress: fallback,
        egress: fallback,
        rules: vec![printable(&format!("closed: {why}"), RULE_NAME_LEN_MAX)],
        rows: Vec::new(),
    }
}

/// What rows in the making have in common.
#[derive(Clone, Copy)]
struct Write {
    direction: Direction,
    tier: Tier,
    action: Action,
    rule: RuleIndex,
}

/// A table in the making.
#[derive(Default)]
struct Draft {
    rules: Vec<String>,
    rows: BTreeMap<RowKey, (Action, RuleIndex)>,
    rows_max: usize,
    /// What each rule asked for, rows that others had before it and those that didn't fit
    /// too.
    wanted: BTreeMap<RuleIndex, usize>,
}

impl Draft {
    /// Which rule needs how much.
    fn too_many_rows(&self) -> String {
        let total: usize = self.wanted.values().sum();
        let most = self.wanted.iter().max_by_key(|(_, count)| **count);
        let of = most.and_then(|(rule, count)| {
            let name = self.rules.get(usize::try_from(rule.0).ok()?)?;
            Some(format!("; {count} of them for {name}"))
        });
        let (max, of) = (self.rows_max, of.unwrap_or_default());
        format!("its policies need {total} rows, and {max} fit{of}")
    }

    /// Numbers a rule; later ones give way to earlier ones.
    fn rule(&mut self, name: String) -> RuleIndex {
        // There are never so many; were there, the table is closed for its rules.
        let number = RuleIndex(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        // Within the contract's bound, whatever the policy's name is.
        self.rules.push(printable(&name, RULE_NAME_LEN_MAX));
        number
    }

    /// A row for each peer and block.
    fn write(
        &mut self,
        write: Write,
        peers: &[Option<IdentityId>],
        protocol: Option<Protocol>,
        blocks: &[PortBlock],
    ) {
        *self.wanted.entry(write.rule).or_default() += peers.len() * blocks.len();
        for &peer in peers {
            for &ports in blocks {
                // One too many is enough to know.
                if self.rows.len() > self.rows_max {
                    return;
                }
                let key = RowKey {
                    direction: write.direction,
                    tier: write.tier,
                    peer,
                    protocol,
                    ports,
                };
                // The first of one key counts, and rules come in the order of precedence.
                self.rows.entry(key).or_insert((write.action, write.rule));
            }
        }
    }

    fn finish(self, id: PolicyId, ingress: Fallback, egress: Fallback) -> Policy {
        let row = |(key, (action, rule)): (RowKey, _)| PolicyRow {
            direction: key.direction,
            tier: key.tier,
            peer: key.peer,
            protocol: key.protocol,
            ports: key.ports,
            action,
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
