//! A lookup that is quick enough for many points: a binary search for each key that could
//! match, as the rows are sorted by key.

use sluice_offload_api::model::{
    Action, Direction, IdentityId, Policy, PolicyRow, PortBlock, Protocol, RowKey, Tier, Verdict,
};

/// What [`crate::compile::lookup_any`] says, and by which rule.
pub(super) fn lookup<'p>(
    policy: &'p Policy,
    direction: Direction,
    peers: &[IdentityId],
    protocol: Protocol,
    port: Option<u16>,
) -> (Verdict, &'p str) {
    let ruling = |verdict, rule: u32| {
        let index = usize::try_from(rule).ok();
        let name = index.and_then(|index| policy.rules.get(index));
        (verdict, name.map_or("", String::as_str))
    };
    for tier in Tier::ALL {
        match best(policy, direction, tier, peers, protocol, port) {
            Some(row) if row.action == Action::Allow => {
                return ruling(Verdict::Allow, row.rule.0);
            }
            Some(row) if row.action == Action::Deny => return ruling(Verdict::Deny, row.rule.0),
            _ => {}
        }
    }
    let fallback = match direction {
        Direction::Ingress => policy.ingress,
        Direction::Egress => policy.egress,
    };
    ruling(fallback.verdict, fallback.rule.0)
}

fn best<'p>(
    policy: &'p Policy,
    direction: Direction,
    tier: Tier,
    peers: &[IdentityId],
    protocol: Protocol,
    port: Option<u16>,
) -> Option<&'p PolicyRow> {
    let peers = peers.iter().copied().map(Some);
    let about = [None].into_iter().chain(peers).flat_map(|peer| {
        let place = |row: &PolicyRow| (row.direction, row.tier, row.peer);
        let rows = equal(&policy.rows, &(direction, tier, peer), place);
        // Most tables have none of most peers.
        let keys = keys(protocol, port).filter(|_| !rows.is_empty());
        keys.filter_map(move |(protocol, ports)| {
            let key = RowKey {
                direction,
                tier,
                peer,
                protocol,
                ports,
            };
            let at = rows.binary_search_by_key(&key, PolicyRow::key).ok()?;
            rows.get(at)
        })
    });
    about.min_by_key(|row| row.rule)
}

/// The protocols and ports of rows that can match.
fn keys(
    protocol: Protocol,
    port: Option<u16>,
) -> impl Iterator<Item = (Option<Protocol>, PortBlock)> {
    let blocks = port
        .into_iter()
        .flat_map(|port| (1..=16).map(move |len| PortBlock::masked(port, len)));
    blocks
        .chain([PortBlock::ANY])
        .map(move |ports| (Some(protocol), ports))
        .chain([(None, PortBlock::ANY)])
}

/// Those of sorted rows that have this key.
fn equal<'p, K: Ord>(
    rows: &'p [PolicyRow],
    key: &K,
    of: impl Fn(&PolicyRow) -> K,
) -> &'p [PolicyRow] {
    let first = rows.partition_point(|row| of(row) < *key);
    let rows = rows.get(first..).unwrap_or_default();
    let len = rows.partition_point(|row| of(row) == *key);
    rows.get(..len).unwrap_or_default()
}
