//! Progress on stderr: a bar on a terminal, else a line now and then if it takes long.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::note;

/// How long without a line, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Fewer probes than this get no bar: it would only flicker.
const BAR_PROBES_MIN: usize = 200;

/// Progress through probes.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    silent: bool,
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
    last: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            silent: false,
            bar: None,
            done: 0,
            total: 0,
            last: Instant::now(),
        }
    }
}

impl Progress {
    /// One that says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    /// So many probes come.
    pub fn begin(&mut self, total: usize) {
        (self.done, self.total) = (0, total);
        if !self.silent && self.terminal && total >= BAR_PROBES_MIN {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("probes {bar:40} {pos}/{len}") {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
    }

    /// One is done.
    pub fn advance(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if !self.silent && self.last.elapsed() >= LINE_EVERY => {
                note(&format!("{} of {} probes", self.done, self.total));
                self.last = Instant::now();
            }
            None => {}
        }
    }

    /// All are.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
