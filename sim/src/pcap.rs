//! Packet captures: nanosecond pcap with Ethernet frames, written and read.
//!
//! ```text
//!  file header, 24 bytes, all little-endian as written here
//!   0  magic a1b2_3c4d (nanoseconds)   16  snapshot length
//!   4  version 2.4                     20  link type 1 (Ethernet)
//!   8  zeroes
//!  record header, 16 bytes, then the frame
//!   0  seconds    4  nanoseconds    8  bytes here    12  bytes on the wire
//! ```

use std::io::{self, Write};

use crate::report::Captured;

/// Magic number of a capture with nanoseconds, in its writer's byte order.
const MAGIC_NS: u32 = 0xa1b2_3c4d;
/// The same with microseconds.
const MAGIC_US: u32 = 0xa1b2_c3d4;
/// Link type of Ethernet.
const LINKTYPE_ETHERNET: u32 = 1;
/// Longest frame of a capture, in bytes.
pub const SNAP_LEN_MAX: u32 = 262_144;
/// Frames of a capture that are read, at most.
pub const FRAMES_MAX: usize = 1_000_000;

const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 16;
const NS_PER_S: u64 = 1_000_000_000;

/// Writes frames with their virtual times, counted from the epoch.
///
/// # Errors
/// Those of the writer.
pub fn write<'a>(
    out: &mut impl Write,
    frames: impl IntoIterator<Item = &'a Captured>,
) -> io::Result<()> {
    let words = [
        MAGIC_NS,
        u32::from_le_bytes([2, 0, 4, 0]),
        0,
        0,
        SNAP_LEN_MAX,
        LINKTYPE_ETHERNET,
    ];
    write_words(out, &words)?;
    for frame in frames {
        let word = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let len = word(frame.bytes.len() as u64);
        let (seconds, ns) = (frame.at.0 / NS_PER_S, frame.at.0 % NS_PER_S);
        write_words(out, &[word(seconds), word(ns), len, len])?;
        out.write_all(&frame.bytes)?;
    }
    Ok(())
}

fn write_words(out: &mut impl Write, words: &[u32]) -> io::Result<()> {
    words
        .iter()
        .try_for_each(|word| out.write_all(&word.to_le_bytes()))
}

/// What is wrong with a capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// Not a capture.
    #[error("not a pcap file: magic {magic:#010x}; pcapng is not read, convert it with editcap")]
    Magic {
        /// The first four bytes.
        magic: u32,
    },
    /// Not Ethernet.
    #[error("link type {link} is not Ethernet, {LINKTYPE_ETHERNET}; capture on an Ethernet port")]
    LinkType {
        /// Its number.
        link: u32,
    },
    /// It ends within a header or frame.
    #[error(
        "the capture ends within {}; it was cut, capture or copy it again",
        if *frame == 0 { "its header".to_owned() } else { format!("frame {frame}") }
    )]
    Truncated {
        /// The frame's number, from 1; 0 is the file's header.
        frame: usize,
    },
    /// A frame is absurdly long.
    #[error("frame {frame} says it has {len} bytes, more than {SNAP_LEN_MAX}: the file is damaged")]
    TooLong {
        /// The frame's number, from 1.
        frame: usize,
        /// Its length.
        len: u32,
    },
    /// Too many frames.
    #[error("the capture has more than {FRAMES_MAX} frames")]
    TooMany,
}

/// The frames of a capture, in either byte order and resolution.
///
/// # Errors
/// [`PcapError`].
pub fn read(bytes: &[u8]) -> Result<Vec<&[u8]>, PcapError> {
    let timed = read_timed(bytes)?;
    Ok(timed.into_iter().map(|it| it.1).collect())
}

/// The same with their times, in nanoseconds since the epoch.
///
/// # Errors
/// [`PcapError`].
pub fn read_timed(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, PcapError> {
    let raw = bytes
        .first_chunk::<4>()
        .ok_or(PcapError::Truncated { frame: 0 })?;
    let nanoseconds = [u32::from_le_bytes(*raw), u32::from_be_bytes(*raw)].contains(&MAGIC_NS);
    let fraction_ns = if nanoseconds { 1 } else { 1_000 };
    let little = match (u32::from_le_bytes(*raw), u32::from_be_bytes(*raw)) {
        (MAGIC_NS | MAGIC_US, _) => true,
        (_, MAGIC_NS | MAGIC_US) => false,
        (magic, _) => return Err(PcapError::Magic { magic }),
    };
    let word = |at: usize| {
        let raw = *bytes.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
        Some(if little {
            u32::from_le_bytes(raw)
        } else {
            u32::from_be_bytes(raw)
        })
    };
    let link = word(HEADER_LEN - 4).ok_or(PcapError::Truncated { frame: 0 })?;
    if link != LINKTYPE_ETHERNET {
        return Err(PcapError::LinkType { link });
    }
    let (mut frames, mut at) = (Vec::new(), HEADER_LEN);
    while at < bytes.len() {
        let frame = frames.len() + 1;
        if frame > FRAMES_MAX {
            return Err(PcapError::TooMany);
        }
        let truncated = PcapError::Truncated { frame };
        let (seconds, fraction) = word(at).zip(word(at + 4)).ok_or(truncated.clone())?;
        let ns = u64::from(seconds) * NS_PER_S + u64::from(fraction) * fraction_ns;
        let len = word(at + 8).ok_or(truncated.clone())?;
        if len > SNAP_LEN_MAX {
            return Err(PcapError::TooLong { frame, len });
        }
        let start = at + RECORD_LEN;
        let end = start + usize::try_from(len).unwrap_or(usize::MAX);
        frames.push((ns, bytes.get(start..end).ok_or(truncated)?));
        at = end;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_dataplane_core::tick::Tick;

    fn captured(at: u64, bytes: &[u8]) -> Captured {
        Captured {
            at: Tick(at),
            bytes: bytes.into(),
        }
    }

    fn written(frames: &[Captured]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, frames).unwrap();
        out
    }

    #[test]
    fn a_capture_has_the_bytes_of_the_format() {
        let out = written(&[captured(3 * NS_PER_S + 7, &[0xaa, 0xbb])]);
        let header = [
            0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1,
        ];
        assert_eq!(out[..21], header);
        assert_eq!(
            out[24..],
            [3, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0xaa, 0xbb]
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let out = written(&[
            captured(0, &[1; 60]),
            captured(5, &[]),
            captured(9, &[2; 1514]),
        ]);
        let frames = read(&out).unwrap();
        assert_eq!(
            frames.iter().map(|f| f.len()).collect::<Vec<_>>(),
            [60, 0, 1514]
        );
        assert_eq!(read(&written(&[])), Ok(Vec::new()));
    }

    #[test]
    fn the_other_byte_order_is_read_too() {
        let mut out = Vec::new();
        for word in [MAGIC_US, 0x0002_0004, 0, 0, 65_535, 1, 1, 2, 3, 3] {
            out.extend(word.to_be_bytes());
        }
        out.extend([7, 8, 9]);
        assert_eq!(read(&out), Ok(vec![&[7, 8, 9][..]]));
        let ns = NS_PER_S + 2_000;
        assert_eq!(read_timed(&out), Ok(vec![(ns, &[7, 8, 9][..])]));
    }

    #[test]
    fn every_truncation_and_absurd_length_is_an_error_with_its_frame() {
        let out = written(&[captured(0, &[1; 20]), captured(0, &[2; 20])]);
        for len in 0..out.len() {
            let result = read(&out[..len]);
            let whole = matches!(len, 24 | 60);
            assert_eq!(result.is_ok(), whole, "{len}: {result:?}");
        }
        let mut long = out.clone();
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            read(&long),
            Err(PcapError::TooLong {
                frame: 1,
                len: u32::MAX
            })
        );
        assert_eq!(read(&[0; 40]), Err(PcapError::Magic { magic: 0 }));
        let mut other = out;
        other[20] = 101;
        assert_eq!(read(&other), Err(PcapError::LinkType { link: 101 }));
    }
}
