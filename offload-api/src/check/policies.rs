//! Policies: tables that can be looked up without looking twice.

use super::Check;
use crate::model::{
    Action, Direction, Policy, PolicyId, PolicyRow, PortBlock, Protocol, RuleIndex,
};
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn policies(&self) -> Result<(), Refusal> {
        self.state
            .policies
            .values()
            .try_for_each(|it| self.policy(it))
    }

    fn policy(&self, policy: &Policy) -> Result<(), Refusal> {
        let (what, count, max) = ("rows", policy.rows_in_all(), self.limits.rows_per_policy);
        if count > max {
            let field = if policy.rows.len() > max {
                "rows"
            } else {
                "shadow.rows"
            };
            let why = RefusalReason::TooMany { what, count, max };
            return self.fault(&Key::Policy(policy.id), field, why);
        }
        self.table(policy.id, "", policy)?;
        match policy.shadow_table() {
            Some(shadow) => self.table(policy.id, "shadow.", shadow),
            None => Ok(()),
        }
    }

    /// One of a policy's tables; `at` is where its fields are.
    fn table(&self, id: PolicyId, at: &str, policy: &Policy) -> Result<(), Refusal> {
        let fault = |field: &str, why| self.fault(&Key::Policy(id), &format!("{at}{field}"), why);
        let rules = policy.rules.len();
        for (field, fallback) in [("ingress", policy.ingress), ("egress", policy.egress)] {
            let rule = fallback.rule;
            if !has_rule(rule, rules) {
                let why = RefusalReason::NoRule { rule, rules };
                return fault(&format!("{field}.rule"), why);
            }
        }
        let mut above: Option<&PolicyRow> = None;
        let mut domain = None;
        for (index, row) in policy.rows.iter().enumerate() {
            if let Err((field, why)) = check_row(row, rules) {
                return fault(&format!("rows[{index}].{field}"), why);
            }
            let order = above.map(|above| above.key().cmp(&row.key()));
            match order {
                None | Some(core::cmp::Ordering::Less) => {}
                Some(core::cmp::Ordering::Equal) => {
                    return fault(&format!("rows[{index}]"), RefusalReason::RowTwice);
                }
                Some(core::cmp::Ordering::Greater) => {
                    return fault(&format!("rows[{index}]"), RefusalReason::RowsUnsorted);
                }
            }
            // Rows of one peer lie together: look each up once.
            if let Some(peer) = row.peer
                && above.is_none_or(|above| above.peer != Some(peer))
            {
                let field = format!("{at}rows[{index}].identity");
                let Some(identity) = self.state.identities.get(&peer) else {
                    return self.dangling(Key::Policy(id), &field, Key::Identity(peer));
                };
                domain = identity.domain.as_ref();
            }
            // DomainNames "is only supported for Accept rules", of egress: of addresses that
            // nobody was told of nothing is known, so what denied them would let some pass.
            if let (Some(identity), Some(domain)) = (row.peer, domain)
                && (row.direction, row.action) != (Direction::Egress, Action::Allow)
            {
                let domain = domain.clone();
                let why = RefusalReason::DomainRow { identity, domain };
                let field = format!("{at}rows[{index}].identity");
                return fault(&field, why);
            }
            above = Some(row);
        }
        Ok(())
    }
}

fn check_row(row: &PolicyRow, rules: usize) -> Result<(), (&'static str, RefusalReason)> {
    if row.peer.is_some_and(|peer| peer.0 == 0) {
        return Err(("identity", RefusalReason::IdentityZero));
    }
    let protocol = row.protocol;
    let has_ports = match protocol {
        Some(Protocol::Tcp | Protocol::Udp | Protocol::Sctp) => true,
        Some(Protocol::Icmp) | None => false,
    };
    if !has_ports && row.ports != PortBlock::ANY {
        return Err(("ports", RefusalReason::PortsWithoutProtocol { protocol }));
    }
    let rule = row.rule;
    if !has_rule(rule, rules) {
        return Err(("rule", RefusalReason::NoRule { rule, rules }));
    }
    Ok(())
}

fn has_rule(rule: RuleIndex, rules: usize) -> bool {
    usize::try_from(rule.0).is_ok_and(|rule| rule < rules)
}
