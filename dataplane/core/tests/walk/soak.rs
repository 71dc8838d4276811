//! How much of a long test is run: a share in `make test`, all of it in `make soak`.

/// What the environment says, or a share.
pub(crate) fn amount(variable: &str, share: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => share,
    }
}

/// A line now and then, of a long run only.
pub(crate) fn tell(done: u64, of: u64, what: &str) {
    const EVERY: u64 = 1 << 20;
    if done > 0 && done.is_multiple_of(EVERY) {
        eprintln!("{done} of {of} {what}");
    }
}
