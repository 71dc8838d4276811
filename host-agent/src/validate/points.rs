//! Which flows are compared.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::State;
use sluice_offload_api::model::{
    Direction, Endpoint, Policy, PolicyRow, PortBlock, Protocol, RowKey,
};

use super::who::{End, Peer, Who, around, without_ports};
use super::{Counterexample, OF_EACH_FAMILY, Table};

/// Rows that are sampled of a table that didn't change, at most.
const SAMPLES: usize = 16;
/// Addresses that came or changed hands, at most: of more, evenly spaced ones. With the
/// tables of a node they bound what a change costs before its points are counted.
const MOVED_MAX: usize = 256;
/// Peers that stand for "anyone" in a row, at most.
const ANYONE_MAX: usize = 64;

/// One flow, at one of its ends.
pub(super) struct Point<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) policy: &'a Policy,
    pub(super) direction: Direction,
    pub(super) peer: &'a Peer,
    pub(super) protocol: Protocol,
    pub(super) port: Option<u16>,
}

impl Point<'_> {
    /// The endpoint's address of the peer's family.
    pub(super) fn own_ip(&self) -> Option<IpAddr> {
        let same = |ip: &&IpAddr| ip.is_ipv4() == self.peer.ip.is_ipv4();
        self.endpoint.ips.iter().find(same).copied()
    }
}

/// Takes a point; an error ends it.
pub(super) type Visit<'v> = dyn FnMut(Point<'_>) -> Result<(), Box<Counterexample>> + 'v;

/// Two states and the tables of each that are compared.
pub(super) struct Change<'a> {
    pub(super) before: &'a State,
    pub(super) after: &'a State,
    pub(super) old: &'a BTreeMap<u32, Table<'a>>,
    pub(super) new: &'a BTreeMap<u32, Table<'a>>,
}

/// All points of what changed.
pub(super) fn of_change(
    change: &Change<'_>,
    who: &Who<'_>,
    turn: usize,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    let Change {
        before,
        after,
        old,
        new,
    } = *change;
    for (id, table) in new {
        match old.get(id).map(|it| it.policy) {
            Some(was) if is_same_table(was, table.policy) => sample(table, who, turn, visit)?,
            Some(was) => changed_table(table, was, who, visit)?,
            None => whole_table(table, who, visit)?,
        }
    }
    // After nothing, the tables were compared with everyone above.
    if before.prefixes.is_empty() {
        return Ok(());
    }
    // Addresses that came, or are somebody else's now.
    let mut moves = BTreeMap::<_, usize>::new();
    let mut moved = Vec::new();
    for prefix in after.prefixes.values() {
        let was = before.prefixes.get(&prefix.prefix);
        if was == Some(prefix) {
            continue;
        }
        // A new block in some policy renumbers all whom it holds: a few stand for all who
        // were one thing and are another.
        let was = was.map(|it| (it.identity, it.place.clone()));
        let kind = (was, prefix.identity, prefix.prefix.addr().is_ipv4());
        let seen = moves.entry(kind).or_default();
        if *seen < OF_EACH_FAMILY {
            *seen += 1;
            moved.extend(who.of_prefix(after, prefix));
        }
    }
    let stride = moved.len().div_ceil(MOVED_MAX).max(1);
    let moved: Vec<Peer> = moved.into_iter().step_by(stride).collect();
    for table in new.values() {
        let ends = ends(table.policy);
        for peer in &moved {
            for &end in &ends {
                table.visit(peer, end, visit)?;
            }
        }
    }
    Ok(())
}

/// Whether two tables are the same; a shadow beside one is another table.
fn is_same_table(a: &Policy, b: &Policy) -> bool {
    let rest = |it: &Policy| (it.id, it.ingress, it.egress);
    rest(a) == rest(b) && a.rules == b.rules && a.rows == b.rows
}

impl Table<'_> {
    /// A flow at each of its endpoints.
    fn visit(
        &self,
        peer: &Peer,
        (direction, protocol, port): End,
        visit: &mut Visit<'_>,
    ) -> Result<(), Box<Counterexample>> {
        let policy = self.policy;
        for endpoint in &self.endpoints {
            visit(Point {
                endpoint,
                policy,
                direction,
                peer,
                protocol,
                port,
            })?;
        }
        Ok(())
    }
}

/// Some rows of a table that didn't change: what should have changed it may have been
/// overlooked.
fn sample(
    table: &Table<'_>,
    who: &Who<'_>,
    turn: usize,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    let rows = &table.policy.rows;
    let stride = rows.len().div_ceil(SAMPLES).max(1);
    for row in rows.iter().skip(turn % stride).step_by(stride) {
        of_row(table, &row.key(), who, visit)?;
    }
    Ok(())
}

/// The rows that came or went, and some peers; all if what holds without a row changed.
fn changed_table(
    table: &Table<'_>,
    was: &Policy,
    who: &Who<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    // A row says what it says by its rule's name; numbers shift when rules come and go.
    let rows = |policy: &Policy| -> BTreeMap<_, _> {
        let name = |row: &PolicyRow| {
            let index = usize::try_from(row.rule.0).unwrap_or(usize::MAX);
            policy.rules.get(index).cloned()
        };
        let entry = |row: &PolicyRow| (row.key(), (row.action, name(row)));
        policy.rows.iter().map(entry).collect()
    };
    let (now, then) = (rows(table.policy), rows(was));
    let keys: BTreeSet<_> = now.keys().chain(then.keys()).collect();
    for key in keys {
        if now.get(key) != then.get(key) {
            of_row(table, key, who, visit)?;
        }
    }
    let isolation = |it: &Policy| (it.ingress.verdict, it.egress.verdict);
    if isolation(table.policy) == isolation(was) {
        everyone(table, who, some(who).into_iter(), visit)
    } else {
        everyone(table, who, who.all(), visit)
    }
}

/// Every row, and everyone against what holds without one.
fn whole_table(
    table: &Table<'_>,
    who: &Who<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    for row in &table.policy.rows {
        of_row(table, &row.key(), who, visit)?;
    }
    everyone(table, who, who.all(), visit)
}

/// A row's peer at both ends of its ports.
pub(super) fn of_row(
    table: &Table<'_>,
    row: &RowKey,
    who: &Who<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    let peers: Vec<&Peer> = match row.peer {
        Some(identity) => who.of(identity).iter().collect(),
        None => some(who),
    };
    let ends = block_ends(row.protocol, row.ports);
    for peer in peers {
        for &(protocol, port) in &ends {
            table.visit(peer, (row.direction, protocol, port), visit)?;
        }
    }
    Ok(())
}

/// These peers, both ways, with everything that the pod's policies tell apart: a row that
/// should be there and isn't has no ends of its own.
pub(super) fn everyone<'w>(
    table: &Table<'_>,
    who: &Who<'_>,
    peers: impl Iterator<Item = &'w Peer>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    // Pods that share a table have the same policies and named ports.
    let Some(endpoint) = table.endpoints.first() else {
        return Ok(());
    };
    let ends = who.ends_of_rules(endpoint);
    for peer in peers {
        let named = who.named_ports(peer);
        let named = named.map(|(protocol, port)| (Direction::Egress, protocol, Some(port)));
        for end in ends.iter().copied().chain(named) {
            table.visit(peer, end, visit)?;
        }
    }
    Ok(())
}

/// Peers for "anyone", spread over all identities.
fn some<'w>(who: &'w Who<'_>) -> Vec<&'w Peer> {
    let count = who.all().count();
    who.all()
        .step_by(count.div_ceil(ANYONE_MAX).max(1))
        .collect()
}

/// Everything that a table's rows tell apart.
fn ends(policy: &Policy) -> BTreeSet<End> {
    let mut ends = without_ports();
    for row in &policy.rows {
        let its = block_ends(row.protocol, row.ports).into_iter();
        ends.extend(its.map(|(protocol, port)| (row.direction, protocol, port)));
    }
    ends
}

/// The ports at both ends of a block and just outside; of any protocol one of each kind.
fn block_ends(protocol: Option<Protocol>, ports: PortBlock) -> Vec<(Protocol, Option<u16>)> {
    let Some(protocol) = protocol else {
        return vec![
            (Protocol::Icmp, None),
            (Protocol::Tcp, Some(0)),
            (Protocol::Udp, Some(u16::MAX)),
            (Protocol::Sctp, Some(1)),
        ];
    };
    if protocol == Protocol::Icmp {
        return vec![(protocol, None)];
    }
    let first = ports.base();
    let last = first | u16::MAX.checked_shr(ports.len().into()).unwrap_or(0);
    around(first, last)
        .map(|port| (protocol, Some(port)))
        .collect()
}
