//! The heap's pages, as the daemon has them.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

const TUNABLES: &str = "GLIBC_TUNABLES";
/// Set when it was started anew, in case the other was taken away on the way.
const AGAIN: &str = "SLUICE_BENCH_LARGE_PAGES";
/// As deploy/dataplane/sluice-dataplane.service sets it.
const LARGE: &str = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1";

/// Goes on as this same command with its heap in transparent huge pages, unless the variable that
/// says so is set already: an empty one is for ordinary pages. glibc reads it at a start only.
///
/// # Errors
/// The command couldn't be started anew.
pub fn large() -> io::Result<()> {
    if env::var_os(TUNABLES).is_some() || env::var_os(AGAIN).is_some() {
        return Ok(());
    }
    let this = env::current_exe()?;
    let args = env::args_os().skip(1);
    Err(Command::new(this)
        .args(args)
        .env(TUNABLES, LARGE)
        .env(AGAIN, "1")
        .exec())
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_are_as_the_daemons_unit_has_them() {
        let unit = include_str!("../../deploy/dataplane/sluice-dataplane.service");
        let line = format!("Environment={}={}", super::TUNABLES, super::LARGE);
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
}
