//! What a dataplane has on its disk.

use sluice_dataplane_control::Former;
use sluice_dataplane_control::checkpoint::{DecodeError, Kept, decode, encode};
use sluice_offload_api::State;

/// The generation that was acknowledged last and the addresses that nobody had then, in production's bytes. They are made when somebody
/// reads them: a state is small to keep, and most are never read.
#[derive(Debug)]
pub(super) struct Disk {
    kept: Box<(State, Former)>,
    /// A number that says which bit has turned, if one has.
    turned: Option<u64>,
}

impl Disk {
    pub(super) fn keep(state: &State, former: &Former) -> Self {
        Self {
            kept: Box::new((state.clone(), former.clone())),
            turned: None,
        }
    }

    /// One bit turns, whichever the number says.
    pub(super) const fn turn(&mut self, which: u64) {
        self.turned = Some(which);
    }

    /// What a dataplane that starts makes of it.
    pub(super) fn load(&self) -> Result<Kept, DecodeError> {
        let (state, former) = &*self.kept;
        let mut bytes = encode(state, former);
        if let Some(which) = self.turned {
            let bits = bytes.len() as u64 * 8;
            let bit = which % bits.max(1);
            let byte = usize::try_from(bit / 8)
                .ok()
                .and_then(|at| bytes.get_mut(at));
            if let Some(byte) = byte {
                *byte ^= 1 << (bit % 8);
            }
        }
        decode(&bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use sluice_offload_api::testing::sample;

    use super::*;

    #[test]
    fn what_is_kept_is_loaded_and_with_a_bit_turned_nothing_is() {
        let mut disk = Disk::keep(&sample(), &Former::default());
        assert_eq!(disk.load().unwrap().transaction, sample().to_snapshot());
        for which in (0..u64::MAX).step_by((1 << 55) + 1) {
            disk.turn(which);
            assert!(disk.load().is_err(), "{which}");
        }
    }
}
