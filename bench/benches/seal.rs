//! Sealing in place: `OutboundSa::seal` beside ring's AEAD on the same bytes.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that can't be set up can't be run"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use sluice_bench::timing::{self, FRAME_LENS};
use sluice_crypto::esp::{ESP_HEADER_LEN, NEXT_HEADER_IPV4, OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};

/// Ethernet header of the frames whose packets are sealed.
const ETHERNET_LEN: usize = 14;

fn bare(algorithm: Algorithm) -> LessSafeKey {
    let (cipher, key) = match algorithm {
        Algorithm::Aes128Gcm16 => (&AES_128_GCM, &[7; 32][..16]),
        Algorithm::Aes256Gcm16 => (&AES_256_GCM, &[7; 32][..]),
        Algorithm::ChaCha20Poly1305 => (&CHACHA20_POLY1305, &[7; 32][..]),
    };
    LessSafeKey::new(UnboundKey::new(cipher, key).expect("of the right length"))
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    for len in FRAME_LENS {
        let inner_len = len - ETHERNET_LEN;
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: len as u64,
        });
        let mut packet = vec![0x5a; OutboundSa::sealed_len(inner_len)];
        for algorithm in Algorithm::ALL {
            let key = EspKey::from_keymat(algorithm, &vec![7; algorithm.keymat_len()]);
            let mut sa = OutboundSa::new(Spi(0x100), key.expect("of the right length"), true);
            group.bench_function(BenchmarkId::new(algorithm.name(), len), |b| {
                b.iter(|| sa.seal(black_box(&mut packet), inner_len, NEXT_HEADER_IPV4));
            });
            let key = bare(algorithm);
            let body = ESP_HEADER_LEN..packet.len() - 16;
            let name = format!("bare-{}", algorithm.name());
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    let nonce = Nonce::assume_unique_for_key([1; 12]);
                    let body = black_box(&mut packet[body.clone()]);
                    key.seal_in_place_separate_tag(nonce, Aad::from([0; 12]), body)
                });
            });
        }
        group.bench_function(BenchmarkId::new("noop", len), |b| {
            b.iter(|| black_box(packet.as_mut_slice()).len());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(timing::SAMPLES)
        .warm_up_time(timing::WARM_UP)
        .measurement_time(timing::MEASURE);
    targets = seal
}
criterion_main!(benches);
