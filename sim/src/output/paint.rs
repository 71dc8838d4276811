//! Colour: on a terminal, and only if nobody asked for none.

use std::env;
use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};

/// Paints, or leaves plain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    on: bool,
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ink {
    /// As it comes.
    #[default]
    Plain,
    /// A heading.
    Strong,
    /// Of less weight.
    Faint,
    /// As it should be.
    Good,
    /// Denied: as it should be too, but to be seen.
    Deny,
    /// Wrong.
    Bad,
}

impl Ink {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Deny => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl Paint {
    /// For stdout as it is. `NO_COLOR` (no-color.org) counts if it is set and not empty.
    #[must_use]
    pub fn for_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            on: !refused && io::stdout().is_terminal(),
        }
    }

    /// On or off, whatever stdout is.
    #[must_use]
    pub const fn set(on: bool) -> Self {
        Self { on }
    }

    /// A text in an ink.
    #[must_use]
    pub fn ink(self, ink: Ink, text: &str) -> String {
        if !self.on || ink == Ink::Plain {
            return text.to_owned();
        }
        let style = ink.style();
        format!("{style}{text}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_that_is_off_leaves_text_alone() {
        assert_eq!(Paint::set(false).ink(Ink::Bad, "x"), "x");
        assert_eq!(Paint::set(true).ink(Ink::Plain, "x"), "x");
        assert_eq!(Paint::set(true).ink(Ink::Good, "x"), "\u{1b}[32mx\u{1b}[0m");
    }
}
