//! What a person is told of a fault, on stderr.

use core::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

/// Columns of the picture.
const WIDTH: usize = 100;
/// Bytes of a line that is drawn, at most. Of a longer one, as in JSON without line breaks, there
/// is nothing to be seen, and whoever draws panics from column 65536 on.
const LINE_BYTES_MAX: usize = 1_000;
/// Lines around the place that are drawn with it.
const LINES_AROUND: usize = 1;

/// `error: FILE:LINE:COLUMN: what is wrong` with what caused it, a first line that stands
/// alone for scripts; below it, for people, the lines around the place with a mark.
#[must_use]
pub fn complaint(error: &dyn Diagnostic) -> String {
    let mut out = format!("error: {}", chain(error));
    if can_be_drawn(error) {
        let mut picture = String::new();
        let handler = GraphicalReportHandler::new_themed(theme())
            .with_width(WIDTH)
            .with_context_lines(LINES_AROUND);
        if handler
            .render_report(&mut picture, &Pictured(error))
            .is_ok()
        {
            let _ = write!(out, "\n{}", picture.trim_end());
        }
    }
    out
}

/// Whether there is a place, in lines that are not too long.
fn can_be_drawn(error: &dyn Diagnostic) -> bool {
    let Some((source, mut labels)) = error.source_code().zip(error.labels()) else {
        return false;
    };
    labels.all(|label| {
        let around = source.read_span(label.inner(), LINES_AROUND, LINES_AROUND);
        around.is_ok_and(|it| {
            let mut lines = it.data().split(|byte| *byte == b'\n');
            lines.all(|line| line.len() <= LINE_BYTES_MAX)
        })
    })
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Diagnostic) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

fn theme() -> GraphicalTheme {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stderr().is_terminal() && !refused {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    }
}

/// A diagnostic whose message was said already.
#[derive(Debug)]
struct Pictured<'a>(&'a dyn Diagnostic);

impl fmt::Display for Pictured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place:")
    }
}

impl std::error::Error for Pictured<'_> {}

impl Diagnostic for Pictured<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.labels()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::{Spot, Text};

    #[test]
    fn the_first_line_is_the_fault_and_the_picture_shows_its_line_once() {
        let text = Text::new(Path::new("x.yaml"), "a: 1\nbad: 2\n".to_owned());
        let fault = text.fault(Spot { line: 2, column: 1 }, "not known");
        let said = complaint(&fault);
        let (first, picture) = said.split_once('\n').unwrap();
        assert_eq!(first, "error: x.yaml:2:1: not known");
        assert!(
            picture.contains("bad: 2") && !picture.contains("not known"),
            "{picture}"
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_not_drawn() {
        let drawn = |before: usize, next: usize| {
            let lines = format!("a: 1\n{}bad\n{}\n", " ".repeat(before), "#".repeat(next));
            let text = Text::new(Path::new("x.yaml"), lines);
            let column = u32::try_from(before + 1).unwrap();
            let said = complaint(&text.fault(Spot { line: 2, column }, "not known"));
            let first = format!("error: x.yaml:2:{column}: not known");
            assert!(said.starts_with(&first), "{said}");
            said.lines().count() > 1
        };
        assert!(drawn(0, 0) && drawn(LINE_BYTES_MAX - 3, 0));
        assert!(!drawn(LINE_BYTES_MAX - 2, 0) && !drawn(70_000, 0));
        assert!(!drawn(0, LINE_BYTES_MAX + 1));
    }
}
