//! What policy costs by the number of rules, beside others on the same rules.

#[cfg(feature = "dpdk")]
pub mod acl;
pub mod churn;
mod cluster;
pub mod compile;
mod event;
pub mod flows;
pub mod lookup;
pub mod nft;
pub mod report;
pub mod rules;

use std::time::Duration;

use crate::machine;
use report::Case;

/// Rules and identities of a quick run.
const QUICK: [(u32, u32); 3] = [(10, 1), (100, 100), (1_000, 65_535)];

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Group {
    /// Memory of a flow, new connections, a flood
    Flows,
    /// Flow hits while other pods come and go
    Churn,
    /// Verdicts by the number of rules
    Lookup,
    /// A large cluster, compiled whole and event by event
    Compile,
    /// What nftables adds to a packet
    Nft,
}

/// All there is to measure, or one group of it. `progress` gets a line now and then.
///
/// # Errors
/// Contenders that disagree about a verdict; packets that were lost where none may be.
pub fn run(
    quick: bool,
    only: Option<Group>,
    share: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Case>> {
    let sizes = if quick { &QUICK[..] } else { &lookup::SIZES };
    let is_asked = |group| only.is_none_or(|it| it == group);
    let (mut flows, mut churn, mut all) = (Vec::new(), Vec::new(), Vec::new());
    // First, in a process that has not had and freed memory yet.
    if is_asked(Group::Flows) {
        progress("flows");
        flows = flows::run(quick)?;
    }
    if is_asked(Group::Churn) {
        progress("churn");
        churn.push(churn::run(quick)?);
    }
    if is_asked(Group::Lookup) {
        all = lookup::run(sizes, share, &mut progress)?;
    }
    if is_asked(Group::Compile) {
        progress("compile");
        all.extend(compile::run(quick)?);
    }
    if is_asked(Group::Nft) {
        all.extend(nft::run(quick, share, &mut progress));
    }
    all.append(&mut flows);
    all.append(&mut churn);
    let machine = machine::describe();
    for case in &mut all {
        case.machine.clone_from(&machine);
    }
    Ok(all)
}
