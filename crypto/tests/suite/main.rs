//! Vectors and properties, one binary.
//!
//! Everything that depends on a cipher runs over ring and over the RustCrypto project's
//! `aes-gcm` and `chacha20poly1305`, implementations that share no code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a failed assumption in a test is a failed test"
)]

mod cross_check;
mod esp_bad_input;
mod esp_identity;
mod esp_numbers;
mod esp_vectors;
mod gcm_vectors;
mod lifecycle_cases;
mod lifecycle_model;
mod second_opinion;
mod window_model;
mod wycheproof;

use sluice_crypto::key::{Algorithm, EspKey};

/// Bytes from hex digits; white space is ignored.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).expect("a hex digit")).expect("below 16"))
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of hex digits");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

/// A key that is different for each `seed`.
fn test_key(algorithm: Algorithm, seed: u8) -> EspKey {
    let keymat: Vec<u8> = (0..algorithm.keymat_len())
        .map(|at| u8::try_from(at).expect("short").wrapping_mul(31) ^ seed)
        .collect();
    EspKey::from_keymat(algorithm, &keymat).expect("the length is right")
}
