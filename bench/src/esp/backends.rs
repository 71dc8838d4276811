//! The same cipher by others: whether ring is the one to have on a machine.

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce};
use aws_lc_rs::aead as aws;
use chacha20poly1305::ChaCha20Poly1305;
use sluice_crypto::aead::TAG_LEN;
use sluice_crypto::key::Algorithm;

use super::Size;
use super::bare::Bare;
use super::bursts::{Bursts, PACKETS, Packet};
use super::report::Case;
use crate::timing::{Pair, timed};

/// As ESP's, see [`Bare`].
const AAD: [u8; 12] = [3; 12];
const NONCE: [u8; 12] = [1; 12];

/// Seals a packet in place, as [`Bare`] does.
type Seal = Box<dyn FnMut(&mut Packet<'_>)>;

/// Makes one; `None` where it hasn't the algorithm.
type Make = fn(Algorithm) -> Option<Seal>;

/// Who else there is.
const OTHERS: &[(&str, Make)] = &[
    ("aws-lc-rs", aws_lc),
    ("RustCrypto", rust_crypto),
    #[cfg(feature = "dpdk")]
    ("ipsec-mb", multi_buffer::alone),
    // What SAs use in such a build.
    #[cfg(feature = "dpdk")]
    ("ipsec-mb/ring", multi_buffer::by_size),
];

fn sealing(mut seal: impl FnMut(&mut [u8]) -> Option<[u8; TAG_LEN]> + 'static) -> Seal {
    Box::new(move |packet| {
        let Some((body, icv)) = packet.body_and_icv().split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        if let Some(tag) = seal(black_box(body)) {
            *icv = tag;
        }
    })
}

fn key(algorithm: Algorithm) -> Vec<u8> {
    vec![7; algorithm.key_len()]
}

fn aws_lc(algorithm: Algorithm) -> Option<Seal> {
    let cipher = match algorithm {
        Algorithm::Aes128Gcm16 => &aws::AES_128_GCM,
        Algorithm::Aes256Gcm16 => &aws::AES_256_GCM,
        Algorithm::ChaCha20Poly1305 => &aws::CHACHA20_POLY1305,
    };
    let key = aws::LessSafeKey::new(aws::UnboundKey::new(cipher, &key(algorithm)).ok()?);
    Some(sealing(move |body| {
        let nonce = aws::Nonce::assume_unique_for_key(NONCE);
        let tag = key.seal_in_place_separate_tag(nonce, aws::Aad::from(AAD), body);
        tag.ok()?.as_ref().try_into().ok()
    }))
}

fn rust_crypto(algorithm: Algorithm) -> Option<Seal> {
    fn with<
        A: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16>
            + 'static,
    >(
        cipher: A,
    ) -> Seal {
        sealing(move |body| {
            let tag =
                cipher.encrypt_inout_detached(&Nonce::from(NONCE), &AAD, InOutBuf::from(body));
            tag.ok().map(Into::into)
        })
    }
    let key = key(algorithm);
    match algorithm {
        Algorithm::Aes128Gcm16 => Aes128Gcm::new_from_slice(&key).ok().map(with),
        Algorithm::Aes256Gcm16 => Aes256Gcm::new_from_slice(&key).ok().map(with),
        Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new_from_slice(&key).ok().map(with),
    }
}

#[cfg(feature = "dpdk")]
mod multi_buffer {
    use sluice_crypto::aead::{Aead, Backend, ImbAead};
    use sluice_crypto::key::Algorithm;

    use super::{AAD, NONCE, Seal, key, sealing};

    fn with<A: Aead + 'static>(algorithm: Algorithm) -> Option<Seal> {
        let aead = A::from_key(algorithm, &key(algorithm)).ok()?;
        Some(sealing(move |body| {
            aead.seal_in_place(&NONCE, &AAD, body).ok()
        }))
    }

    pub(super) fn alone(algorithm: Algorithm) -> Option<Seal> {
        with::<ImbAead>(algorithm)
    }

    pub(super) fn by_size(algorithm: Algorithm) -> Option<Seal> {
        with::<Backend>(algorithm)
    }
}

/// Each of them beside ring, in turn, on packets of one size. The ratio is the part of ring's
/// speed; more than one is faster.
pub(super) fn measure(algorithm: Algorithm, size: Size, share: Duration) -> Vec<Case> {
    let one = |&(who, make): &(&str, Make)| {
        let case = Case::new("bare/seal", who, algorithm, &size.name(), 1);
        let Some(mut theirs) = make(algorithm) else {
            return case.noting("it has no such cipher here".to_owned());
        };
        let (ring, mut same) = (Bare::new(algorithm), Bursts::new(size.lens()));
        let mut again = Bursts::new(size.lens());
        let pair = Pair::measure(
            share,
            (PACKETS, || timed(|| same.each(|it| ring.seal(it)))),
            (PACKETS, || timed(|| again.each(&mut theirs))),
        );
        let case = case.taking(pair.large, size.mean());
        case.beside("bare ring", pair.small, 1.0 / pair.ratio, None)
    };
    OTHERS.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who seals something else would be measured at something else.
    #[test]
    fn all_of_them_seal_what_ring_seals() {
        for algorithm in Algorithm::ALL {
            for size in [Size::Bytes(64), Size::Bytes(512), Size::Imix] {
                let sealed = |seal: &mut dyn FnMut(&mut Packet<'_>)| {
                    let mut packets = Bursts::new(size.lens());
                    packets.each(&mut *seal);
                    let mut bytes = Vec::new();
                    packets.each(|it| bytes.push(it.whole.to_vec()));
                    bytes
                };
                let ring = Bare::new(algorithm);
                let expected = sealed(&mut |it| ring.seal(it));
                for (who, make) in OTHERS {
                    if let Some(mut theirs) = make(algorithm) {
                        assert!(sealed(&mut theirs) == expected, "{who}, {algorithm}");
                    }
                }
            }
        }
    }
}
