//! The cipher alone, on the bytes that ESP has it work on: which library is the fastest at them,
//! and how the others do beside ring.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_crypto::aead::TAG_LEN;
use sluice_crypto::key::Algorithm;

use super::Size;
use super::backends::{ALL, BY_SIZE, RING};
use super::bursts::{Bursts, PACKETS};
use super::report::Case;
use crate::timing::{self, Pair, timed};

/// What is done to packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Seal,
    Open,
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }
}

/// A cipher with a key. The nonce is the same each time: nobody ever sees what is sealed here.
pub(super) trait Cipher {
    /// Encrypts `body` in place and writes its tag: whether it could.
    fn seal(&self, body: &mut [u8], tag: &mut [u8; TAG_LEN]) -> bool;

    /// Decrypts in place what stands before the tag: whether the tag is the right one.
    fn open(&self, body_and_tag: &mut [u8]) -> bool;
}

/// A cipher at a pass of packets: how many it refused. What is called through a table is this and
/// not each packet's sealing, for which the cipher would pay.
pub(super) trait Passes {
    fn seal_all(&self, packets: &mut Bursts) -> usize;
    fn open_all(&self, packets: &mut Bursts) -> usize;
}

impl<C: Cipher> Passes for C {
    fn seal_all(&self, packets: &mut Bursts) -> usize {
        let mut refused = 0;
        packets.each(|it| {
            let body_and_tag = black_box(it.body_and_icv());
            let parts = body_and_tag.split_last_chunk_mut::<TAG_LEN>();
            let sealed = parts.is_some_and(|(body, tag)| self.seal(body, tag));
            refused += usize::from(!sealed);
        });
        refused
    }

    fn open_all(&self, packets: &mut Bursts) -> usize {
        let mut refused = 0;
        packets.each(|it| {
            let opened = self.open(black_box(it.body_and_icv()));
            refused += usize::from(!opened);
        });
        refused
    }
}

/// A library's cipher and packets of its own.
pub(super) struct Bare {
    cipher: Box<dyn Passes>,
    packets: Bursts,
    /// Packets that it didn't seal or open.
    pub(super) refused: usize,
}

impl Bare {
    fn new(cipher: Box<dyn Passes>, size: Size) -> Self {
        Self {
            cipher,
            packets: Bursts::new(size.lens()),
            refused: 0,
        }
    }

    /// A pass of packets, which are sealed beforehand where they are to be opened: how long it took.
    pub(super) fn pass(&mut self, way: Way) -> Duration {
        let Self {
            cipher,
            packets,
            refused,
        } = self;
        match way {
            Way::Seal => timed(|| *refused += cipher.seal_all(packets)),
            Way::Open => {
                *refused += cipher.seal_all(packets);
                timed(|| *refused += cipher.open_all(packets))
            }
        }
    }
}

/// Whose cipher is the fastest here at packets of this size, by a short look at each in turn, and
/// it. Which one that is differs by machine, size and way.
///
/// # Errors
/// A cipher that refuses a packet: it would be measured at something else.
pub(super) fn fastest(
    way: Way,
    algorithm: Algorithm,
    size: Size,
    share: Duration,
) -> anyhow::Result<(&'static str, Bare)> {
    let made = ALL.iter().filter_map(|(who, make)| {
        let cipher = make(algorithm)?;
        Some((*who, Bare::new(cipher, size)))
    });
    let mut all: Vec<_> = made.collect();
    let passes = all.iter_mut().map(|(_, bare)| || bare.pass(way));
    let first = timing::fastest(share, &mut passes.collect::<Vec<_>>());
    let refuses = all.iter().find(|(_, bare)| bare.refused > 0);
    ensure!(
        refuses.is_none(),
        "{} refuses packets of {algorithm}",
        refuses.map_or("", |(who, _)| *who)
    );
    Ok(all.swap_remove(first.context("no cipher at all")?))
}

/// Each of the others beside ring, in turn, on packets of one size. The ratio is the part of ring's
/// speed; more than one is faster.
///
/// # Errors
/// As of [`fastest`].
pub(super) fn measure(
    way: Way,
    algorithm: Algorithm,
    size: Size,
    share: Duration,
) -> anyhow::Result<Vec<Case>> {
    let (ring, make_ring) = RING;
    let others = ALL.iter().chain(BY_SIZE).filter(|(who, _)| *who != ring);
    let one = |(who, make): &(&str, super::backends::Make)| {
        let what = format!("bare/{}", way.name());
        let case = Case::new(&what, who, algorithm, &size.name(), 1);
        let Some(theirs) = make(algorithm) else {
            return Ok(case.noting("it has no such cipher here".to_owned()));
        };
        let mut theirs = Bare::new(theirs, size);
        let mut rings = Bare::new(make_ring(algorithm).context("a key of ring's")?, size);
        let pair = Pair::measure(
            share,
            (PACKETS, || rings.pass(way)),
            (PACKETS, || theirs.pass(way)),
        );
        let refused = rings.refused + theirs.refused;
        ensure!(refused == 0, "{who} or ring refused {refused} packets");
        let case = case.taking(pair.large, size.mean());
        Ok(case.beside("bare ring", pair.small, 1.0 / pair.ratio, None))
    };
    others.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [Size; 3] = [Size::Bytes(64), Size::Bytes(512), Size::Imix];

    fn bytes(packets: &mut Bursts) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        packets.each(|it| all.push(it.whole.to_vec()));
        all
    }

    /// What ring seals of a pass of packets.
    fn sealed_by_ring(algorithm: Algorithm, size: Size) -> Bursts {
        let mut packets = Bursts::new(size.lens());
        assert_eq!(RING.1(algorithm).unwrap().seal_all(&mut packets), 0);
        packets
    }

    /// Each that is measured: who, which cipher, on which packets.
    fn each(mut check: impl FnMut(&str, &dyn Passes, Algorithm, Size)) {
        for algorithm in Algorithm::ALL {
            for size in SIZES {
                for (who, make) in ALL.iter().chain(BY_SIZE) {
                    if let Some(cipher) = make(algorithm) {
                        check(who, &*cipher, algorithm, size);
                    }
                }
            }
        }
    }

    /// Who seals something else would be measured at something else.
    #[test]
    fn all_of_them_seal_what_ring_seals() {
        each(|who, cipher, algorithm, size| {
            let mut packets = Bursts::new(size.lens());
            assert_eq!(cipher.seal_all(&mut packets), 0, "{who}, {algorithm}");
            let expected = bytes(&mut sealed_by_ring(algorithm, size));
            assert!(bytes(&mut packets) == expected, "{who}, {algorithm}");
        });
    }

    #[test]
    fn all_of_them_open_what_ring_sealed() {
        each(|who, cipher, algorithm, size| {
            let mut packets = sealed_by_ring(algorithm, size);
            assert_eq!(cipher.open_all(&mut packets), 0, "{who}, {algorithm}");
            let mut clear = Bursts::new(size.lens());
            let (mut opened, mut expected) = (Vec::new(), Vec::new());
            let body = |it: &mut super::super::bursts::Packet<'_>| {
                let body = it.body_and_icv();
                body[..body.len() - TAG_LEN].to_vec()
            };
            packets.each(|it| opened.push(body(it)));
            clear.each(|it| expected.push(body(it)));
            assert!(opened == expected, "{who}, {algorithm}");
        });
    }

    /// Who doesn't look at the tag would be faster than it is.
    #[test]
    fn all_of_them_refuse_a_forged_one_and_no_other() {
        each(|who, cipher, algorithm, size| {
            let mut packets = sealed_by_ring(algorithm, size);
            let mut nth = 0;
            packets.each(|it| {
                let body_and_tag = it.body_and_icv();
                let last = body_and_tag.len() - 1;
                // In the text, and in either end of the tag.
                match nth {
                    3 => body_and_tag[0] ^= 1,
                    5 => body_and_tag[last - 15] ^= 0x40,
                    7 => body_and_tag[last] ^= 0x80,
                    _ => (),
                }
                nth += 1;
            });
            assert_eq!(cipher.open_all(&mut packets), 3, "{who}, {algorithm}");
        });
    }

    #[test]
    fn the_fastest_is_one_of_those_that_have_the_cipher() {
        for way in [Way::Seal, Way::Open] {
            for algorithm in Algorithm::ALL {
                let size = Size::Bytes(64);
                let (who, mut bare) = fastest(way, algorithm, size, Duration::ZERO).unwrap();
                let (_, make) = ALL.iter().find(|(it, _)| *it == who).unwrap();
                assert!(make(algorithm).is_some(), "{who}");
                bare.pass(way);
                assert_eq!(bare.refused, 0);
            }
        }
    }
}
