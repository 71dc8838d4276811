//! What the agent tells about itself: no clock, no path, nothing secret.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_offload_api::Limits;
use sluice_offload_api::model::{
    Action, Direction, Endpoint, Fallback, NodeName, PodRef, Policy, PolicyRow, PortBlock,
    PortName, Tier, Verdict,
};

use super::Agent;
use crate::cluster::{Cluster, NamespacedName};

/// How the agent is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The node.
    pub node: NodeName,
    /// Whether a dataplane is connected.
    pub connected: bool,
    /// Whether it is known to hold what the agent wants.
    pub settled: bool,
    /// The generation it is known to hold.
    pub generation: Option<u64>,
    /// The generation that is on its way.
    pub in_flight: Option<u64>,
    /// What the good manifests hold.
    pub pods: usize,
    /// The same.
    pub policies: usize,
    /// Policies in shadow mode: counted, not enforced.
    pub shadow: Vec<String>,
    /// VFs of the node.
    pub vfs: usize,
    /// Pods that have one.
    pub attached: usize,
    /// Of those, pods that the manifests don't open: default-drop.
    pub closed: usize,
    /// What a person should look at; none if all is well.
    pub problems: Vec<Problem>,
}

/// Something that is wrong, and what holds meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Where: `manifests`, `compile`, `dataplane`.
    pub part: String,
    /// What is wrong.
    pub text: String,
    /// What holds meanwhile.
    pub meanwhile: String,
}

/// A VF and who has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VfView {
    /// The dataplane's port.
    pub port: PortName,
    /// The VF's number.
    pub index: u16,
    /// Its MAC.
    pub mac: String,
    /// The pod that has it.
    pub pod: Option<VfBindingView>,
}

/// Who has a VF.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VfBindingView {
    /// The pod.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The sandbox.
    pub container: String,
    /// The interface's name in it.
    pub ifname: String,
    /// The network that it is on, if it is a secondary interface.
    pub network: Option<String>,
    /// Its addresses as they are guarded, or as given if it is closed.
    pub ips: Vec<IpAddr>,
    /// Whether the dataplane holds an endpoint for it: otherwise everything is dropped.
    pub open: bool,
    /// How it stands with the manifests.
    pub standing: String,
}

/// An endpoint's policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyView {
    /// The pod.
    pub pod: String,
    /// Which of its interfaces; empty is the primary one.
    pub interface: String,
    /// Its port.
    pub port: PortName,
    /// Its identity.
    pub identity: u32,
    /// Its identity, for people.
    pub label: String,
    /// The table it is judged by.
    pub table: PolicyTable,
}

/// A compiled table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyTable {
    /// Its number.
    pub id: u32,
    /// What holds when no ingress row matches: `deny (shop/default isolates ingress)`.
    pub ingress: String,
    /// The same for egress.
    pub egress: String,
    /// Its rows.
    pub rows: Vec<RowView>,
    /// What would hold if policies in shadow mode were enforced.
    pub shadow: Option<Box<PolicyTable>>,
}

/// A row of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RowView {
    /// `ingress` or `egress`.
    pub direction: Direction,
    /// `admin`, `namespace` or `baseline`.
    pub tier: Tier,
    /// The other end; `anyone` if it may be.
    pub peer: String,
    /// The protocol; `any` if it may be.
    pub protocol: String,
    /// The ports: `any`, `80` or `8080-8083`.
    pub ports: String,
    /// `allow`, `deny` or `pass` to the next tier.
    pub action: Action,
    /// The rule it came from.
    pub rule: String,
}

impl Agent {
    /// How it is.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let closed = |it: &super::Attachment| {
            self.subjects.standings.get(&it.key()) != Some(&super::Standing::Known)
        };
        let (pods, policies) = self.cluster.as_ref().map_or((0, 0), |it| {
            let policies = it.policies.len() + it.multi_policies.len();
            (it.pods.len(), policies)
        });
        AgentStatus {
            node: self.setup.node.clone(),
            connected: self.is_connected(),
            settled: self.is_settled(),
            generation: self.in_force().map(|it| it.generation.0),
            in_flight: self.reconciler.in_flight().map(|it| it.0),
            pods,
            policies,
            shadow: self
                .cluster
                .as_ref()
                .map_or_else(Vec::new, Cluster::shadow_policies),
            vfs: self.setup.vfs.len(),
            attached: self.attachments.len(),
            closed: self.attachments.iter().filter(|it| closed(it)).count(),
            problems: self.problems(),
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |part: &str, text: String, meanwhile: &str| {
            problems.push(Problem {
                part: part.to_owned(),
                text,
                meanwhile: meanwhile.to_owned(),
            });
        };
        let last = "the last good ones stay in force; new pods stay closed";
        let none = "nothing is sent; the dataplane keeps what it has, new pods stay closed";
        if let Some(fault) = &self.source_fault {
            let meanwhile = if self.cluster.is_some() { last } else { none };
            add("manifests", fault.clone(), meanwhile);
        }
        if let Some(fault) = &self.compile_fault {
            let text = fault.to_string();
            add(
                "compile",
                text,
                "the last generation stays in force; ADD is refused",
            );
        }
        let peers = self.reconciler.desired().map(|it| &it.peers);
        let peers = peers.into_iter().flat_map(|it| it.values());
        for peer in peers.filter(|it| it.unprotected) {
            let (name, cluster) = (&peer.node, &self.subjects.cluster);
            if self.setup.encryption.is_reached(cluster, name) {
                continue;
            }
            let text = if cluster.nodes.contains_key(name) {
                format!(
                    "node {name} has no address for ESP; annotate it with sluice.dev/tunnel-ips, or \
                     name it among the agent's unprotected_nodes"
                )
            } else {
                format!("pods are on node {name}, and there is no Node of that name")
            };
            let meanwhile = "what this node's pods say to that node and its pods is dropped, and the other \
                             way round (`unprotected`)";
            add("nodes", text, meanwhile);
        }
        if let Some(refused) = self.held() {
            add(
                "dataplane",
                refused.to_string(),
                "the last generation stays in force",
            );
        }
        if !self.is_connected() {
            let text = "not connected".to_owned();
            add(
                "dataplane",
                text,
                "its last generation stays in force; ADD waits",
            );
        }
        for (key, found) in &self.closed {
            let meanwhile = "its port is closed until the agent starts again";
            add("validation", format!("pod {key}: {found}"), meanwhile);
        }
        for (uid, found) in &self.unshadowed {
            let meanwhile = "its shadow policies are not counted until the agent starts again; \
                             what is enforced stands";
            add(
                "validation",
                format!("shadow of pod {uid}: {found}"),
                meanwhile,
            );
        }
        for (pod, rows) in self.without_shadow() {
            let text = format!(
                "pod {pod}: what its shadow policies would hold does not fit beside the {rows} \
                 rows that are enforced ({} a pod, {} a node)",
                Limits::MAX.rows_per_policy,
                Limits::MAX.rows
            );
            let meanwhile = "its shadow policies are not counted; what is enforced stands";
            add("shadow", text, meanwhile);
        }
        for it in &self.attachments {
            match self.subjects.standings.get(&it.key()) {
                Some(super::Standing::Known) | None => {}
                Some(standing) => {
                    let text = format!("pod {} on {}: {standing}", it.pod, it.port);
                    add("pods", text, "its port is closed");
                }
            }
        }
        problems
    }

    /// The network of a secondary interface.
    fn network(&self, it: &super::Attachment) -> Option<&NamespacedName> {
        let pod = self.subjects.cluster.pods.get(&it.pod)?;
        Some(&pod.interface(&it.ifname)?.network)
    }

    /// Pods that a policy in shadow mode selects and that have no shadow table, because it
    /// doesn't fit; with the rows of the table that they have.
    fn without_shadow(&self) -> Vec<(PodRef, usize)> {
        let Some(state) = self.reconciler.desired() else {
            return Vec::new();
        };
        let cluster = &self.subjects.cluster;
        let lacks = |endpoint: &Endpoint| {
            let policy = state.policies.get(&endpoint.policy)?;
            let pod = cluster.pods.get(&endpoint.pod)?;
            let lacks = policy.shadow.is_none()
                && !self.unshadowed.contains_key(&endpoint.key())
                && endpoint
                    .ips
                    .first()
                    .is_some_and(|ip| cluster.is_shadowed(pod, *ip));
            lacks.then(|| (endpoint.pod.clone(), policy.rows.len()))
        };
        state.endpoints.values().filter_map(lacks).collect()
    }

    /// The node's VFs.
    #[must_use]
    pub fn vf_views(&self) -> Vec<VfView> {
        let view = |slot: &crate::vf::VfSlot| VfView {
            port: slot.name.clone(),
            index: slot.index,
            mac: slot.mac.to_string(),
            pod: self
                .attachments
                .iter()
                .find(|it| it.port == slot.name)
                .map(|it| {
                    let endpoint = self.in_force().and_then(|state| {
                        state
                            .endpoints
                            .values()
                            .find(|e| e.port == it.port && e.pod == it.pod)
                    });
                    let standing = self.subjects.standings.get(&it.key());
                    VfBindingView {
                        pod: it.pod.to_string(),
                        uid: it.uid.to_string(),
                        container: it.container.clone(),
                        ifname: it.ifname.clone(),
                        network: self.network(it).map(|it| it.to_string()),
                        ips: endpoint.map_or_else(|| it.ips.clone(), |e| e.ips.clone()),
                        open: endpoint.is_some(),
                        standing: standing
                            .map_or_else(|| "not compiled yet".to_owned(), ToString::to_string),
                    }
                }),
        };
        self.setup.vfs.iter().map(view).collect()
    }

    /// The tables in force, by endpoint; of one pod if `pod` is given.
    #[must_use]
    pub fn policy_views(&self, pod: Option<&str>) -> Vec<PolicyView> {
        let Some(state) = self.in_force() else {
            return Vec::new();
        };
        let endpoints = state
            .endpoints
            .values()
            .filter(|endpoint| pod.is_none_or(|it| endpoint.pod.to_string() == it));
        let label = |id| {
            state
                .identities
                .get(&id)
                .map_or_else(|| format!("#{id}"), |it| it.label.clone())
        };
        let mut views: Vec<_> = endpoints
            .filter_map(|endpoint| {
                let policy = state.policies.get(&endpoint.policy)?;
                Some(PolicyView {
                    pod: endpoint.pod.to_string(),
                    interface: endpoint.interface.clone(),
                    port: endpoint.port.clone(),
                    identity: endpoint.identity.0,
                    label: label(endpoint.identity),
                    table: table(policy, &label),
                })
            })
            .collect();
        views.sort_by(|a, b| (&a.pod, &a.interface).cmp(&(&b.pod, &b.interface)));
        views
    }
}

fn table(
    policy: &Policy,
    label: &dyn Fn(sluice_offload_api::model::IdentityId) -> String,
) -> PolicyTable {
    let rule = |index: sluice_offload_api::model::RuleIndex| {
        let index = usize::try_from(index.0).unwrap_or(usize::MAX);
        policy.rules.get(index).cloned().unwrap_or_default()
    };
    let fallback = |it: Fallback| format!("{} ({})", verdict_word(it.verdict), rule(it.rule));
    let row = |it: &PolicyRow| RowView {
        direction: it.direction,
        tier: it.tier,
        peer: it.peer.map_or_else(|| "anyone".to_owned(), label),
        protocol: it
            .protocol
            .map_or_else(|| "any".to_owned(), |it| format!("{it:?}").to_uppercase()),
        ports: ports(it.ports),
        action: it.action,
        rule: rule(it.rule),
    };
    PolicyTable {
        id: policy.id.0,
        ingress: fallback(policy.ingress),
        egress: fallback(policy.egress),
        rows: policy.rows.iter().map(row).collect(),
        shadow: policy.shadow_table().map(|it| Box::new(table(it, label))),
    }
}

/// A verdict as people see it.
pub(super) const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn ports(block: PortBlock) -> String {
    let first = u32::from(block.base());
    match block.len() {
        0 => "any".to_owned(),
        16 => first.to_string(),
        len => format!("{first}-{}", first + (1 << (16 - u32::from(len))) - 1),
    }
}
