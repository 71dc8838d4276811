//! Policies in shadow mode: asked, counted and told, and nothing else.

use sluice_dataplane_core::judge::Shadow;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::route::RuleRef;
use sluice_dataplane_core::table::policy::Transport;

use crate::rig::*;

const V4: bool = true;

/// Node A with such policies on its first two pods.
fn rig(source: Policy, destination: Policy) -> Rig {
    let mut plan = Plan::open(Side::A);
    plan.pod(0).policy = source;
    plan.pod(1).policy = destination;
    Rig::with(plan, Plan::open(Side::B), Protection::default())
}

fn local(from: usize, to: usize, src: u16, dst: u16) -> Vec<u8> {
    let to = Side::A.pod(to, V4);
    Side::A.pod_sends(from, to, udp(src, dst)).build()
}

#[test]
fn a_flow_that_both_ends_would_deny_passes_is_counted_once_at_each_and_hits_cost_nothing() {
    let shadowed = Policy::OPEN.shadowed_by(Policy::CLOSED);
    let mut rig = rig(shadowed.clone(), shadowed);
    assert_eq!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).len(), 1);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.miss", 1),
        ("flows", 1),
        ("vf0.shadow_would_deny", 1),
        ("vf1.shadow_would_deny", 1),
    ]);
    let verdict = rig.a.verdicts().remove(0);
    let denies = |port, policy| {
        Some(Shadow {
            port,
            allow: false,
            rule: RuleRef {
                policy,
                rule: FALLBACK_RULE,
            },
        })
    };
    assert_eq!(verdict.denied, None);
    assert_eq!(verdict.shadows.egress, denies(VF0, 100));
    assert_eq!(verdict.shadows.ingress, denies(VF1, 101));
    rig.a.rebase();
    // Its next packets find the flow, and nobody is asked.
    assert_eq!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).len(), 1);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.hit", 1),
    ]);
}

#[test]
fn a_denied_flow_stays_denied_and_the_end_that_was_not_asked_counts_nothing() {
    let mut rig = rig(
        Policy::CLOSED.shadowed_by(Policy::OPEN),
        Policy::OPEN.shadowed_by(Policy::CLOSED),
    );
    assert!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).is_empty());
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.drop.policy-egress", 1),
        ("flow.miss", 1),
        ("vf0.shadow_would_allow", 1),
    ]);
    let verdict = rig.a.verdicts().remove(0);
    assert_eq!(verdict.denied, Some(DropReason::PolicyEgress));
    assert_eq!(verdict.shadows.egress.map(|it| it.allow), Some(true));
    assert_eq!(verdict.shadows.ingress, None);
}

#[test]
fn where_both_tables_agree_nothing_is_told() {
    let (web, more) = (
        Policy::CLOSED.allow_out(Transport::Udp, 2),
        Policy::CLOSED
            .allow_out(Transport::Tcp, 9)
            .allow_out(Transport::Udp, 2),
    );
    let mut rig = rig(web.shadowed_by(more), Policy::OPEN);
    assert_eq!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).len(), 1);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.miss", 1),
        ("flows", 1),
    ]);
    assert_eq!(rig.a.verdicts().remove(0).shadows.iter().count(), 0);
}

#[test]
fn a_change_of_only_the_shadow_judges_again_and_loses_nothing() {
    let mut rig = rig(Policy::OPEN, Policy::OPEN);
    assert_eq!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).len(), 1);
    let shadowed = Policy::OPEN.shadowed_by(Policy::CLOSED);
    rig.a.replan(|plan| plan.repolicy(0, shadowed));
    rig.a.rebase();
    assert_eq!(rig.a.push(VF1, &local(1, 0, 2, 1), VF0).len(), 1);
    rig.a.expect_delta(&[
        ("vf1.rx", 1),
        ("vf1.forwarded", 1),
        ("vf0.tx", 1),
        ("flow.stale", 1),
        ("vf0.shadow_would_deny", 1),
    ]);
}

#[test]
fn a_policy_that_goes_from_shadow_to_enforced_ends_what_it_only_counted() {
    let mut rig = rig(Policy::OPEN.shadowed_by(Policy::CLOSED), Policy::OPEN);
    assert_eq!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).len(), 1);
    rig.a.replan(|plan| plan.repolicy(0, Policy::CLOSED));
    rig.a.rebase();
    assert!(rig.a.push(VF0, &local(0, 1, 1, 2), VF1).is_empty());
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.drop.policy-egress", 1),
        ("flow.stale", 1),
        ("flows", -1),
    ]);
}
