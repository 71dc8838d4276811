//! A lookup that is quick enough for many points: a binary search for each key that could
//! match, as the rows are sorted by key.

use sluice_offload_api::model::{
    Action, Direction, IdentityId, Policy, PolicyRow, PortBlock, Protocol, RowKey, Tier, Verdict,
};

use crate::evaluate::Ruling;

/// What [`crate::compile::lookup_any`] says.
pub(super) fn lookup(
    policy: &Policy,
    direction: Direction,
    peers: &[IdentityId],
    protocol: Protocol,
    port: Option<u16>,
) -> Ruling {
    let ruling = |verdict, rule: u32| {
        let index = usize::try_from(rule).ok();
        let name = index.and_then(|index| policy.rules.get(index).cloned());
        Ruling::new(verdict, name.unwrap_or_default())
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
    let blocks = port
        .into_iter()
        .flat_map(|port| (1..=16).map(move |len| PortBlock::masked(port, len)));
    let matches: Vec<_> = blocks
        .chain([PortBlock::ANY])
        .map(|ports| (Some(protocol), ports))
        .chain([(None, PortBlock::ANY)])
        .collect();
    let find = |peer, (protocol, ports)| {
        let key = RowKey {
            direction,
            tier,
            peer,
            protocol,
            ports,
        };
        let at = policy
            .rows
            .binary_search_by_key(&key, PolicyRow::key)
            .ok()?;
        policy.rows.get(at)
    };
    [None]
        .into_iter()
        .chain(peers.iter().copied().map(Some))
        .flat_map(|peer| matches.iter().filter_map(move |it| find(peer, *it)))
        .min_by_key(|row| row.rule)
}
