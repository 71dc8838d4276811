//! What a world notes of itself and frames don't tell: for people, never for oracles.

use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{Generation, NodeName};

/// Something that happened at a node's dataplane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happening {
    /// When.
    pub at: Tick,
    /// Where.
    pub node: NodeName,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happened {
    /// A generation is in force: the node's dataplane has said so.
    InForce(Generation),
    /// It has a fresh key to receive by.
    Receives {
        /// Who sends by it.
        from: NodeName,
        /// The SA's index.
        spi: u32,
    },
    /// It sends by a fresh key from now on.
    Sends {
        /// Who receives by it.
        to: NodeName,
        /// The SA's index.
        spi: u32,
    },
}
