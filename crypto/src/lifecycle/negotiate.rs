//! What two hellos agree on: a pure function of both, the same at both ends.

use super::message::{Hello, LANES_MAX};
use crate::key::Algorithm;

/// The terms of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Its number.
    pub epoch: u64,
    /// Child SAs a direction.
    pub children: u8,
    /// Cipher of both directions.
    pub algorithm: Algorithm,
    /// Extended sequence numbers.
    pub esn: bool,
}

/// Why two hellos don't agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    /// The hello is not by who the certificate is by.
    #[error("hello says {got}, the peer is {expected}")]
    WrongId {
        /// From the certificate.
        expected: String,
        /// From the hello.
        got: String,
    },
    /// Nothing both speak.
    #[error("no algorithm in common: we speak {ours:?}, the peer {theirs:?}")]
    NoAlgorithm {
        /// Ours.
        ours: Vec<Algorithm>,
        /// The peer's.
        theirs: Vec<Algorithm>,
    },
    /// Numbers of 32 bits, which whoever wants 64 doesn't go back to.
    #[error("the peer has no extended sequence numbers, which are always used between nodes")]
    NoEsn,
    /// Not a number of children.
    #[error("{got} lanes; 1 to {LANES_MAX} are possible")]
    Lanes {
        /// From the hello.
        got: u8,
    },
    /// The counter is at its end, or a peer is playing with it.
    #[error("epoch floor {got} is out of range")]
    Epoch {
        /// From the hello.
        got: u64,
    },
}

/// The last epoch. One past it isn't agreed on; whoever has come to it begins anew.
pub(super) const EPOCH_MAX: u64 = u64::MAX / 2;

/// The terms that follow from the initiator's hello and the responder's.
///
/// # Errors
/// [`NegotiateError`].
pub(super) fn agree(initiator: &Hello, responder: &Hello) -> Result<Agreed, NegotiateError> {
    for got in [initiator.lanes, responder.lanes] {
        if got == 0 || got > LANES_MAX {
            return Err(NegotiateError::Lanes { got });
        }
    }
    let epoch = initiator.epoch_floor.max(responder.epoch_floor);
    if epoch == 0 || epoch > EPOCH_MAX {
        return Err(NegotiateError::Epoch { got: epoch });
    }
    let algorithm = initiator
        .algorithms
        .iter()
        .copied()
        .find(|algorithm| responder.algorithms.contains(algorithm))
        .ok_or_else(|| NegotiateError::NoAlgorithm {
            ours: initiator.algorithms.clone(),
            theirs: responder.algorithms.clone(),
        })?;
    Ok(Agreed {
        epoch,
        children: initiator.lanes.max(responder.lanes),
        algorithm,
        esn: initiator.esn && responder.esn,
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::SpiBlock;
    use super::*;

    fn hello(epoch_floor: u64, lanes: u8, algorithms: &[Algorithm]) -> Hello {
        Hello {
            spiffe_id: "spiffe://t/n".to_owned(),
            instance: 1,
            attempt: 1,
            epoch_floor,
            receive: SpiBlock::new(0x1000).expect("not reserved"),
            lanes,
            algorithms: algorithms.to_vec(),
            esn: true,
            sending: Vec::new(),
        }
    }

    #[test]
    fn the_greater_floor_and_lane_count_and_the_initiators_first_common_choice_win() {
        let [a128, a256, _] = Algorithm::ALL;
        let agreed = agree(&hello(3, 1, &[a256, a128]), &hello(7, 4, &[a128, a256]));
        let agreed = agreed.expect("they agree");
        assert_eq!((agreed.epoch, agreed.children), (7, 4));
        assert_eq!(agreed.algorithm, a256);
        assert!(agreed.esn);
    }

    #[test]
    fn esn_is_used_only_if_both_want_it() {
        let mut plain = hello(1, 1, &Algorithm::ALL);
        plain.esn = false;
        let agreed = agree(&plain, &hello(1, 1, &Algorithm::ALL)).expect("they agree");
        assert!(!agreed.esn);
    }

    #[test]
    fn nothing_in_common_no_lanes_and_an_epoch_near_the_end_are_refused() {
        let [a128, a256, _] = Algorithm::ALL;
        let ok = hello(1, 1, &[a128]);
        let none = agree(&ok, &hello(1, 1, &[a256]));
        assert!(matches!(none, Err(NegotiateError::NoAlgorithm { .. })));
        let lanes = agree(&ok, &hello(1, 33, &[a128]));
        assert_eq!(lanes, Err(NegotiateError::Lanes { got: 33 }));
        let got = u64::MAX;
        assert_eq!(
            agree(&ok, &hello(got, 1, &[a128])),
            Err(NegotiateError::Epoch { got })
        );
        assert!(agree(&hello(0, 1, &[a128]), &hello(0, 1, &[a128])).is_err());
    }
}
