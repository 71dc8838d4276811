//! Whether a certificate chain is the X.509-SVID of the Sluice node that is expected: pure functions
//! of the chain, the trust anchors, who is expected and the time. The node channel asks them of the
//! peers of its TLS sessions, the simulator of those of its own.

mod accept;
mod anchors;
mod chain;
mod check;
mod id;

pub use self::accept::Accept;
pub use self::anchors::{AnchorError, Anchors};
pub use self::chain::{Chain, Doubt};
pub use self::check::{
    Algorithms, INTERMEDIATES_MAX, Role, SvidError, check_leaf, not_after, verify,
};
pub use self::id::{IdError, SpiffeId, TrustDomain};
