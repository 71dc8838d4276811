//! What policy costs by the number of rules, beside others on the same rules.

#[cfg(feature = "dpdk")]
pub mod acl;
pub mod churn;
pub mod compile;
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

/// All there is to measure. `progress` gets a line now and then.
///
/// # Errors
/// Contenders that disagree about a verdict; packets that were lost where none may be.
pub fn run(
    quick: bool,
    share: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Case>> {
    let sizes = if quick { &QUICK[..] } else { &lookup::SIZES };
    // First, in a process that has not had and freed memory yet.
    progress("flows");
    let flows = flows::run(quick)?;
    progress("churn");
    let churn = churn::run(quick)?;
    let mut all = lookup::run(sizes, share, &mut progress)?;
    progress("compile");
    all.extend(compile::run(quick)?);
    all.extend(nft::run(quick, share, &mut progress));
    all.extend(flows);
    all.push(churn);
    let machine = machine::describe();
    for case in &mut all {
        case.machine.clone_from(&machine);
    }
    Ok(all)
}
