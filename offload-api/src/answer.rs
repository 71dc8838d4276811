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
