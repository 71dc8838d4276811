//! What DPDK says when it refuses.

use core::fmt;

use sluice_dpdk_sys as sys;

/// An errno as DPDK reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// What a driver returns that gives no reason: -1, the same number as `EPERM`.
const UNEXPLAINED: i32 = 1;

impl Errno {
    /// From a negative return value.
    pub(crate) const fn of_return(returned: i32) -> Self {
        Self(returned.saturating_neg())
    }

    /// The calling thread's `rte_errno`, for functions that return NULL or -1.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local of this thread; no precondition.
        Self(unsafe { sys::sluice_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == UNEXPLAINED {
            f.write_str("refused; DPDK's log on standard error says why")
        } else {
            std::io::Error::from_raw_os_error(self.0).fmt(f)
        }
    }
}

/// 0 or more is success, negative an errno.
pub(crate) const fn check(returned: i32) -> Result<(), Errno> {
    if returned < 0 {
        Err(Errno::of_return(returned))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_return_is_its_errno_in_words() {
        let error = check(-12).unwrap_err();
        assert_eq!(error, Errno(12));
        assert!(error.to_string().contains("memory"), "{error}");
        assert_eq!(check(0), Ok(()));
    }

    #[test]
    fn a_bare_minus_one_is_not_called_a_lack_of_permission() {
        assert!(Errno::of_return(-1).to_string().contains("log"));
    }
}
