//! One policy table: the rules of the policies that select an endpoint, over identities.

use std::collections::{BTreeMap, BTreeSet};

use sluice_mutants::{Mutant, is};
use sluice_offload_api::limits::{RULE_NAME_LEN_MAX, RULES_PER_POLICY_MAX};
use sluice_offload_api::model::{
    Action, Direction, Fallback, IdentityId, NodeName, Policy, PolicyId, PolicyRow, PortBlock,
    Protocol, RowKey, RuleIndex, ShadowTable, Tier, Verdict,
};
use sluice_offload_api::{Limits, SharedMap};

use super::addresses::named_ports;
use crate::cluster::{
    Cluster, Interface, Labels, Mode, NamespacedName, Peer, Pod, PolicySet, PortRule, PortSpec,
    Rule, RuleAction,
};
use crate::evaluate::{
    NO_POLICY, OWN_NODE, cluster_rule_name, isolation_name, multi_isolation_name, multi_rule_name,
    rule_name,
};
use crate::identity::{IdentityKey, NamedPorts, PolicyKey, Subject, printable};

/// What decides an interface's table: two with the same key share it. `interface` is a
/// secondary one.
pub(super) fn policy_key(cluster: &Cluster, pod: &Pod, interface: Option<&Interface>) -> PolicyKey {
    if let Some(interface) = interface {
        return multi_policy_key(cluster, pod, interface);
    }
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
    PolicyKey {
        policies,
        cluster_policies,
        multi_policies: None,
        ports: ports_of(pod, rules),
    }
}

/// The key of a secondary interface: nothing but MultiNetworkPolicies is for it.
fn multi_policy_key(cluster: &Cluster, pod: &Pod, interface: &Interface) -> PolicyKey {
    let (mut policies, mut rules) = (Vec::new(), Vec::new());
    for (name, multi) in cluster.multi_policies_of(pod, interface) {
        policies.push(name.clone());
        rules.extend(multi.policy.rules(Direction::Ingress).into_iter().flatten());
    }
    PolicyKey {
        multi_policies: Some(policies),
        ports: ports_of(pod, rules),
        ..PolicyKey::default()
    }
}

/// A pod's own ports by the names that rules use.
fn ports_of(pod: &Pod, rules: Vec<&Rule>) -> NamedPorts {
    let mut names = BTreeSet::new();
    for port in rules.into_iter().flat_map(|it| &it.ports) {
        if let PortSpec::Named(name) = &port.ports {
            names.insert(name.as_str());
        }
    }
    named_ports(pod, |name| names.contains(name))
}

/// Where a rule's selectors look for pods.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    /// The policy's own namespace, if it has one.
    namespace: Option<&'a str>,
    /// A MultiNetworkPolicy's networks; `None` is pods' primary interfaces.
    networks: Option<&'a BTreeSet<NamespacedName>>,
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

    /// The table of a key; a closed one if it doesn't fit. With the one that would hold if
    /// shadow policies were enforced beside it, if any is among the key's and that fits too:
    /// what only counts may not close anything.
    pub(super) fn table(&self, key: &PolicyKey, id: PolicyId, limits: &Limits) -> Policy {
        let rows_max = limits.rows_per_policy;
        let mut policy = match self.table_of(key, id, PolicySet::Enforced, rows_max) {
            Ok(policy) => policy,
            Err(why) => return closed(id, &why),
        };
        if self.is_shadowed(key) {
            let left = rows_max - policy.rows.len();
            let table = self.table_of(key, id, PolicySet::WithShadow, left).ok();
            let rules = RULES_PER_POLICY_MAX - policy.rules.len();
            let table = table.filter(|it| it.rules.len() <= rules);
            policy.shadow = table.map(|it| Box::new(ShadowTable::new(it)));
        }
        policy
    }

    /// Whether one of a key's policies is in shadow mode.
    fn is_shadowed(&self, key: &PolicyKey) -> bool {
        let own = key.policies.iter();
        let own = own.filter_map(|it| Some(self.cluster.policies.get(it)?.mode));
        let cluster = key.cluster_policies.iter();
        let cluster = cluster.filter_map(|it| Some(self.cluster.cluster_policies.get(it)?.mode));
        let multi = key.multi_policies.iter().flatten();
        let multi = multi.filter_map(|it| Some(self.cluster.multi_policies.get(it)?.policy.mode));
        let mut modes = own.chain(cluster).chain(multi);
        modes.any(|mode| mode == Mode::Shadow)
    }

    /// A table of some of a key's policies, or why it doesn't fit.
    fn table_of(
        &self,
        key: &PolicyKey,
        id: PolicyId,
        set: PolicySet,
        rows_max: usize,
    ) -> Result<Policy, String> {
        let mut draft = Draft {
            rows_max,
            ..Draft::default()
        };
        // A node has no business of its own on secondary networks.
        let own_node = if key.multi_policies.is_none() {
            Some(draft.rule(OWN_NODE.to_owned()))
        } else {
            None
        };
        // Before everything else, but a tier that has rows is one more to ask.
        let policies = key.cluster_policies.iter();
        let mut policies = policies.filter_map(|it| self.cluster.cluster_policies.get(it));
        let tier = if policies.any(|it| it.tier == Tier::Admin && set.has(it.mode)) {
            Tier::Admin
        } else {
            Tier::Namespace
        };
        for (identity, number) in self.identities {
            if let Some(rule) = own_node
                && matches!(&identity.subject, Subject::Node { name } if name == self.node)
            {
                let own = Write {
                    direction: Direction::Ingress,
                    tier,
                    action: Action::Allow,
                    rule,
                };
                draft.write(own, &[Some(*number)], None, &[PortBlock::ANY]);
            }
        }
        let ingress = self.direction(&mut draft, key, Direction::Ingress, set);
        let egress = self.direction(&mut draft, key, Direction::Egress, set);
        if draft.rows.len() > rows_max {
            return Err(draft.too_many_rows());
        }
        if draft.rules.len() > RULES_PER_POLICY_MAX {
            let count = draft.rules.len();
            return Err(format!("{count} rules, and {RULES_PER_POLICY_MAX} fit"));
        }
        Ok(draft.finish(id, ingress, egress))
    }

    /// Adds a direction's rules, in the order of precedence, and says what else holds.
    fn direction(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        direction: Direction,
        set: PolicySet,
    ) -> Fallback {
        if let Some(policies) = &key.multi_policies {
            let (verdict, rule) = match self.multi_policies(draft, key, policies, (direction, set))
            {
                Some(name) => (Verdict::Deny, multi_isolation_name(name, direction)),
                None => (Verdict::Allow, NO_POLICY.to_owned()),
            };
            let rule = draft.rule(rule);
            return Fallback { verdict, rule };
        }
        self.cluster_policies(draft, key, direction, (Tier::Admin, set));
        if let Some(name) = self.network_policies(draft, key, direction, set) {
            // NetworkPolicies have the last word on whom they isolate: no Baseline.
            return Fallback {
                verdict: if is(Mutant::IsolationForgotten) {
                    Verdict::Allow
                } else {
                    Verdict::Deny
                },
                rule: draft.rule(isolation_name(name, direction)),
            };
        }
        self.cluster_policies(draft, key, direction, (Tier::Baseline, set));
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
        set: PolicySet,
    ) -> Option<&'k NamespacedName> {
        let mut isolated_by = None;
        for name in &key.policies {
            let policy = self.cluster.policies.get(name);
            let policy = policy.filter(|it| set.has(it.mode));
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
                let scope = Scope {
                    namespace: Some(&name.namespace),
                    networks: None,
                };
                self.rule(draft, key, scope, rule, write);
            }
        }
        isolated_by
    }

    /// Adds the rows of MultiNetworkPolicies; the first that isolates.
    fn multi_policies<'k>(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        policies: &'k [NamespacedName],
        (direction, set): (Direction, PolicySet),
    ) -> Option<&'k NamespacedName> {
        let mut isolated_by = None;
        for name in policies {
            let multi = self.cluster.multi_policies.get(name);
            let Some(multi) = multi.filter(|it| set.has(it.policy.mode)) else {
                continue;
            };
            let Some(rules) = multi.policy.rules(direction) else {
                continue;
            };
            isolated_by = isolated_by.or(Some(name));
            let scope = Scope {
                namespace: Some(&name.namespace),
                networks: Some(&multi.networks),
            };
            for (index, rule) in rules.iter().enumerate() {
                let write = Write {
                    direction,
                    tier: Tier::Namespace,
                    action: Action::Allow,
                    rule: draft.rule(multi_rule_name(name, direction, index)),
                };
                self.rule(draft, key, scope, rule, write);
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
        (tier, set): (Tier, PolicySet),
    ) {
        let mut names: Vec<_> = key.cluster_policies.iter().collect();
        if is(Mutant::RulesUpsideDown) {
            names.reverse();
        }
        for name in names {
            let policy = self.cluster.cluster_policies.get(name);
            let Some(policy) = policy.filter(|it| it.tier == tier && set.has(it.mode)) else {
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
                    self.rule(draft, key, Scope::default(), flows, write);
                }
            }
        }
    }

    /// Adds a rule's rows: each matching identity with each block of ports.
    fn rule(
        &self,
        draft: &mut Draft,
        key: &PolicyKey,
        scope: Scope<'_>,
        rule: &Rule,
        write: Write,
    ) {
        let everyone = rule.peers.is_empty();
        let matches = |identity: &IdentityKey| {
            everyone
                || rule
                    .peers
                    .iter()
                    .any(|it| self.matches(scope, it, identity))
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
                (PortSpec::Range { first, .. }, _) if is(Mutant::EndPortForgotten) => {
                    vec![one(*first)]
                }
                (PortSpec::Range { first, last }, _) => PortBlock::cover(*first, *last),
                // The endpoint is the destination.
                (PortSpec::Named(name), Direction::Ingress) => {
                    key.ports.numbers(name, *protocol).map(one).collect()
                }
                (PortSpec::Named(name), Direction::Egress) if is(Mutant::PortNameOfSource) => {
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

    /// Whether a peer is this identity.
    fn matches(&self, scope: Scope<'_>, peer: &Peer, identity: &IdentityKey) -> bool {
        match peer {
            Peer::Domain(pattern) => identity.pattern() == Some(pattern),
            Peer::Nodes(selector) => {
                let Subject::Node { name } = &identity.subject else {
                    return false;
                };
                let node = self.cluster.nodes.get(name);
                node.is_some_and(|it| selector.matches(&it.labels))
            }
            Peer::Block { cidr, except } => {
                identity.blocks.contains(cidr)
                    && (is(Mutant::ExceptForgotten)
                        || !except.iter().any(|it| identity.blocks.contains(it)))
            }
            Peer::Pods { namespaces, pods } => {
                let Subject::Pod {
                    namespace,
                    network,
                    labels,
                    ..
                } = &identity.subject
                else {
                    return false;
                };
                let on_network = match (scope.networks, network) {
                    (None, on) => on.is_none(),
                    (Some(networks), Some(on)) => networks.contains(on),
                    (Some(_), None) => false,
                };
                let in_namespace = match namespaces {
                    Some(selector) if is(Mutant::NamespacesByPods) => selector.matches(labels),
                    Some(selector) => self
                        .namespaces
                        .get(namespace.as_str())
                        .is_some_and(|labels| selector.matches(labels)),
                    None => scope.namespace == Some(namespace.as_str()),
                };
                on_network
                    && in_namespace
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
/// everybody else's changes from the dataplane. Before that, what is only counted gives way
/// to what is enforced, the largest first.
pub(super) fn close_the_largest(policies: &mut SharedMap<PolicyId, Policy>, rows_max: usize) {
    let shadow_rows = |it: &Policy| it.shadow_table().map_or(0, |it| it.rows.len());
    loop {
        let total: usize = policies.values().map(Policy::rows_in_all).sum();
        let largest = policies.values().max_by_key(|it| shadow_rows(it));
        let largest = largest.filter(|it| total > rows_max && shadow_rows(it) > 0);
        let Some(id) = largest.map(|it| it.id) else {
            break;
        };
        if let Some(largest) = policies.get_mut(&id) {
            largest.shadow = None;
        }
    }
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
        shadow: None,
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
            shadow: None,
        }
    }
}
