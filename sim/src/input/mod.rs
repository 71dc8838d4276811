//! Files that people wrote: read within bounds, and wrong at a file, a line and a column.

mod attack;
mod changes;
mod expect;
mod flows;
mod folder;
mod manifests;
mod party;
mod probes;
mod scenario;
mod settings;
mod workload;

use core::fmt;
use std::path::Path;

use miette::Diagnostic;
use serde::de::DeserializeOwned;
use sluice_host_agent::manifest::LoadError;
use sluice_host_agent::text::{Fault, ReadError, Spot, Text};

use crate::world::WorldError;

pub use attack::{Attack, FLOOD_MAX, SIZE_MAX, Send};
pub use changes::{OBJECTS_MAX, Patch, PatchKind, REPLICAS_MAX, Scale};
pub use expect::{Answers, Count, Expect};
pub use flows::{FLOWS_MAX, PlacedFlow, load_flows};
pub use folder::{Folder, load_folder};
pub use manifests::{Manifests, load_manifests};
pub use party::{PartyError, parse_party};
pub use probes::{PROBES_MAX, PlacedProbe, load_probes};
pub use scenario::{
    Action, Beside, Delete, DeleteKind, Matrix, REKEYS_MAX, REPLAY_MAX, STEPS_MAX, Scenario, Spoof,
    Step, WAIT_H_MAX, load_scenario, parse_scenario,
};
pub use settings::{FLOWS_MAX as FLOW_TABLE_MAX, FLOWS_MIN as FLOW_TABLE_MIN};

/// Length of a file that is read, in bytes, at most.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why an input can't be used. Nothing has been written when one of these is returned.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum InputError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line of a file is at fault and must not be shown.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The path as it was given.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A place in a file is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fault(#[from] Fault),
    /// Manifests are at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] LoadError),
    /// No world can be made of the manifests.
    #[error("these manifests make no cluster: {0}")]
    World(Box<WorldError>),
}

impl From<WorldError> for InputError {
    fn from(error: WorldError) -> Self {
        Self::World(Box::new(error))
    }
}

/// A text with the name of its file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source(Text);

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InputError`] if it can't be read, is too long or no text.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        Ok(Self(Text::read(path, FILE_BYTES_MAX)?))
    }

    /// A text that is at hand.
    #[must_use]
    pub fn new(name: &str, text: String) -> Self {
        Self(Text::new(Path::new(name), text))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Reads the text as YAML.
    ///
    /// # Errors
    /// [`InputError::Fault`] where the YAML or its shape is wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        let says_nothing = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if self.text().lines().all(says_nothing) {
            return Err(self.at(Spot::START).fault("the file is empty"));
        }
        Ok(self.0.parse()?)
    }

    /// A place in it.
    #[must_use]
    pub fn at(&self, spot: Spot) -> Place {
        Place {
            source: self.clone(),
            spot,
        }
    }
}

/// A place in a file, to complain about later.
#[derive(Clone, Debug)]
pub struct Place {
    source: Source,
    spot: Spot,
}

impl Place {
    /// The error that this place is at fault.
    #[must_use]
    pub fn fault(&self, message: impl fmt::Display) -> InputError {
        self.source.0.fault(self.spot, message).into()
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.spot.line
    }

    /// An error about a file that can't be read, told where the file was named.
    fn naming(&self, error: InputError) -> InputError {
        match error {
            InputError::Read(_) => self.fault(error),
            InputError::Manifests(LoadError::Io { path, source }) => {
                self.fault(format!("can't read {}: {source}", path.display()))
            }
            _ => error,
        }
    }
}
