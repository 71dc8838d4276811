//! One node's agent without its drivers: what it knows, and what it decides.
//!
//! ```text
//! manifests --on_cluster--+
//! CNI ------attach,detach-+--> subjects --> compile --> Reconciler --> next_transaction
//! journal ----------------+                                 ^-- on_connect, on_answer
//! ```
//! No clock, socket or log. A driver calls it from one place, and after each call sends
//! what [`Agent::next_transaction`] gives.

mod attach;
mod departure;
mod journal;
mod loosened;
mod read;
mod subjects;
mod trace;

pub use attach::{AttachError, AttachRequest, Attached, CheckError, VfHint};
pub use departure::Departure;
pub use journal::{Attachment, Journal};
pub use loosened::{Loosened, LoosenedNews};
pub use read::{AgentStatus, PolicyTable, PolicyView, Problem, RowView, VfBindingView, VfView};
pub use subjects::Standing;
use subjects::{CniSaid, Subjects, merge};
pub use trace::{Disposition, Trace, TraceEnd, TraceError, TraceRequest, TraceShadow, TraceSide};

use std::collections::{BTreeMap, BTreeSet};

use sluice_mutants::is_unchecked;
use sluice_offload_api::model::{
    Endpoint, EndpointKey, Generation, IdentityId, IpPrefix, Place, PortName,
};
use sluice_offload_api::{Answer, Limits, Refused, State, Transaction};

use crate::cluster::{Cluster, EncryptionSetup, PolicySet};
use crate::compile::{CompileError, Engine, NodeSetup, Touched};
use crate::reconcile::Reconciler;
use crate::validate::{Counterexample, Directory, POINTS_MAX, Sweep, validate_by};
use crate::vf::VfTable;

/// What a VF is, apart from what the dataplane needs of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceNames {
    /// The port of each PCI address, as a device plugin names a VF.
    pub by_pci: BTreeMap<String, PortName>,
}

/// Why there is no state for the dataplane. The last one stays in force then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateFault {
    /// The manifests don't compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// They compile to something else than they say.
    #[error(transparent)]
    Validation(#[from] Box<Counterexample>),
}

/// The agent's core.
#[derive(Clone, Debug)]
pub struct Agent {
    setup: NodeSetup,
    devices: DeviceNames,
    attachments: Vec<Attachment>,
    departures: Vec<Departure>,
    vfs: VfTable,
    /// The last state that was taken, and all it takes to go on from it.
    engine: Engine,
    /// What the state is held against.
    directory: Directory,
    touched: Touched,
    /// The last manifests without a fault.
    cluster: Option<Cluster>,
    /// What was compiled last: the manifests with what CNI said of this node's pods.
    subjects: Subjects,
    source_fault: Option<String>,
    compile_fault: Option<StateFault>,
    validations: usize,
    sweep: Sweep,
    /// Pods whose table was found to differ from their policies after it was sent: they stay
    /// closed until the agent starts again.
    closed: BTreeMap<EndpointKey, Counterexample>,
    /// The same of the shadow tables.
    shadow_sweep: Sweep,
    /// Pods whose shadow table differed from their policies: they have none until the agent
    /// starts again. What is enforced is another table, and stands.
    unshadowed: BTreeMap<EndpointKey, Counterexample>,
    reconciler: Reconciler,
}

impl Agent {
    /// An agent that goes on from a journal. Attachments to VFs that the node no longer has,
    /// or that can't hold together, are left out and returned.
    #[must_use]
    pub fn new(
        setup: NodeSetup,
        devices: DeviceNames,
        journal: Journal,
    ) -> (Self, Vec<Attachment>) {
        let engine = Engine::new(setup.clone(), journal.identities, Limits::MAX);
        let mut agent = Self {
            setup,
            devices,
            attachments: Vec::new(),
            departures: journal.departures,
            vfs: VfTable::default(),
            engine,
            directory: Directory::default(),
            touched: Touched::default(),
            cluster: None,
            subjects: Subjects::default(),
            source_fault: None,
            compile_fault: None,
            validations: 0,
            sweep: Sweep::default(),
            closed: BTreeMap::new(),
            shadow_sweep: Sweep::default(),
            unshadowed: BTreeMap::new(),
            reconciler: Reconciler::new(),
        };
        let mut left_out = Vec::new();
        for it in journal.attachments {
            let slots = &agent.setup.vfs;
            match agent
                .vfs
                .bind_interface(&it.key(), &it.pod, &it.ips, &it.port, slots)
            {
                Ok(_) => agent.attachments.push(it),
                Err(_) => left_out.push(it),
            }
        }
        for it in &left_out {
            agent.part_from(it);
        }
        (agent, left_out)
    }

    /// What must survive a restart. Write it before sending what follows from it.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal {
            attachments: self.attachments.clone(),
            departures: self.departures.clone(),
            identities: self.engine.identities().clone(),
        }
    }

    /// Who has which VF, by the order of their ADDs.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The manifests have changed, and are good.
    pub fn on_cluster(&mut self, cluster: Cluster) {
        let lists = |cluster: &Cluster, it: &Departure| {
            let pod = cluster.pods.get(&it.pod);
            pod.is_some_and(|pod| pod.uid == it.uid)
        };
        // Who was listed and isn't any more is over: no UID comes twice.
        if let Some(before) = &self.cluster {
            self.departures
                .retain(|it| !lists(before, it) || lists(&cluster, it));
        }
        self.cluster = Some(cluster);
        self.source_fault = None;
        self.recompile();
    }

    /// Some objects of the manifests have changed, and are good: `change` makes the last good
    /// cluster the new one. It costs what it touches, so a watch uses it; [`Self::on_cluster`]
    /// has to compare the objects one by one. Whether there was a cluster to change.
    pub fn on_change(&mut self, change: impl FnOnce(&mut Cluster)) -> bool {
        let Some(mut cluster) = self.cluster.clone() else {
            return false;
        };
        change(&mut cluster);
        self.on_cluster(cluster);
        true
    }

    /// What the last compile that was taken had to do.
    #[must_use]
    pub const fn touched(&self) -> Touched {
        self.touched
    }

    /// The manifests are at fault. The last good ones stay; if there were none, nothing is
    /// sent and the dataplane keeps what it has.
    pub fn on_source_fault(&mut self, fault: String) {
        self.source_fault = Some(fault);
    }

    /// See [`Reconciler::on_connect`].
    pub fn on_connect(&mut self, instance: u64, observed: Generation) {
        self.reconciler.on_connect(instance, Some(observed));
    }

    /// See [`Reconciler::on_disconnect`].
    pub fn on_disconnect(&mut self) {
        self.reconciler.on_disconnect();
    }

    /// See [`Reconciler::on_answer`].
    pub fn on_answer(&mut self, answer: Answer) {
        self.reconciler.on_answer(answer);
    }

    /// See [`Reconciler::next_transaction`].
    pub fn next_transaction(&mut self) -> Option<Transaction> {
        self.reconciler.next_transaction()
    }

    /// Whether the dataplane is known to hold what the agent wants now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.reconciler.is_settled()
    }

    /// The refusal that keeps the dataplane from what the agent wants.
    #[must_use]
    pub fn held(&self) -> Option<&Refused> {
        self.reconciler.held()
    }

    /// What the dataplane holds, as far as is known.
    #[must_use]
    pub fn in_force(&self) -> Option<&State> {
        self.reconciler.acknowledged()
    }

    /// The cluster that it goes by: the last good manifests, with what CNI said of this node's
    /// pods. Empty as long as there are none.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.subjects.cluster
    }

    /// Whether a dataplane is connected.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.reconciler.is_connected()
    }

    /// Why the last compile gave nothing.
    #[must_use]
    pub const fn compile_fault(&self) -> Option<&StateFault> {
        self.compile_fault.as_ref()
    }

    /// The pods that have each identity in force, by the manifests: `shop/web`.
    #[must_use]
    pub fn pods_by_identity(&self) -> BTreeMap<IdentityId, Vec<String>> {
        let mut pods: BTreeMap<IdentityId, Vec<String>> = BTreeMap::new();
        let Some(state) = self.in_force() else {
            return pods;
        };
        let owning = self.subjects.cluster.pods.values();
        for pod in owning.filter(|it| it.owns_addresses()) {
            let more = pod.interfaces.iter().flat_map(|it| &it.ips);
            let hosts = pod.ips.iter().chain(more).map(|ip| IpPrefix::host(*ip));
            let known = hosts.filter_map(|it| state.prefixes.get(&it));
            let its: BTreeSet<_> = known.map(|it| it.identity).collect();
            for identity in its {
                pods.entry(identity).or_default().push(pod.pod.to_string());
            }
        }
        pods
    }

    /// What the operator says of encryption.
    #[must_use]
    pub const fn encryption(&self) -> &EncryptionSetup {
        &self.setup.encryption
    }

    /// What annotations of some manifests ask for and don't get, as people are told.
    #[must_use]
    pub fn overruled(&self, cluster: &Cluster) -> Vec<String> {
        self.setup.encryption.overruled(cluster)
    }

    /// Where each attached interface stands, by [`Attachment::key`].
    pub fn standings(&self) -> impl Iterator<Item = (&EndpointKey, &Standing)> {
        self.subjects.standings.iter()
    }

    /// Holds some more of what was sent against the policies, `rows_max` rows at most. A pod
    /// whose table differs is closed at once; the flow that shows it, for the log.
    pub fn sweep(&mut self, rows_max: usize) -> Option<Counterexample> {
        let state = self.reconciler.desired()?;
        let set = PolicySet::Enforced;
        let swept = self.sweep.step_by(&self.directory, state, set, rows_max);
        let found = *swept.found?;
        let sharing = state
            .endpoints
            .values()
            .find(|it| it.pod == found.pod && it.ips.contains(&found.own));
        let policy = sharing.map(|it| it.policy);
        for endpoint in state.endpoints.values() {
            // All who share the table have its fault.
            if Some(endpoint.policy) == policy {
                self.closed.insert(endpoint.key(), found.clone());
            }
        }
        let state = state.clone();
        self.quarantine(state);
        Some(found)
    }

    /// [`Self::sweep`] over the shadow tables. One that differs is dropped at once: its
    /// policies are counted no more, and nothing else changes.
    pub fn sweep_shadow(&mut self, rows_max: usize) -> Option<Counterexample> {
        let state = self.reconciler.desired()?;
        let set = PolicySet::WithShadow;
        let swept = self
            .shadow_sweep
            .step_by(&self.directory, state, set, rows_max);
        let found = *swept.found?;
        let mut state = state.clone();
        self.unshadow(&mut state, &found);
        self.reconciler.on_desired(state);
        Some(found)
    }

    /// Takes the shadow from the table that a counterexample is of, and remembers it.
    fn unshadow(&mut self, state: &mut State, found: &Counterexample) {
        let is_found = |it: &&Endpoint| it.pod == found.pod && it.ips.contains(&found.own);
        let policy = state.endpoints.values().find(is_found).map(|it| it.policy);
        for endpoint in state.endpoints.values() {
            if Some(endpoint.policy) == policy {
                self.unshadowed.insert(endpoint.key(), found.clone());
            }
        }
        self.drop_shadows(state);
    }

    /// Takes their shadow tables from pods where one was found to be wrong.
    fn drop_shadows(&self, state: &mut State) {
        for endpoint in state.endpoints.values() {
            if self.unshadowed.contains_key(&endpoint.key())
                && let Some(policy) = state.policies.get_mut(&endpoint.policy)
            {
                policy.shadow = None;
            }
        }
    }

    /// Takes the endpoints of closed pods out of what was sent, as if they had no VF. Not by
    /// compiling anew: were another table wrong as well, that would be refused.
    fn quarantine(&mut self, mut state: State) {
        let is_closed = |key: &EndpointKey| self.closed.contains_key(key);
        for endpoint in state.endpoints.values().filter(|it| is_closed(&it.key())) {
            for ip in &endpoint.ips {
                if let Some(prefix) = state.prefixes.get_mut(&IpPrefix::host(*ip)) {
                    prefix.place = Place::LocalNode;
                }
            }
        }
        state.endpoints.retain(|key, _| !is_closed(key));
        self.reconciler.on_desired(state);
    }

    fn recompile(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let said = CniSaid {
            attachments: &self.attachments,
            departures: &self.departures,
        };
        let mut subjects = merge(cluster, &self.setup, said, &self.subjects);
        for key in self.closed.keys() {
            subjects.vfs.release_interface(key);
        }
        let compiled = self.engine.update(&subjects.cluster, &subjects.vfs);
        let taken = compiled
            .map_err(StateFault::from)
            .and_then(|(engine, touched)| {
                self.take(subjects, engine.state().clone())?;
                (self.engine, self.touched) = (engine, touched);
                Ok(())
            });
        self.compile_fault = taken.err();
    }

    /// Lets a compiled state be sent, if it says what the policies say.
    fn take(&mut self, subjects: Subjects, mut state: State) -> Result<(), StateFault> {
        self.validations = self.validations.wrapping_add(1);
        let (nothing, turn) = (State::default(), self.validations);
        let before = self.reconciler.desired().unwrap_or(&nothing);
        let directory = self.directory.at(&subjects.cluster, &state);
        let set = PolicySet::Enforced;
        if !is_unchecked() {
            validate_by(&directory, (before, &state), set, turn, POINTS_MAX)?;
        }
        self.drop_shadows(&mut state);
        // Each turn takes a table's shadow away, so this ends.
        let turns = if is_unchecked() {
            0
        } else {
            state.policies.len() + 1
        };
        for _ in 0..turns {
            let before = self.reconciler.desired().unwrap_or(&nothing);
            let set = PolicySet::WithShadow;
            match validate_by(&directory, (before, &state), set, turn, POINTS_MAX) {
                Ok(_) => break,
                Err(found) => self.unshadow(&mut state, &found),
            }
        }
        self.directory = directory;
        self.subjects = subjects;
        self.reconciler.on_desired(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
