//! Planted bugs that several places of the walk share; see [`sluice_mutants`].

pub(crate) use sluice_mutants::{Mutant, is};

/// Whether a planted bug lets a flow's packets come by any way.
#[inline(always)]
pub(crate) fn any_way(is_v4: bool) -> bool {
    any_source(is_v4) || is(Mutant::PlaintextLetIn) || is(Mutant::SpiOfAnyNode)
}

/// Whether a planted bug lets a pod speak from any address of a family.
#[inline(always)]
pub(crate) fn any_source(is_v4: bool) -> bool {
    is(if is_v4 {
        Mutant::Ipv4SourceUnguarded
    } else {
        Mutant::Ipv6SourceUnguarded
    })
}
