//! `sluice-sim schema`.

use clap::Args;

use super::Outcome;
use crate::output::print;

/// The schema. A test holds it against the scenarios that are read.
const SCENARIO: &str = include_str!("../../schema/scenario.schema.json");

/// Print the JSON schema of scenario files, for editors.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sluice-sim schema > scenario.schema.json

and in a scenario's first line:
  # yaml-language-server: $schema=scenario.schema.json")]
pub(super) struct SchemaArgs {}

pub(super) fn run(SchemaArgs {}: &SchemaArgs) -> Outcome {
    print(SCENARIO.as_bytes())?;
    Ok(true)
}
