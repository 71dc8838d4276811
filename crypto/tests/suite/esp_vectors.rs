//! Whole ESP packets, on each backend.
//!
//! Source: draft-mcgrew-gcm-test-01, "Test Cases for the Use of Galois/Counter Mode (GCM) and
//! Galois Message Authentication Code (GMAC) in IPsec ESP", D. McGrew, March 2009, section 4.1.
//! Its case 7 has a 192-bit key, which Sluice does not speak. The vectors' IVs are not the
//! sequence number, so our sender can't make these packets; the receiver opens them as they are.
//! Every one of them says next header 1, the RFC's says 4.
//!
//! And RFC 7634 appendix A, "ESP Example": ChaCha20-Poly1305, sequence number 5 without ESN.

use sluice_crypto::aead::{Aead, Backend, RingAead};
use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, OpenError, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::replay::ReplayWindow;

use crate::hex;
use crate::second_opinion::RustCryptoAead;

struct Vector {
    algorithm: Algorithm,
    /// The draft's number for it; 0 is the RFC's.
    case: u8,
    key: &'static str,
    salt: &'static str,
    esn: bool,
    seq: u64,
    packet: &'static str,
    /// Inner packet, padding, pad length and next header.
    plain: &'static str,
}

const VECTORS: [Vector; 14] = [
    Vector {
        algorithm: Algorithm::ChaCha20Poly1305,
        case: 0,
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        salt: "a0a1a2a3",
        esn: false,
        seq: 5,
        packet: "
            01020304000000051011121314151617240394 28b97f417e3c13753a4f05087b
            67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7
            2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da
            9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
        plain: "
            45000054a6f200004001e778c6336405c00002050800 5b7a3a080000553bec10
            0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
            2425262728292a2b2c2d2e2f303132333435363701020204",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 1,
        key: "4c80cdefbb5d10da906ac73c3613a634",
        salt: "2e443b68",
        esn: true,
        seq: 0x8765_4321_0000_0000,
        packet: "
            00004321000000004956ed7e3b244cfefecf537e729d5b07dc30df528dd22b76
            8d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d
            15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe72
            2fd04796562dfdb4",
        plain: "
            45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
            00000000045f736970045f756470037369700963796265726369747902646b00
            0021000101020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 2,
        key: "feffe9928665731c6d6a8f9467308308",
        salt: "cafebabe",
        esn: false,
        seq: 0x0000_000a,
        packet: "
            0000a5f80000000afacedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304
            a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642
            cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
        plain: "
            4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
            0001000000000000037369700963796265726369747902646b00000100010001",
    },
    Vector {
        algorithm: Algorithm::Aes256Gcm16,
        case: 3,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        salt: "11223344",
        esn: false,
        seq: 0x0000_0002,
        packet: "
            4a2cbfe3000000020102030405060708ff425c9b724599df7a3bcd510194e00d
            6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99d
            ef842d8eb335f4eecfdbf831824b4c4915956c96",
        plain: "
            4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
            7002400020bf0000020405b40101040201020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 4,
        key: "00000000000000000000000000000000",
        salt: "00000000",
        esn: false,
        seq: 0x0000_0001,
        packet: "
            000000000000000100000000000000004688daf2f973a392732909c331d56d60
            f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894
            bc3bd57873ed4d181d19d4d5c8c18af3f821d496eeb096e98ad2b69e4799c71d",
        plain: "
            4500003c99c500008001cb7a40679318010101010800075c0200440061626364
            65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 5,
        key: "3de09874b388e6491988d0c3607eae1f",
        salt: "57690e43",
        esn: true,
        seq: 0x1010_1010_1010_1010,
        packet: "
            42f67e3f101010104e280000a2fca1a3fba2caa4853cf9f0f22cb10d86dd83b0
            fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc9
            1755e6662b4c8d0d1f5e22739530320ae0d731cc978ecafaeae88f00e80d6e48",
        plain: "
            4500003c99c300008001cb7c40679318010101010800085c0200430061626364
            65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 6,
        key: "3de09874b388e6491988d0c3607eae1f",
        salt: "57690e43",
        esn: true,
        seq: 0x1010_1010_1010_1010,
        packet: "
            42f67e3f101010104e280000a2fca1a3fba2ca845e5df9f0f22c3e6e86dd831e
            1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35",
        plain: "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 8,
        key: "abbccddef00112233445566778899aab",
        salt: "decaf888",
        esn: true,
        seq: 0x0000_0000_0000_0001,
        packet: "
            0000010000000001cafedebaceface7418a6fd42f72cbf4ab2a2ea901f73d814
            e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472
            b79da345e0e780191f0d2f0e0f496c226f2127b27db35724e7845d68651f57e6
            5f354f75ff17015769623436",
        plain: "
            4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d5
            00004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95
            9b6266c04722b14923010101",
    },
    Vector {
        algorithm: Algorithm::Aes256Gcm16,
        case: 9,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        salt: "73616c74",
        esn: true,
        seq: 0x156f_3126_dd0d_b99b,
        packet: "
            17405e67dd0db99b616e640169766563f2d69ecdbd5a0d5b8d5ef38bad4da58d
            1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3
            b7eebca614c89b35",
        plain: "
            45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb712602
            50101f646d540001",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 10,
        key: "3de09874b388e6491988d0c3607eae1f",
        salt: "57690e43",
        esn: true,
        seq: 0x1010_1010_1010_1010,
        packet: "
            42f67e3f101010104e280000a2fca1a3fba2cad12fc1f9f00d3cebf305410db8
            3d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea888
            4e52d65bc1afd0740f742444747b5b39ab533163aad4550ee5160975cdb608c5
            769189609763b8e18caa81e2",
        plain: "
            45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b
            000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b32
            5ae270c03899493915010101",
    },
    Vector {
        algorithm: Algorithm::Aes256Gcm16,
        case: 11,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        salt: "73616c74",
        esn: true,
        seq: 0x156f_3126_dd0d_b99b,
        packet: "
            17405e67dd0db99b616e640169766563d4b7ed86a1777f2ea13d6973d324c69e
            7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c641024e
            3e6773d91a62ee429b043a10e3efe6b012a49363412364f8c0cac587f249e56b
            11e24f30e44ccc76",
        plain: "
            636973636f0172756c657301746865016e6574776501646566696e6501746865
            746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f
            72726f7701020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 12,
        key: "7d773d00c144c525ac619d18c84a3f47",
        salt: "d9664267",
        esn: false,
        seq: 0xffff_ffff,
        packet: "
            335467aeffffffff43457e9182443bc6437f866bcb3f699fe9b0822bac961c45
            04bef270",
        plain: "01020201",
    },
    Vector {
        algorithm: Algorithm::Aes128Gcm16,
        case: 13,
        key: "abbccddef00112233445566778899aab",
        salt: "decaf888",
        esn: true,
        seq: 0x0000_0000_0000_0001,
        packet: "
            0000010000000001cafedebaceface7429c9fc69a197d038ccdd14e2ddfcaa05
            43332164412503524303ed3c6c5f283843af8c3e",
        plain: "746f016265016f72016e6f7401746f0162650001",
    },
    Vector {
        algorithm: Algorithm::Aes256Gcm16,
        case: 14,
        key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
        salt: "7475726e",
        esn: true,
        seq: 0xffff_ffff_ffff_ffff,
        packet: "
            796b6963ffffffff333021696765746df97ab2aa356d8edce17644ac8c78e25d
            d24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe82
            1dcc63b9d0937ba2945f669368661a329fb4c053",
        plain: "
            45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
            65666768696a6b6c6d6e6f707172737401020201",
    },
];

#[test]
fn ring_opens_the_published_packets() {
    VECTORS.iter().for_each(check::<RingAead>);
}

/// With the feature ipsec-mb that is another library for the short ones.
#[test]
fn the_backend_of_sas_opens_the_published_packets() {
    VECTORS.iter().for_each(check::<Backend>);
}

#[test]
fn the_second_opinion_opens_the_published_packets() {
    VECTORS.iter().for_each(check::<RustCryptoAead>);
}

fn check<A: Aead>(vector: &Vector) {
    let &Vector { case, esn, seq, .. } = vector;
    let plain = hex(vector.plain);
    let mut packet = hex(vector.packet);

    let mut sa = inbound::<A>(vector, esn);
    let opened = sa
        .open(&mut packet)
        .unwrap_or_else(|error| panic!("case {case}: {error}"));
    assert_eq!(opened.seq, seq, "case {case}");
    assert_eq!(Some(&opened.next_header), plain.last(), "case {case}");
    let pad_len = usize::from(plain[plain.len() - 2]);
    let inner_len = plain.len() - 2 - pad_len;
    assert_eq!(
        opened.inner,
        ESP_HEADER_LEN..ESP_HEADER_LEN + inner_len,
        "case {case}"
    );
    assert_eq!(
        packet[ESP_HEADER_LEN..][..plain.len()],
        plain,
        "case {case}"
    );

    // Once only, and never with the other idea of what the AAD is.
    let again = sa.open(&mut hex(vector.packet));
    assert_eq!(again, Err(OpenError::Seen { seq }), "case {case}");
    let mut other = inbound::<A>(vector, !esn);
    let error = other
        .open(&mut hex(vector.packet))
        .expect_err("a different AAD");
    assert!(
        matches!(error, OpenError::Forged { .. } | OpenError::Stale { .. }),
        "case {case}"
    );
}

/// An SA that waits for the vector's packet.
fn inbound<A: Aead>(vector: &Vector, esn: bool) -> InboundSa<A> {
    let mut keymat = hex(vector.key);
    keymat.extend(hex(vector.salt));
    let key = EspKey::from_keymat(vector.algorithm, &keymat).unwrap();
    let spi = Spi(u32::from_be_bytes(
        *hex(vector.packet).first_chunk().expect("an SPI"),
    ));
    let window = ReplayWindow::starting_at(ReplayWindow::DEFAULT, vector.seq - 1).unwrap();
    InboundSa::with_backend(spi, key, esn, window).unwrap()
}
