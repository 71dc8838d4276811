//! The fields of an SCTP packet that its association is followed by.

use crate::meta::{FragKind, Meta, proto};
use crate::wire::bytes::{array, be32};

/// Common header (RFC 9260 section 3.1).
const HEADER_LEN: usize = 12;
/// Type, flags and length of a chunk.
const CHUNK_HEADER_LEN: usize = 4;

/// Chunks of a packet that are looked at, at most; those that begin or end anything come
/// early or alone.
pub const CHUNKS_MAX: usize = 16;

/// Chunk types (RFC 9260 section 3.2) as bits of [`Chunks::kinds`].
pub mod chunk {
    /// INIT, type 1; alone.
    pub const INIT: u16 = 1 << 1;
    /// INIT ACK, type 2; alone.
    pub const INIT_ACK: u16 = 1 << 2;
    /// HEARTBEAT, type 4.
    pub const HEARTBEAT: u16 = 1 << 4;
    /// HEARTBEAT ACK, type 5.
    pub const HEARTBEAT_ACK: u16 = 1 << 5;
    /// ABORT, type 6.
    pub const ABORT: u16 = 1 << 6;
    /// SHUTDOWN, type 7.
    pub const SHUTDOWN: u16 = 1 << 7;
    /// SHUTDOWN ACK, type 8.
    pub const SHUTDOWN_ACK: u16 = 1 << 8;
    /// COOKIE ECHO, type 10; first.
    pub const COOKIE_ECHO: u16 = 1 << 10;
    /// COOKIE ACK, type 11; first.
    pub const COOKIE_ACK: u16 = 1 << 11;
    /// SHUTDOWN COMPLETE, type 14; alone.
    pub const SHUTDOWN_COMPLETE: u16 = 1 << 14;
    /// Any other, DATA and SACK among them.
    pub const OTHER: u16 = 1;
}

/// A packet as its association sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chunks {
    /// The verification tag.
    pub tag: u32,
    /// The initiate tag of INIT and INIT ACK; else 0.
    pub init_tag: u32,
    /// Which chunks there are, [`chunk`]. None in a packet that breaks the rules for what
    /// may stand together.
    pub kinds: u16,
    /// The T bit of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own.
    pub reflected: bool,
}

impl Chunks {
    /// The packet in a frame; `None` if it has no SCTP header: another protocol, or a
    /// later fragment.
    #[must_use]
    pub fn read(frame: &[u8], meta: &Meta) -> Option<Self> {
        if meta.protocol != proto::SCTP || meta.frag == FragKind::Later {
            return None;
        }
        let packet = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end))?;
        let mut chunks = Self {
            tag: be32(packet, 4)?,
            ..Self::default()
        };
        let all = packet.get(HEADER_LEN..)?;
        if chunks.walk(all, meta.frag == FragKind::First).is_none() {
            chunks.kinds = 0;
        }
        Some(chunks)
    }

    /// Whether there is one of these chunks.
    #[must_use]
    pub const fn has(&self, kinds: u16) -> bool {
        self.kinds & kinds != 0
    }

    /// Notes each chunk; `None` where a rule is broken.
    fn walk(&mut self, mut rest: &[u8], is_cut: bool) -> Option<()> {
        for at in 0..CHUNKS_MAX {
            if rest.is_empty() {
                break;
            }
            let [kind, flags, hi, lo] = array::<CHUNK_HEADER_LEN>(rest, 0)?;
            let len = usize::from(u16::from_be_bytes([hi, lo]));
            if len < CHUNK_HEADER_LEN || len > rest.len() && !is_cut {
                return None;
            }
            self.note(kind, flags, at, rest)?;
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        //= RFC 9260 section 3: "INIT, INIT ACK, and SHUTDOWN COMPLETE chunks MUST NOT be
        //= bundled with any other chunk into an SCTP packet"
        const ALONE: u16 = chunk::INIT | chunk::INIT_ACK | chunk::SHUTDOWN_COMPLETE;
        let bundled = self.has(ALONE) && (self.kinds.count_ones() > 1 || !rest.is_empty());
        (self.kinds != 0 && !bundled).then_some(())
    }

    fn note(&mut self, kind: u8, flags: u8, at: usize, bytes: &[u8]) -> Option<()> {
        let bit = match kind {
            1 | 2 | 4..=8 | 10 | 11 | 14 => 1 << kind,
            _ => chunk::OTHER,
        };
        match bit {
            chunk::INIT | chunk::INIT_ACK => {
                self.init_tag = be32(bytes, CHUNK_HEADER_LEN)?;
                //= RFC 9260 section 8.5.1: "an endpoint that receives a packet containing
                //= an INIT chunk MUST ... Verification Tag of 0"; section 3.3.2: "the
                //= Initiate Tag ... MUST NOT be 0"
                let right_tag = (self.tag == 0) == (bit == chunk::INIT);
                (at == 0 && self.init_tag != 0 && right_tag).then_some(())?;
            }
            //= RFC 9260 section 5.1: "the COOKIE ECHO chunk MUST be the first chunk in the
            //= packet"; so is COOKIE ACK
            chunk::COOKIE_ECHO | chunk::COOKIE_ACK if at != 0 => return None,
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => self.reflected = flags & 1 != 0,
            _ => {}
        }
        self.kinds |= bit;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    fn read(tag: u32, chunks: &[u8]) -> Chunks {
        let protocol = proto::SCTP;
        let mut packet = vec![0, 1, 0, 2];
        packet.extend(tag.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(chunks);
        let spec = FrameSpec {
            payload: packet,
            ..FrameSpec::new(
                "fd00::1".parse().unwrap(),
                "fd00::2".parse().unwrap(),
                Body::Other { protocol },
            )
        };
        let frame = spec.build();
        Chunks::read(&frame, &parse(&frame).unwrap()).unwrap()
    }

    #[test]
    fn bundles_are_read_chunk_by_chunk_with_their_padding() {
        let data = [0, 3, 0, 5, 9, 0, 0, 0];
        let shutdown = [7, 0, 0, 8, 0, 0, 0, 1];
        let got = read(7, &[data, shutdown].concat());
        assert_eq!(got.kinds, chunk::OTHER | chunk::SHUTDOWN);
        let abort = [6, 1, 0, 4];
        let got = read(7, &abort);
        assert_eq!((got.kinds, got.reflected), (chunk::ABORT, true));
    }

    #[test]
    fn what_must_be_alone_or_first_is() {
        let init = [1, 0, 0, 8, 0, 0, 0, 5];
        let echo = [10, 0, 0, 4];
        let data = [0, 3, 0, 4];
        assert_eq!(read(0, &init).init_tag, 5);
        for (tag, chunks) in [
            (1, &init[..]),
            (0, &[1, 0, 0, 8, 0, 0, 0, 0]),
            (0, &[1, 0, 0, 4]),
            (0, &[init, init].concat()),
            (0, &[&data[..], &init].concat()),
            (0, &[&init[..], &data].concat()),
            (0, &[2, 0, 0, 8, 0, 0, 0, 5]),
            (1, &[&data[..], &echo].concat()),
            (1, &[14, 0, 0, 4, 0, 3, 0, 4]),
            (1, &[0, 3, 0, 3]),
            (1, &[0, 3, 0, 5]),
            (1, &[0, 3, 0]),
            (1, &[]),
        ] {
            assert_eq!(read(tag, chunks).kinds, 0, "{tag} {chunks:?}");
        }
        let got = read(1, &[echo, data].concat());
        assert_eq!(got.kinds, chunk::COOKIE_ECHO | chunk::OTHER);
    }

    #[test]
    fn only_so_many_chunks_are_looked_at() {
        let mut chunks = [0, 3, 0, 4].repeat(CHUNKS_MAX);
        chunks.extend([6, 0, 0, 4]);
        assert_eq!(read(1, &chunks).kinds, chunk::OTHER);
    }
}
