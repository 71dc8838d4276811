//! What a dataplane answers to a transaction.

use crate::model::Generation;
use crate::refusal::{Refusal, RefusalCode};

/// The answer to one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It holds, on every worker.
    Ack {
        /// Its generation.
        generation: Generation,
    },
    /// It doesn't, and nothing has changed.
    Refused(Refused),
}

/// A [`Refusal`] as it travels: its values have become text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {text} (generation {generation} stays in force)")]
pub struct Refused {
    /// The generation that is still in force.
    pub generation: Generation,
    /// The field at fault: [`Refusal::path`].
    pub path: String,
    /// What kind of fault it is, for programs.
    pub code: RefusalCode,
    /// What is wrong and what to do, for people.
    pub text: String,
}

impl Refused {
    /// `refusal`, with `generation` still in force.
    #[must_use]
    pub fn new(generation: Generation, refusal: &Refusal) -> Self {
        Self {
            generation,
            path: refusal.path.clone(),
            code: refusal.code(),
            text: refusal.why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::RefusalReason;

    #[test]
    fn a_refusal_travels_with_its_path_kind_and_text() {
        let why = RefusalReason::PortNotHere {
            port: "vf9".into(),
            known: vec!["uplink".into(), "vf0".into()],
        };
        let refusal = Refusal::new("ops[0].add.port.name", why);
        let refused = Refused::new(Generation(7), &refusal);
        assert_eq!(refused.code, RefusalCode::Unsupported);
        assert_eq!(
            refused.to_string(),
            "ops[0].add.port.name: this dataplane has no port vf9; it has uplink, vf0 \
             (generation 7 stays in force)"
        );
    }

    #[test]
    fn what_a_dataplane_cannot_do_is_said_in_its_words() {
        let what = "VLANs on this NIC".to_owned();
        let refusal = Refusal::new("ops[0].add.port.vlan", RefusalReason::Unsupported { what });
        assert_eq!(
            refusal.to_string(),
            "ops[0].add.port.vlan: this dataplane cannot do it: VLANs on this NIC"
        );
    }

    #[test]
    fn a_refusal_is_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Refusal>() < 128);
    }
}
