//! Domain names that policies name, and what pods' resolvers say of them.
//!
//! A pod's question to port 53 is noted when it passes ([`asked`]). The answer to it, if it
//! passes too, is read ([`message`]); if the question's name is one that the pod's policy
//! names ([`patterns`]), its addresses are known by those patterns to this pod for as long as
//! the answer says ([`learned`]). All of it is one worker's, in memory of a fixed size.
//!
//! What isn't known isn't allowed: a message that can't be read, an answer that nobody asked
//! for or one for which there is no room teaches nothing and is counted.

pub mod asked;
pub mod learned;
pub mod message;
pub mod patterns;

/// The port of resolvers, over UDP and TCP (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// A pattern of domain names, by a number that no other pattern gets while this dataplane
/// runs: what was learned or judged by it never means another. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DomainId(pub u32);

impl DomainId {
    /// No pattern.
    pub const NONE: Self = Self(0);
    /// The highest: flows keep three bytes of it.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// Whether it is a pattern.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}
