//! Opening in place: `InboundSa::open` beside ring's AEAD on the same bytes. Each packet
//! opens once, so each is sealed beforehand, off the clock.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that can't be set up can't be run"
)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use sluice_bench::timing::{self, FRAME_LENS};
use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, NEXT_HEADER_IPV4, OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::replay::ReplayWindow;

/// Ethernet header of the frames whose packets are opened.
const ETHERNET_LEN: usize = 14;
const SPI: Spi = Spi(0x100);

fn key(algorithm: Algorithm) -> EspKey {
    EspKey::from_keymat(algorithm, &vec![7; algorithm.keymat_len()]).expect("of the right length")
}

fn bare(algorithm: Algorithm) -> LessSafeKey {
    let (cipher, key) = match algorithm {
        Algorithm::Aes128Gcm16 => (&AES_128_GCM, &[7; 32][..16]),
        Algorithm::Aes256Gcm16 => (&AES_256_GCM, &[7; 32][..]),
        Algorithm::ChaCha20Poly1305 => (&CHACHA20_POLY1305, &[7; 32][..]),
    };
    LessSafeKey::new(UnboundKey::new(cipher, key).expect("of the right length"))
}

/// What `bare` sealed, ICV at the end.
fn bare_sealed(key: &LessSafeKey, len: usize) -> Vec<u8> {
    let mut sealed = vec![0x5a; len];
    let nonce = Nonce::assume_unique_for_key([1; 12]);
    key.seal_in_place_append_tag(nonce, Aad::from([0; 12]), &mut sealed)
        .expect("short enough");
    sealed
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    for len in FRAME_LENS {
        let inner_len = len - ETHERNET_LEN;
        let sealed_len = OutboundSa::sealed_len(inner_len);
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: len as u64,
        });
        for algorithm in Algorithm::ALL {
            let mut out = OutboundSa::new(SPI, key(algorithm), true);
            let window = ReplayWindow::DEFAULT;
            let mut sa = InboundSa::new(SPI, key(algorithm), true, window).expect("sound");
            group.bench_function(BenchmarkId::new(algorithm.name(), len), |b| {
                let next = || {
                    let mut packet = vec![0x5a; sealed_len];
                    out.seal(&mut packet, inner_len, NEXT_HEADER_IPV4)
                        .expect("sealed");
                    packet
                };
                let open = |packet: &mut Vec<u8>| sa.open(black_box(packet)).expect("opens");
                b.iter_batched_ref(next, open, BatchSize::SmallInput);
            });
            let bare = bare(algorithm);
            let sealed = bare_sealed(&bare, sealed_len - ESP_HEADER_LEN - 16);
            let name = format!("bare-{}", algorithm.name());
            group.bench_function(BenchmarkId::new(name, len), |b| {
                let open = |packet: &mut Vec<u8>| {
                    let nonce = Nonce::assume_unique_for_key([1; 12]);
                    let opened = bare.open_in_place(nonce, Aad::from([0; 12]), packet);
                    opened.expect("opens").len()
                };
                b.iter_batched_ref(|| sealed.clone(), open, BatchSize::SmallInput);
            });
        }
        group.bench_function(BenchmarkId::new("noop", len), |b| {
            let open = |packet: &mut Vec<u8>| black_box(packet).len();
            b.iter_batched_ref(|| vec![0u8; sealed_len], open, BatchSize::SmallInput);
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
    targets = open
}
criterion_main!(benches);
