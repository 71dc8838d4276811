//! What a node tells of itself when something went wrong, for a look at it elsewhere: one
//! JSON document with the objects that its agent goes by, what its dataplane holds, and what
//! it has decided lately.
//!
//! Nothing secret is in it: no key and no part of one, no packet's payload, and of objects
//! only the fields that policy looks at, so no Secret, environment or image of a pod.

mod bundle;
mod objects;
mod policies;

pub use bundle::{
    BYTES_MAX, Bundle, BundleError, Counters, EncryptionView, KIND, SaSummary, VERDICTS_MAX,
    VERSION, Verdict, Way,
};
pub use objects::objects;
