//! Bugs planted on purpose, to see that tests find them. Without the feature `mutants` nothing
//! of this is compiled; with it a release build refuses to be.
//!
//! A mutant is chosen for a thread: the simulator runs a whole cluster in one.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants bugs in the dataplane: it is for debug builds only");

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// A flow that an older generation judged passes as if it were judged by this one.
    StaleGeneration,
    /// A VF may send from any IPv6 address: neither its guard nor the flow table minds.
    Ipv6SourceUnguarded,
    /// The same of IPv4.
    Ipv4SourceUnguarded,
    /// Nobody is asked at the destination.
    IngressUnasked,
    /// Nobody is asked at the source.
    EgressUnasked,
    /// Policy takes UDP for TCP.
    ProtocolForgotten,
    /// ICMP is not policed.
    IcmpUnasked,
    /// The tier Admin is never asked.
    AdminForgotten,
    /// `Pass` is taken for `Accept`.
    PassAllows,
    /// A policy in shadow mode is enforced.
    ShadowEnforced,
    /// Plaintext from a pod's address is let in from the wire: neither the guard nor the flow
    /// table minds.
    PlaintextLetIn,
    /// What has no SA goes in clear.
    ClearWithoutSa,
    /// Pods of other nodes are spoken to in clear.
    ClearAlways,
    /// A drop for policy is in no counter.
    DropUncounted,
    /// A frame for a pod comes out at the VF beside its own.
    WrongVf,
    /// A receiving SA that is retired stays.
    SaKept,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::StaleGeneration,
        Self::Ipv6SourceUnguarded,
        Self::Ipv4SourceUnguarded,
        Self::IngressUnasked,
        Self::EgressUnasked,
        Self::ProtocolForgotten,
        Self::IcmpUnasked,
        Self::AdminForgotten,
        Self::PassAllows,
        Self::ShadowEnforced,
        Self::PlaintextLetIn,
        Self::ClearWithoutSa,
        Self::ClearAlways,
        Self::DropUncounted,
        Self::WrongVf,
        Self::SaKept,
    ];
}

#[cfg(feature = "mutants")]
mod planted {
    use core::cell::Cell;

    use super::Mutant;

    std::thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a bug in what this thread runs from now on, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.with(|it| it.set(mutant));
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.with(|it| it.get() == Some(mutant))
    }
}

#[cfg(feature = "mutants")]
pub use planted::plant;

/// Whether a planted bug lets a flow's packets come by any way.
#[inline(always)]
pub(crate) fn any_way(is_v4: bool) -> bool {
    any_source(is_v4) || is(Mutant::PlaintextLetIn)
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

/// Whether a bug is planted here.
#[inline(always)]
pub(crate) fn is(mutant: Mutant) -> bool {
    #[cfg(feature = "mutants")]
    return planted::is(mutant);
    #[cfg(not(feature = "mutants"))]
    {
        let _ = mutant;
        false
    }
}
