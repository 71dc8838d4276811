//! AES-GCM vectors of the mode itself, on both backends.
//!
//! Sources:
//! - "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega, appendix B, test cases 1 to
//!   4 and 13 to 16: those with 128- or 256-bit keys and 96-bit IVs.
//! - NIST Cryptographic Algorithm Validation Program, GCM test vectors, files
//!   `gcmEncryptExtIV128.rsp` and `gcmEncryptExtIV256.rsp`, first cases of the groups with a
//!   96-bit IV, a 128-bit tag, no AAD, and 0 or 128 bits of plaintext.

use sluice_crypto::aead::{Aead, Backend, RingAead};
use sluice_crypto::key::Algorithm;

use crate::hex;
use crate::second_opinion::RustCryptoAead;

struct Vector {
    name: &'static str,
    key: &'static str,
    iv: &'static str,
    aad: &'static str,
    plain: &'static str,
    cipher: &'static str,
    tag: &'static str,
}

const ZERO_BLOCK: &str = "00000000000000000000000000000000";
const ZERO_KEY_256: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ZERO_IV: &str = "000000000000000000000000";
const KEY_128: &str = "feffe9928665731c6d6a8f9467308308";
const KEY_256: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const IV: &str = "cafebabefacedbaddecaf888";
const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const PLAIN_64: &str = "
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const PLAIN_60: &str = "
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";

const VECTORS: [Vector; 12] = [
    Vector {
        name: "GCM specification, test case 1",
        key: ZERO_BLOCK,
        iv: ZERO_IV,
        aad: "",
        plain: "",
        cipher: "",
        tag: "58e2fccefa7e3061367f1d57a4e7455a",
    },
    Vector {
        name: "GCM specification, test case 2",
        key: ZERO_BLOCK,
        iv: ZERO_IV,
        aad: "",
        plain: ZERO_BLOCK,
        cipher: "0388dace60b6a392f328c2b971b2fe78",
        tag: "ab6e47d42cec13bdf53a67b21257bddf",
    },
    Vector {
        name: "GCM specification, test case 3",
        key: KEY_128,
        iv: IV,
        aad: "",
        plain: PLAIN_64,
        cipher: "
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
            21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        tag: "4d5c2af327cd64a62cf35abd2ba6fab4",
    },
    Vector {
        name: "GCM specification, test case 4",
        key: KEY_128,
        iv: IV,
        aad: AAD,
        plain: PLAIN_60,
        cipher: "
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
            21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        tag: "5bc94fbc3221a5db94fae95ae7121a47",
    },
    Vector {
        name: "GCM specification, test case 13",
        key: ZERO_KEY_256,
        iv: ZERO_IV,
        aad: "",
        plain: "",
        cipher: "",
        tag: "530f8afbc74536b9a963b4f1c4cb738b",
    },
    Vector {
        name: "GCM specification, test case 14",
        key: ZERO_KEY_256,
        iv: ZERO_IV,
        aad: "",
        plain: ZERO_BLOCK,
        cipher: "cea7403d4d606b6e074ec5d3baf39d18",
        tag: "d0d1c8a799996bf0265b98b5d48ab919",
    },
    Vector {
        name: "GCM specification, test case 15",
        key: KEY_256,
        iv: IV,
        aad: "",
        plain: PLAIN_64,
        cipher: "
            522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        tag: "b094dac5d93471bdec1a502270e3cc6c",
    },
    Vector {
        name: "GCM specification, test case 16",
        key: KEY_256,
        iv: IV,
        aad: AAD,
        plain: PLAIN_60,
        cipher: "
            522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        tag: "76fc6ece0f4e1768cddf8853bb2d551b",
    },
    Vector {
        name: "NIST gcmEncryptExtIV128, no plaintext, count 0",
        key: "11754cd72aec309bf52f7687212e8957",
        iv: "3c819d9a9bed087615030b65",
        aad: "",
        plain: "",
        cipher: "",
        tag: "250327c674aaf477aef2675748cf6971",
    },
    Vector {
        name: "NIST gcmEncryptExtIV128, 128 bits of plaintext, count 0",
        key: "7fddb57453c241d03efbed3ac44e371c",
        iv: "ee283a3fc75575e33efd4887",
        aad: "",
        plain: "d5de42b461646c255c87bd2962d3b9a2",
        cipher: "2ccda4a5415cb91e135c2a0f78c9b2fd",
        tag: "b36d1df9b9d5e596f83e8b7f52971cb3",
    },
    Vector {
        name: "NIST gcmEncryptExtIV256, no plaintext, count 0",
        key: "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
        iv: "516c33929df5a3284ff463d7",
        aad: "",
        plain: "",
        cipher: "",
        tag: "bdc1ac884d332457a1d2664f168c76f0",
    },
    Vector {
        name: "NIST gcmEncryptExtIV256, 128 bits of plaintext, count 0",
        key: "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
        iv: "0d18e06c7c725ac9e362e1ce",
        aad: "",
        plain: "2db5168e932556f8089a0622981d017d",
        cipher: "fa4362189661d163fcd6a56d8bf0405a",
        tag: "d636ac1bbedd5cc3ee727dc2ab4a9489",
    },
];

#[test]
fn ring_and_the_backend_of_sas_give_the_published_ciphertexts() {
    VECTORS.iter().for_each(check::<RingAead>);
    VECTORS.iter().for_each(check::<Backend>);
}

#[test]
fn aes_gcm_gives_the_published_ciphertexts() {
    VECTORS.iter().for_each(check::<RustCryptoAead>);
}

fn check<A: Aead>(vector: &Vector) {
    let key = hex(vector.key);
    let algorithm = Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.key_len() == key.len())
        .expect("128 or 256 bits");
    let aead = A::from_key(algorithm, &key).unwrap();
    let (iv, aad, plain) = (hex(vector.iv), hex(vector.aad), hex(vector.plain));
    let iv: [u8; 12] = iv.try_into().expect("96 bits");
    let mut sealed = plain.clone();
    let tag = aead.seal_in_place(&iv, &aad, &mut sealed).unwrap();
    assert_eq!(sealed, hex(vector.cipher), "{}", vector.name);
    assert_eq!(tag[..], hex(vector.tag), "{}", vector.name);
    sealed.extend(tag);
    assert_eq!(
        aead.open_in_place(&iv, &aad, &mut sealed),
        Ok(plain.len()),
        "{}",
        vector.name
    );
    assert_eq!(sealed[..plain.len()], plain, "{}", vector.name);
}
