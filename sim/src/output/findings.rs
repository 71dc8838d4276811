//! Findings of lints, for people.

use sluice_host_agent::lint::Level;

use super::WIDTH;
use super::paint::{Ink, Paint};
use super::table::wrap;
use crate::record::LintRecord;

/// What was found, object by object.
#[must_use]
pub fn show_lint(record: &LintRecord, paint: Paint) -> String {
    let mut out = String::new();
    let mut object = None;
    for it in &record.findings {
        if object.replace(&it.object) != Some(&it.object) {
            let place = match (&it.file, it.line) {
                (Some(file), Some(line)) => format!("  {file}:{line}"),
                _ => String::new(),
            };
            let title = paint.ink(Ink::Strong, &it.object);
            out.push_str(&format!("{title}{}\n", paint.ink(Ink::Faint, &place)));
        }
        let ink = match (it.denied, it.level) {
            (true, _) => Ink::Bad,
            (false, Level::Warning) => Ink::Deny,
            (false, Level::Note) => Ink::Faint,
        };
        out.push_str(&format!("  {} {}\n", paint.ink(ink, it.code.id()), it.path));
        for part in wrap(&it.message, WIDTH - 8) {
            out.push_str(&format!("        {part}\n"));
        }
        for part in wrap(&it.help, WIDTH - 8) {
            out.push_str(&format!("        {}\n", paint.ink(Ink::Faint, &part)));
        }
    }
    let text = match (record.findings.len(), record.denied) {
        (0, _) => paint.ink(Ink::Good, "Nothing found."),
        (found, 0) => format!("{found} found."),
        (found, denied) => paint.ink(
            Ink::Bad,
            &format!("FAILED  {found} found, {denied} of them denied."),
        ),
    };
    out.push_str(&text);
    out.push('\n');
    if record.unfinished {
        out.push_str("There are too many flows to look for shadowed rules (SL002).\n");
    }
    out
}
