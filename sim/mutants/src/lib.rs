//! Bugs planted on purpose, to see that tests find them. Without the feature `planted` nothing
//! of this is left in a build; with it a release build refuses to be.
//!
//! A mutant is chosen for a thread: the simulator runs a whole cluster in one.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("the feature `planted` plants bugs in Sluice: it is for debug builds only");

macro_rules! mutants {
    (
        $($(#[$about:meta])* $name:ident,)*;
        $($(#[$about_played:meta])* $played:ident,)*
    ) => {
        /// A planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant {
            $($(#[$about])* $name,)*
            $($(#[$about_played])* $played,)*
        }

        impl Mutant {
            /// All that the fuzzer finds.
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// Those that a scenario finds, each: of what no seed breaks.
            pub const PLAYED: &[Self] = &[$(Self::$played),*];
        }
    };
}

mutants! {
    // The packet walk.
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

    // ESP.
    /// A number that was accepted may come again.
    ReplayUncommitted,
    /// A number counts as accepted before its packet's integrity is checked.
    ReplayBeforeIntegrity,
    /// Every sixteenth packet of an SA has the number of the one before.
    NumberTwice,
    /// The receiver takes the high half of a 64-bit number for what it was at first.
    EsnHighIgnored,
    /// Whoever has an SA with a node speaks for the pods of all nodes.
    SpiOfAnyNode,

    // The life of keys.
    /// A receiving SA that is retired stays.
    SaKept,
    /// A receiving SA that isn't there is said to be.
    SaNotInstalled,
    /// A new receiving SA takes the place of the one before at once.
    SaReplacedAtOnce,
    /// The sender switches to a new SA before the receiver has it.
    SentBeforeReceived,
    /// Keys are made of names and epochs, and of nothing of the session: nodes that have both
    /// started again have those that they have sent by.
    KeysAgain,

    // The dataplane's control side.
    /// A policy's table stays as it was when the policy changes.
    TableKept,
    /// What other nodes say of their addresses counts for nothing.
    BindingsUnasked,

    // The agent.
    /// `NotIn` wants the label to be there.
    NotInForgotten,
    /// The labels of a pod are those that it came with.
    LabelsForgotten,
    /// The exceptions of a block count for nothing.
    ExceptForgotten,
    /// Of ClusterNetworkPolicies the last wins.
    RulesUpsideDown,
    /// A selector of namespaces looks at pods' labels.
    NamespacesByPods,
    /// Of a pod's addresses only the first is known.
    SecondAddressForgotten,
    /// A port's name is looked up at the source.
    PortNameOfSource,
    /// A range of ports is its first.
    EndPortForgotten,
    /// What no rule of an isolating policy allows is allowed.
    IsolationForgotten,
    /// Half a list of objects is taken for all there are.
    HalfListTaken,
    /// That events are no more to be had (410) is not heard: no new list is asked for.
    GoneUnheard,
    /// An object that is deleted stays.
    DeletionUnheard,
    /// A dataplane that has started again is taken for the one that was told everything.
    RestartUnnoticed,
    /// A dataplane that is told everything anew is told no rule that denies.
    RestartOpens,
    /// A pod that is gone keeps its VF.
    VfKept,
    /// Two pods of a node have each other's VF.
    VfsSwapped,
    ;

    // Certificates, which no seed breaks.
    /// A good certificate is taken for that of the node that is meant, whomever it names.
    NameUnasked,
    /// A certificate is good for ever.
    ExpiryUnasked,
}

#[cfg(feature = "planted")]
mod planted {
    use core::cell::Cell;

    use super::Mutant;

    std::thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
        static UNCHECKED: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants a bug in what this thread runs from now on, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.with(|it| it.set(mutant));
    }

    /// Agents in this thread hold what they compile against its policies, or don't.
    pub fn leave_unchecked(unchecked: bool) {
        UNCHECKED.with(|it| it.set(unchecked));
    }

    pub(super) fn is_unchecked() -> bool {
        UNCHECKED.with(Cell::get)
    }

    pub(super) fn is(mutant: Mutant) -> bool {
        PLANTED.with(|it| it.get() == Some(mutant))
    }
}

#[cfg(feature = "planted")]
pub use planted::{leave_unchecked, plant};

/// Whether a bug is planted here.
#[must_use]
#[inline(always)]
pub fn is(mutant: Mutant) -> bool {
    #[cfg(feature = "planted")]
    return planted::is(mutant);
    #[cfg(not(feature = "planted"))]
    {
        let _ = mutant;
        false
    }
}

/// Whether agents here don't hold what they compile against its policies: a bug of the compiler
/// would go no further, and what is behind it prove nothing.
#[must_use]
#[inline(always)]
pub fn is_unchecked() -> bool {
    #[cfg(feature = "planted")]
    return planted::is_unchecked();
    #[cfg(not(feature = "planted"))]
    false
}
