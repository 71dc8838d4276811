//! Capture files, nanoseconds left out: what `net_pcap` reads and writes.

use std::fs;
use std::path::Path;

const MAGIC: u32 = 0xa1b2_c3d4;
/// The longest frame a file may have, as libpcap's own files say.
const SNAPLEN: u32 = 262_144;
const ETHERNET: u32 = 1;

pub(crate) fn write(path: impl AsRef<Path>, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [MAGIC, 2 | 4 << 16, 0, 0, SNAPLEN, ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for (at, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        for word in [0, at as u32, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

pub(crate) fn read(path: impl AsRef<Path>) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    // The PMD writes nanoseconds, under another number.
    assert!([MAGIC, 0xa1b2_3c4d].contains(&word(0)), "a capture file");
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let (kept, whole) = (word(at + 8) as usize, word(at + 12) as usize);
        assert_eq!(kept, whole, "no frame is cut");
        frames.push(file[at + 16..at + 16 + kept].to_vec());
        at += 16 + kept;
    }
    frames
}
