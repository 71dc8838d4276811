//! Whether what was measured is as it is to be.

use anyhow::ensure;

/// Of all that have a target: which it is, and whether it keeps to it.
///
/// # Errors
/// The names of those that don't, or that none has one.
pub(crate) fn check(held: &[(String, bool)]) -> anyhow::Result<()> {
    ensure!(!held.is_empty(), "nothing that was measured has a target");
    let missed = held.iter().filter(|(_, holds)| !holds);
    let missed: Vec<_> = missed.map(|(name, _)| name.as_str()).collect();
    let (of, names) = (held.len(), missed.join(", "));
    ensure!(
        missed.is_empty(),
        "{} of {of} targets are missed: {names}",
        missed.len()
    );
    Ok(())
}
