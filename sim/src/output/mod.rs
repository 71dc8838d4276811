//! What people see: the one place that writes to the terminal.

mod diff;
mod findings;
mod fuzz;
mod junit;
mod matrix;
mod mismatches;
mod paint;
mod progress;
mod replay;
mod sarif;
mod scale;
mod show;
mod table;
mod timeline;

use std::io::{self, Write};

use serde::Serialize;

pub use diff::show_diff;
pub use findings::show_lint;
pub use fuzz::{show_fuzz, show_storms};
pub use junit::{junit_of_connectivity, junit_of_run};
pub use mismatches::{MISMATCHES, sarif_of_connectivity, sarif_of_run};
pub use paint::Paint;
pub use progress::Progress;
pub use replay::show_replay;
pub use sarif::{SarifLevel, SarifLog, SarifResult, SarifRule, artifact};
pub use scale::show_scale;
pub use show::{show_connectivity, show_run};
pub use timeline::{Recorder, Timeline, timeline_html};

/// Columns that everything fits into.
pub const WIDTH: usize = 100;

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
}

/// A value as JSON, indented, with a newline at its end.
///
/// # Errors
/// None for the records of this crate.
pub fn to_json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes to stdout. A reader that went away, as `head` does, is no error.
///
/// # Errors
/// Others of stdout.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line to stderr, for people.
pub fn note(text: &str) {
    // There is nowhere to say that stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
