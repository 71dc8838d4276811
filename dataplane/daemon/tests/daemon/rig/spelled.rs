//! The ways in which a key could be written down.

/// Whether a key, or half of it, is in a text or a file: as it is, in hex, in base64, or as a list
/// of numbers.
pub(crate) fn has_key(text: &[u8], key: &[u8]) -> bool {
    let half = &key[..key.len().div_ceil(2)];
    spellings(half).iter().any(|it| contains(text, it))
}

pub(crate) fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|it| it == what)
}

fn spellings(key: &[u8]) -> Vec<Vec<u8>> {
    let hex = |spell: fn(&u8) -> String| key.iter().map(spell).collect::<String>().into_bytes();
    let list = |spell: fn(&u8) -> String| {
        let all: Vec<_> = key.iter().map(spell).collect();
        all.join(", ").into_bytes()
    };
    let mut all = vec![
        key.to_vec(),
        hex(|it| format!("{it:02x}")),
        hex(|it| format!("{it:02X}")),
        list(|it| it.to_string()),
        list(|it| format!("0x{it:02x}")),
    ];
    // By where in what is encoded it begins: whole groups of three bytes each time.
    for skipped in 0..3 {
        let groups = key[skipped..].chunks_exact(3);
        all.push(groups.flat_map(base64).collect());
    }
    all
}

fn base64(group: &[u8]) -> [u8; 4] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
    [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize])
}

#[test]
fn a_key_is_found_however_it_is_written() {
    let key: Vec<u8> = (0x61..0x71).collect();
    for text in [
        "x abcdefghijkl".to_owned(),
        "0x6162636465666768696a".to_owned(),
        "[97, 98, 99, 100, 101, 102, 103, 104, 105]".to_owned(),
        // Of "abcdefghij", "xabcdefghij" and "xxabcdefghij".
        "YWJjZGVmZ2hpag==".to_owned(),
        "eGFiY2RlZmdoaWo=".to_owned(),
        "eHhhYmNkZWZnaGlq".to_owned(),
    ] {
        assert!(has_key(text.as_bytes(), &key), "{text}");
    }
    assert!(!has_key(b"abcdefg 61626364", &key));
}
