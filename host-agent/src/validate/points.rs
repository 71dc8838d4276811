//! Which flows are compared.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::State;
use sluice_offload_api::model::{
    Direction, Endpoint, IdentityId, Policy, PolicyRow, PortBlock, Protocol, RowKey,
};

use super::who::{End, Peer, Who, around, without_ports};
use super::{Counterexample, OF_EACH_FAMILY, Seat, Table, table_of};
use crate::cluster::PolicySet;

/// Rows that are sampled of a table that didn't change, at most.
const SAMPLES: usize = 8;
/// One in so many of the ends that a pod's rules tell apart is looked at, another one each
/// time, where a peer came or changed hands that no row of the table is about.
const UNNAMED_STRIDE: usize = 4;
/// Peers that a table is held against of which some rows changed, at most.
const BYSTANDERS_MAX: usize = 16;
/// Addresses that came or changed hands, at most: of more, evenly spaced ones. With the
/// tables of a node they bound what a change costs before its points are counted.
const MOVED_MAX: usize = 256;
/// Tables that didn't change of which rows are sampled, at most.
const SAMPLED_MAX: usize = 4;

/// One flow, at one of its ends.
pub(super) struct Point<'a> {
    pub(super) seat: Seat<'a>,
    pub(super) policy: &'a Policy,
    pub(super) direction: Direction,
    pub(super) peer: &'a Peer<'a>,
    pub(super) protocol: Protocol,
    pub(super) port: Option<u16>,
}

impl Point<'_> {
    /// The endpoint's address of the peer's family.
    pub(super) fn own_ip(&self) -> Option<IpAddr> {
        let same = |ip: &&IpAddr| ip.is_ipv4() == self.peer.ip.is_ipv4();
        self.seat.endpoint.ips.iter().find(same).copied()
    }
}

/// Takes a point; an error ends it.
pub(super) type Visit<'v> = dyn FnMut(Point<'_>) -> Result<(), Box<Counterexample>> + 'v;

/// Two states, the tables that were in the first, and those that are compared.
pub(super) struct Change<'a> {
    pub(super) before: &'a State,
    pub(super) after: &'a State,
    pub(super) set: PolicySet,
    pub(super) old: &'a BTreeMap<u32, &'a Policy>,
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
        set,
        old,
        new,
    } = *change;
    let every = new.len().div_ceil(SAMPLED_MAX).max(1);
    for (at, (id, table)) in new.iter().enumerate() {
        match old.get(id).copied() {
            Some(was) if is_same_table(was, table.policy) => {
                if at % every == turn % every {
                    sample(table, who, turn / every, visit)?;
                }
            }
            Some(was) => changed_table(table, was, who, turn, visit)?,
            None => whole_table(table, who, visit)?,
        }
    }
    // Who came, or has another table: that a table is right says nothing of who has it.
    for it in before.endpoints.changes(&after.endpoints) {
        let Some(endpoint) = it.after else {
            continue;
        };
        let is_new = it.before.is_none_or(|was| was.policy != endpoint.policy);
        if is_new && let Some(policy) = table_of(after, endpoint, set) {
            seated(endpoint, policy, who, visit)?;
        }
    }
    // After nothing, the tables were compared with everyone above.
    if before.prefixes.is_empty() {
        return Ok(());
    }
    // Addresses that came, or are somebody else's now.
    let mut moves = BTreeMap::<_, usize>::new();
    let mut moved = Vec::new();
    for it in before.prefixes.changes(&after.prefixes) {
        let Some(prefix) = it.after else {
            continue;
        };
        // A new block in some policy renumbers all whom it holds: a few stand for all who
        // were one thing and are another.
        let was = it.before.map(|it| (it.identity, it.place.clone()));
        let kind = (was, prefix.identity, prefix.prefix.addr().is_ipv4());
        let seen = moves.entry(kind).or_default();
        if *seen < OF_EACH_FAMILY {
            *seen += 1;
            let peer = who.of_prefix(prefix.prefix);
            moved.extend(peer.map(|peer| (prefix.identity, peer)));
        }
    }
    let stride = moved.len().div_ceil(MOVED_MAX).max(1);
    let moved: Vec<_> = moved.into_iter().step_by(stride).collect();
    for table in new.values() {
        let of_rules = table.ends_of_rules(who);
        let seats = table.one_seat();
        for (identity, peer) in &moved {
            // No row is about most of those who come: of what the rules tell apart a part.
            let rows = &table.policy.rows;
            let is_named = rows.iter().any(|it| it.peer == Some(*identity));
            let stride = if is_named { 1 } else { UNNAMED_STRIDE };
            let of_rules = of_rules.iter().skip(turn % stride).step_by(stride);
            let of_rows = ends(table.policy, *identity);
            for &end in of_rules.chain(&of_rows) {
                visit_at(&seats, table.policy, (peer, end), visit)?;
            }
        }
    }
    Ok(())
}

/// Whether two tables are the same; a shadow beside one is another table.
fn is_same_table(a: &Policy, b: &Policy) -> bool {
    // Mostly one and the same; to compare all rows takes a while.
    if core::ptr::eq(a, b) {
        return true;
    }
    let rest = |it: &Policy| (it.id, it.ingress, it.egress);
    rest(a) == rest(b) && a.rules == b.rules && a.rows == b.rows
}

impl<'a> Table<'a> {
    /// One endpoint of each family: that all who share the table are judged alike is seen by
    /// its own points.
    fn one_seat(&self) -> Vec<Seat<'a>> {
        let has = |it: &Endpoint, v4: bool| it.ips.iter().any(|ip| ip.is_ipv4() == v4);
        let mut seats: Vec<Seat<'a>> = Vec::new();
        for &it in &self.seats {
            let known = |v4| seats.iter().any(|known| has(known.endpoint, v4));
            let is_new = |v4| has(it.endpoint, v4) && !known(v4);
            if is_new(true) || is_new(false) {
                seats.push(it);
            }
        }
        seats
    }

    /// What the policies of those who share the table tell apart: pods that do have the same
    /// policies and named ports.
    fn ends_of_rules(&self, who: &Who<'_>) -> &BTreeSet<End> {
        self.ends.get_or_init(|| {
            let first = self.seats.first();
            first.map_or_else(BTreeSet::new, |it| who.ends_of_rules(it))
        })
    }

    /// A flow at each of its endpoints.
    fn visit(
        &self,
        peer: &Peer<'_>,
        end: End,
        visit: &mut Visit<'_>,
    ) -> Result<(), Box<Counterexample>> {
        visit_at(&self.seats, self.policy, (peer, end), visit)
    }
}

/// A flow at each of these endpoints.
fn visit_at(
    seats: &[Seat<'_>],
    policy: &Policy,
    (peer, (direction, protocol, port)): (&Peer<'_>, End),
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    for &seat in seats {
        visit(Point {
            seat,
            policy,
            direction,
            peer,
            protocol,
            port,
        })?;
    }
    Ok(())
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
    turn: usize,
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
        // Others each time.
        let some = who.some();
        let stride = some.len().div_ceil(BYSTANDERS_MAX).max(1);
        let some = some.iter().skip(turn % stride).step_by(stride);
        everyone(table, who, some.cloned(), visit)
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

/// An endpoint at its table: a few peers with everything that its own pod's policies tell apart.
fn seated(
    endpoint: &Endpoint,
    policy: &Policy,
    who: &Who<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    let seat = Seat::of(who.cluster(), endpoint);
    let ends = who.ends_of_rules(&seat);
    for peer in who.some() {
        for &end in &ends {
            visit_at(&[seat], policy, (peer, end), visit)?;
        }
    }
    Ok(())
}

/// A row's peer at both ends of its ports.
pub(super) fn of_row(
    table: &Table<'_>,
    row: &RowKey,
    who: &Who<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    let of_identity = row.peer.map(|identity| who.of(identity));
    let peers = of_identity.as_deref().unwrap_or_else(|| who.some());
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
pub(super) fn everyone<'p>(
    table: &Table<'_>,
    who: &Who<'_>,
    peers: impl Iterator<Item = Peer<'p>>,
    visit: &mut Visit<'_>,
) -> Result<(), Box<Counterexample>> {
    if table.seats.is_empty() {
        return Ok(());
    }
    let ends = table.ends_of_rules(who);
    for peer in peers {
        let named = peer.named_ports.iter();
        let named = named.map(|&(protocol, port)| (Direction::Egress, protocol, Some(port)));
        for end in ends.iter().copied().chain(named) {
            table.visit(&peer, end, visit)?;
        }
    }
    Ok(())
}

/// What a table's rows about a peer, or about anyone, tell apart.
fn ends(policy: &Policy, peer: IdentityId) -> BTreeSet<End> {
    let mut ends = without_ports();
    let about = policy
        .rows
        .iter()
        .filter(|row| row.peer.is_none_or(|it| it == peer));
    for row in about {
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
