//! The compiler for a cluster that changes bit by bit: from what changed to what that changes.
//!
//! ```text
//! two versions of a cluster --> changed objects --> addresses and blocks they touch
//!   --> prefixes --> identities that come and go --> their rows in each table
//! ```
//! It gives what [`compile`](super::compile) gives, number for number, and that is what it is
//! tested against. Everything it keeps is in [`SharedMap`]s: a version costs what it doesn't
//! share with the one before, and a version that is not taken is simply dropped.

mod changed;
mod claims;
mod tables;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_offload_api::model::{
    Direction, DomainPattern, Identity, IdentityId, IpPrefix, NodeName, Place, PodRef, Policy,
    PolicyId, Prefix,
};
use sluice_offload_api::{Limits, SharedMap, State};

use super::addresses::{Owner, blocks_of, held, names_of, needs_peer, no_ones, world};
use super::{
    Bound, CompileError, NodeSetup, bound_among, endpoint, is_here, patterns_of, peer, table,
};
use crate::cluster::{AddressIndex, Cluster, Node, Pod, PodRanges};
use crate::identity::{IdentityKey, IdentityTable, PolicyKey};
use crate::vf::VfTable;
use changed::Changed;
use claims::{Claimant, Claims};
use tables::{Source, Work};
use tally::Tally;

/// How much an update had to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// Prefixes that were looked at.
    pub prefixes: usize,
    /// Identities that came, went or may be matched by other rules now.
    pub identities: usize,
    /// Pods of this node whose policies were looked at.
    pub pods: usize,
    /// Tables that changed.
    pub tables: usize,
}

/// One version of a cluster, compiled for one node.
#[derive(Clone, Debug)]
pub struct Engine {
    setup: Arc<NodeSetup>,
    limits: Limits,
    /// Nothing was compiled yet.
    blank: bool,
    cluster: Cluster,
    vfs: VfTable,
    identities: IdentityTable,
    state: State,
    /// The tables, before the largest are closed.
    tables: SharedMap<PolicyId, Policy>,
    /// By this node's pods' interfaces that are endpoints.
    keys: SharedMap<(PodRef, String), PolicyKey>,
    claims: Claims,
    /// This node's pods that have addresses of their own.
    here: SharedMap<PodRef, ()>,
    blocks: Tally<IpPrefix>,
    /// Their families, whether IPv4, and lengths.
    lens: Tally<(bool, u8)>,
    /// Ranges of pods' addresses.
    ranges: Arc<PodRanges>,
    /// Port names of egress rules.
    names: Tally<String>,
    /// Names of domains in egress rules.
    domains: Tally<DomainPattern>,
    /// Pods by the names of their ports.
    named: SharedMap<(String, PodRef), ()>,
    /// Prefixes by identity, and one more for a domain's name.
    held: Tally<IdentityId>,
    /// Prefixes by the node whose tunnel leads there.
    behind: Tally<NodeName>,
}

impl Engine {
    /// An engine that has compiled nothing, and goes on with these numbers.
    #[must_use]
    pub fn new(setup: NodeSetup, identities: IdentityTable, limits: Limits) -> Self {
        let state = State {
            ports: setup.ports(),
            ..State::default()
        };
        Self {
            setup: Arc::new(setup),
            limits,
            blank: true,
            cluster: Cluster::default(),
            vfs: VfTable::default(),
            identities,
            state,
            tables: SharedMap::default(),
            keys: SharedMap::default(),
            claims: Claims::default(),
            here: SharedMap::default(),
            blocks: Tally::default(),
            lens: Tally::default(),
            ranges: Arc::default(),
            names: Tally::default(),
            domains: Tally::default(),
            named: SharedMap::default(),
            held: Tally::default(),
            behind: Tally::default(),
        }
    }

    /// What the version compiles to; its generation is 0.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The numbers of the version.
    #[must_use]
    pub const fn identities(&self) -> &IdentityTable {
        &self.identities
    }

    /// The cluster of the version.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The next version, and what was done for it. Quick where `cluster` came of a copy of
    /// this version's; otherwise the two are compared object by object.
    ///
    /// # Errors
    /// Those of [`compile`](super::compile).
    pub fn update(
        &self,
        cluster: &Cluster,
        vfs: &VfTable,
    ) -> Result<(Self, Touched), CompileError> {
        let changed = Changed::between(&self.cluster, cluster);
        let mut next = self.clone();
        next.blank = false;
        next.cluster = cluster.clone();
        let mut prefixes = next.file_addresses(&changed);
        prefixes.extend(self.reached_anew(&changed, cluster));
        if prefixes
            .iter()
            .any(|it| next.claims.is_contested(it.addr()))
        {
            AddressIndex::build(cluster)?;
        }
        // Most of what happens in a cluster is not about this node's pods.
        let is_elsewhere = !self.blank && self.vfs == *vfs && !self.concerns(&changed, &prefixes);
        let bound = if is_elsewhere {
            None
        } else {
            let here = next.here.keys();
            let here = here.filter_map(|name| cluster.pods.get_key_value(name));
            Some(bound_among(here, &self.setup, vfs)?)
        };
        next.vfs = vfs.clone();
        let mut pods = 0;
        if let Some(bound) = &bound {
            pods = next.file_keys(&changed, bound);
            prefixes.extend(self.rebound(&next));
        }
        next.file_ranges(self, &mut prefixes);
        let domains = next.file_rules(self, &changed, &mut prefixes);
        if self.blank {
            prefixes.extend(world());
        }

        let owners: Vec<(IpPrefix, Option<Owner>)> = prefixes
            .into_iter()
            .map(|prefix| (prefix, next.owner(prefix)))
            .collect();
        let mut work = Work::default();
        let keys = bound
            .as_ref()
            .map(|_| next.keys.values().cloned().collect());
        next.renumber(self, (&owners, &domains), keys, &mut work)?;
        let mut touched = Touched {
            prefixes: owners.len(),
            pods,
            ..Touched::default()
        };
        next.place(owners, &changed);

        work.identities
            .extend(changed.matched_anew(&next.identities));
        work.rewrite.extend(changed.tables(&next.identities));
        touched.identities = work.identities.len();
        let source = Source {
            cluster,
            setup: &self.setup,
            identities: &next.identities,
            limits: &self.limits,
        };
        touched.tables = tables::update(&mut next.tables, &source, &work);
        next.state.policies = next.tables.clone();
        table::close_the_largest(&mut next.state.policies, self.limits.rows);
        if let Some(bound) = &bound {
            next.seat(bound);
        }
        Ok((next, touched))
    }

    /// Whether a change may be about which of this node's pods are endpoints, and what tables
    /// and identities they have. `touched` are the prefixes of addresses that it touches.
    fn concerns(&self, changed: &Changed<'_>, touched: &BTreeSet<IpPrefix>) -> bool {
        let is_local = |it: &Prefix| it.place == Place::LocalPod;
        let mut were = touched.iter().filter_map(|it| self.state.prefixes.get(it));
        changed.concerns(|pod| is_here(pod, &self.setup)) || were.any(is_local)
    }

    /// Files who has which address. The prefixes of the addresses that may have changed.
    fn file_addresses(&mut self, changed: &Changed<'_>) -> BTreeSet<IpPrefix> {
        let mut touched = BTreeSet::new();
        for it in &changed.nodes {
            let with = |node| (it.key, node);
            self.claim(it.before.map(with), it.after.map(with), &mut touched);
        }
        for it in &changed.services {
            let with = |service| (it.key, service);
            self.claim(it.before.map(with), it.after.map(with), &mut touched);
        }
        for it in &changed.pods {
            self.claim(it.before, it.after, &mut touched);
            for name in it.before.into_iter().flat_map(port_names) {
                self.named.remove(&(name.to_owned(), it.key.clone()));
            }
            for name in it.after.into_iter().flat_map(port_names) {
                self.named.insert((name.to_owned(), it.key.clone()), ());
            }
            if it.after.is_some_and(|pod| is_here(pod, &self.setup)) {
                self.here.insert(it.key.clone(), ());
            } else {
                self.here.remove(it.key);
            }
        }
        for namespace in &changed.encrypted_anew {
            let first = PodRef {
                namespace: (*namespace).to_owned(),
                name: String::new(),
            };
            let pods = self.cluster.pods.range(first..);
            let pods = pods.take_while(|(name, _)| name.namespace == *namespace);
            touched.extend(pods.flat_map(|(_, pod)| host_prefixes(pod)));
        }
        touched
    }

    /// The prefixes of the addresses on nodes that packets have a way to now, or no more.
    fn reached_anew(&self, changed: &Changed<'_>, cluster: &Cluster) -> BTreeSet<IpPrefix> {
        let encryption = &self.setup.encryption;
        let nodes = changed.nodes.iter().map(|it| it.key);
        let is_turned = |name: &&NodeName| {
            let was = encryption.is_reached(&self.cluster, name);
            was != encryption.is_reached(cluster, name)
        };
        let turned = nodes.filter(|it| self.behind.has(*it)).filter(is_turned);
        let turned: BTreeSet<&NodeName> = turned.collect();
        if turned.is_empty() {
            return BTreeSet::new();
        }
        let prefixes = self.state.prefixes.values();
        let there =
            prefixes.filter(|it| needs_peer(&it.place).is_some_and(|it| turned.contains(it)));
        there.map(|it| it.prefix).collect()
    }

    fn claim<C: Claimant>(
        &mut self,
        before: Option<C>,
        after: Option<C>,
        touched: &mut BTreeSet<IpPrefix>,
    ) {
        for (ip, holder) in before.into_iter().flat_map(|it| it.claims()) {
            self.claims.sub(ip, &holder);
            touched.insert(IpPrefix::host(ip));
        }
        for (ip, holder) in after.into_iter().flat_map(|it| it.claims()) {
            self.claims.add(ip, holder);
            touched.insert(IpPrefix::host(ip));
        }
    }

    /// What tables this node's pods have. How many interfaces were looked at.
    fn file_keys(&mut self, changed: &Changed<'_>, bound: &Bound<'_>) -> usize {
        self.keys
            .retain(|(name, inside), _| bound.contains_key(&(name, inside.as_str())));
        let mut looked_at = 0;
        for ((name, inside), it) in bound {
            let at = ((*name).clone(), (*inside).to_owned());
            if self.keys.contains_key(&at) && !changed.is_judged_anew(name) {
                continue;
            }
            looked_at += 1;
            let key = table::policy_key(&self.cluster, it.pod, it.interface);
            if self.keys.get(&at) != Some(&key) {
                self.keys.insert(at, key);
            }
        }
        looked_at
    }

    /// The prefixes of pods that got their VF or lost it.
    fn rebound(&self, next: &Self) -> Vec<IpPrefix> {
        let changes = self.keys.changes(&next.keys).into_iter();
        let names = changes.filter(|it| it.before.is_some() != it.after.is_some());
        let pods = names.filter_map(|it| next.cluster.pods.get(&it.key.0));
        pods.flat_map(host_prefixes).collect()
    }

    /// Files ranges of pods' addresses.
    fn file_ranges(&mut self, before: &Self, touched: &mut BTreeSet<IpPrefix>) {
        self.ranges = before.ranges.at(&before.cluster, &self.cluster);
        for range in self.ranges.differences(&before.ranges) {
            touched.insert(range);
            let inner = self.blocks.keys().copied().chain(self.ranges.iter());
            touched.extend(inner.filter(|it| range.covers(it)));
            touched.extend(world().into_iter().filter(|it| range.covers(it)));
        }
    }

    /// Files blocks, port names and domains' names. The prefixes that may be somebody else for
    /// it, and the domains that come or go.
    fn file_rules(
        &mut self,
        before: &Self,
        changed: &Changed<'_>,
        touched: &mut BTreeSet<IpPrefix>,
    ) -> Vec<Domain> {
        let (mut blocks, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut domains = BTreeSet::new();
        for (direction, rule, is_new) in changed.rules() {
            for block in blocks_of(rule) {
                blocks.insert(block);
                if is_new {
                    self.blocks.add(block);
                } else {
                    self.blocks.sub(&block);
                }
            }
            for name in names_of(rule).filter(|_| direction == Direction::Egress) {
                names.insert(name);
                if is_new {
                    self.names.add(name.to_owned());
                } else {
                    self.names.sub(&name.to_owned());
                }
            }
            for domain in patterns_of(rule).filter(|_| direction == Direction::Egress) {
                domains.insert(domain);
                if is_new {
                    self.domains.add(domain.clone());
                } else {
                    self.domains.sub(domain);
                }
            }
        }
        for block in blocks {
            let (was, is) = (before.blocks.has(&block), self.blocks.has(&block));
            let len = (block.addr().is_ipv4(), block.len());
            match (was, is) {
                (false, true) => self.lens.add(len),
                (true, false) => self.lens.sub(&len),
                _ => continue,
            };
            touched.insert(block);
            touched.extend(self.claims.within(block).map(IpPrefix::host));
            let inner = self.blocks.keys().filter(|it| block.covers(it));
            touched.extend(inner.copied());
            let inner = world().into_iter().filter(|it| block.covers(it));
            touched.extend(inner);
            touched.extend(self.ranges.iter().filter(|it| block.covers(it)));
        }
        for name in names {
            if before.names.has(name) == self.names.has(name) {
                continue;
            }
            let first = PodRef {
                namespace: String::new(),
                name: String::new(),
            };
            let pods = self.named.range((name.to_owned(), first)..);
            let pods = pods
                .map(|(key, ())| key)
                .take_while(|(of, _)| of == name)
                .filter_map(|(_, pod)| self.cluster.pods.get(pod));
            touched.extend(pods.flat_map(host_prefixes));
        }
        let domains = domains.into_iter();
        let domains = domains.filter(|it| before.domains.has(*it) != self.domains.has(*it));
        domains
            .map(|it| Domain {
                key: IdentityKey::domain(it.clone()),
                is_there: self.domains.has(it),
            })
            .collect()
    }

    /// Who has a prefix; `None` if there is no such prefix.
    fn owner(&self, prefix: IpPrefix) -> Option<Owner> {
        let blocks = self.blocks_around(prefix);
        let is_host = prefix == IpPrefix::host(prefix.addr());
        if let Some(holder) = self.claims.holder(prefix.addr()).filter(|_| is_host) {
            let is_bound = |name: &PodRef, inside: &str| {
                let at = (name.clone(), inside.to_owned());
                self.keys.contains_key(&at)
            };
            let is_name = |name: &str| self.names.has(name);
            let held = held(&self.cluster, &self.setup, holder, is_bound, is_name)?;
            return Some(held.within(blocks));
        }
        let is_wide = self.blocks.has(&prefix) || self.ranges.has(&prefix);
        let is_there = is_wide || world().contains(&prefix);
        is_there.then(|| no_ones(blocks, self.ranges.cover(&prefix)))
    }

    fn blocks_around(&self, prefix: IpPrefix) -> BTreeSet<IpPrefix> {
        let lens = self.lens.keys();
        let lens = lens.filter(|(v4, len)| *v4 == prefix.addr().is_ipv4() && *len <= prefix.len());
        lens.filter_map(|(_, len)| IpPrefix::masked(prefix.addr(), *len).ok())
            .filter(|it| self.blocks.has(it))
            .collect()
    }

    /// Numbers what the owners need and frees what nobody does any more; `tables` are this
    /// node's pods', if they may be others.
    fn renumber(
        &mut self,
        before: &Self,
        (owners, domains): (&[(IpPrefix, Option<Owner>)], &[Domain]),
        tables: Option<BTreeSet<PolicyKey>>,
        work: &mut Work,
    ) -> Result<(), CompileError> {
        let (mut more, mut fewer) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
        let mut fresh = BTreeSet::new();
        for (prefix, owner) in owners {
            if let Some(was) = self.state.prefixes.get(prefix) {
                *fewer.entry(was.identity).or_default() += 1;
            }
            let key = owner.as_ref().map(|it| &it.key);
            match key.map(|key| (key, self.identities.identity(key))) {
                Some((_, Some(id))) => *more.entry(id).or_default() += 1,
                Some((key, None)) => drop(fresh.insert(key.clone())),
                None => {}
            }
        }
        let mut left = Vec::new();
        for Domain { key, is_there } in domains {
            match (self.identities.identity(key), is_there) {
                (Some(id), true) => *more.entry(id).or_default() += 1,
                (Some(id), false) => {
                    *fewer.entry(id).or_default() += 1;
                    left.push(id);
                }
                (None, true) => drop(fresh.insert(key.clone())),
                (None, false) => {}
            }
        }
        let count = |ids: &BTreeMap<_, usize>, id: &IdentityId| ids.get(id).copied().unwrap_or(0);
        let is_gone = |id: &IdentityId| self.held.count(id) + count(&more, id) == count(&fewer, id);
        let gone: Vec<IdentityId> = if before.blank {
            let all = self.identities.identities().map(|(_, id)| id);
            all.filter(is_gone).collect()
        } else {
            fewer.keys().copied().filter(is_gone).collect()
        };
        let keys = gone.iter().filter_map(|id| self.identities.key(*id));
        let keys: Vec<IdentityKey> = keys.cloned().collect();
        self.identities.change(keys, fresh.clone(), tables)?;
        for id in gone {
            self.state.identities.remove(&id);
            work.identities.insert(id);
        }
        for id in left {
            self.held.sub(&id);
        }
        let come = domains.iter().filter(|it| it.is_there);
        for id in come.filter_map(|it| self.identities.identity(&it.key)) {
            self.held.add(id);
        }
        let kept = before.blank.then(|| more.into_keys().collect::<Vec<_>>());
        let fresh = fresh.iter().filter_map(|key| self.identities.identity(key));
        for id in fresh.chain(kept.into_iter().flatten()) {
            // Always there: it was numbered above.
            if let Some(key) = self.identities.key(id) {
                let identity = Identity {
                    id,
                    label: key.label(),
                    domain: key.pattern().cloned(),
                    encryption: key.encryption,
                };
                self.state.identities.insert(id, identity);
            }
            work.identities.insert(id);
        }
        Ok(())
    }

    /// Puts the prefixes and the peers that they need into the state.
    fn place(&mut self, owners: Vec<(IpPrefix, Option<Owner>)>, changed: &Changed<'_>) {
        let mut nodes: BTreeSet<NodeName> = changed.nodes.iter().map(|it| it.key.clone()).collect();
        for (prefix, owner) in owners {
            let is = owner.and_then(|owner| {
                // Always there: it was numbered above.
                let identity = self.identities.identity(&owner.key)?;
                Some(Prefix {
                    prefix,
                    identity,
                    place: owner.place,
                    pod_uid: owner.pod_uid,
                })
            });
            let was = self.state.prefixes.shared(&prefix).cloned();
            if was.as_deref() == is.as_ref() {
                continue;
            }
            if let Some(was) = was {
                self.held.sub(&was.identity);
                if let Some(node) = needs_peer(&was.place) {
                    self.behind.sub(node);
                    nodes.insert(node.clone());
                }
            }
            let Some(is) = is else {
                self.state.prefixes.remove(&prefix);
                continue;
            };
            self.held.add(is.identity);
            if let Some(node) = needs_peer(&is.place) {
                self.behind.add(node.clone());
                nodes.insert(node.clone());
            }
            self.state.prefixes.insert(prefix, is);
        }
        nodes.remove(&self.setup.node);
        for name in nodes {
            let unknown = || self.behind.has(&name).then(Node::default);
            let node = self.cluster.nodes.get(&name).cloned().or_else(unknown);
            let Some(is) = node.map(|it| peer(&name, &it)) else {
                self.state.peers.remove(&name);
                continue;
            };
            if self.state.peers.get(&name) != Some(&is) {
                self.state.peers.insert(name, is);
            }
        }
    }

    /// Makes the endpoints.
    fn seat(&mut self, bound: &Bound<'_>) {
        let mut seated = BTreeSet::new();
        for (&at, it) in bound {
            let policy = self.keys.get(&(at.0.clone(), at.1.to_owned()));
            let policy = policy.and_then(|key| self.identities.policy(key));
            let endpoint = policy.and_then(|policy| endpoint(&self.state, at, it, policy));
            let Some(endpoint) = endpoint else {
                continue;
            };
            let key = endpoint.key();
            if self.state.endpoints.get(&key) != Some(&endpoint) {
                self.state.endpoints.insert(key.clone(), endpoint);
            }
            seated.insert(key);
        }
        self.state.endpoints.retain(|key, _| seated.contains(key));
    }
}

/// A domain's name that rules begin to use, or use no more.
struct Domain {
    key: IdentityKey,
    is_there: bool,
}

/// The prefixes of a pod's own addresses.
fn host_prefixes(pod: &Pod) -> impl Iterator<Item = IpPrefix> {
    let secondary = pod.interfaces.iter().flat_map(|it| &it.ips);
    pod.ips.iter().chain(secondary).copied().map(IpPrefix::host)
}

fn port_names(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.ports.iter().filter_map(|it| it.name.as_deref())
}
