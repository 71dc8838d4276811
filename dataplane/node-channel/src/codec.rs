//! Messages as bytes, and frames around them.
//!
//! ```text
//!  frame    length of the body   2 bytes, 1 to FRAME_LEN_MAX    big endian, as all numbers here
//!           body                 type, 1 byte, then its fields
//!
//!  1 hello        instance 8, attempt 8, epoch floor 8, receive base 4, lanes 1, esn 1,
//!                 count 1 and algorithms 1 each, count 1 and sending 8 each,
//!                 length 2 and SPIFFE ID
//!  2 ready        epoch 8
//!  3 delete       below 8
//!  4 ping         sending 8, rekey wanted 1
//!  5 bindings     begin: instance 8
//!  6 binding      number 8, address, length 1 and pod UID
//!  7 bindings     end
//!  8 withdraw     number 8, address
//!
//!  address        4 and 4 bytes, or 6 and 16 bytes
//!  algorithm      1 aes128gcm16, 2 aes256gcm16, 3 chacha20poly1305; others are skipped
//!  esn, wanted    0 or 1
//! ```
//!
//! A body has no bytes to spare: what is left over refuses it.

use std::net::{IpAddr, Ipv6Addr};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{
    ALGORITHMS_MAX, Hello, Message, SENDING_MAX, SPIFFE_ID_LEN_MAX, SpiBlock,
};
use sluice_offload_api::model::PodUid;

use crate::binding::{Binding, POD_UID_LEN_MAX};

/// Longest body in bytes: a hello with the longest SPIFFE ID fits.
pub const FRAME_LEN_MAX: usize = 4096;

/// Bytes before a body.
pub(crate) const FRAME_HEADER_LEN: usize = 2;

/// What goes over a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Between the two life cycles.
    Sa(Message),
    /// All bindings follow, of this life of the sender.
    BindingsBegin {
        /// Tells it from the life before.
        instance: u64,
    },
    /// One binding.
    Binding(Binding),
    /// Those were all.
    BindingsEnd,
    /// A binding is gone.
    Withdraw {
        /// The pod's address.
        addr: IpAddr,
        /// The binding, or older ones.
        number: u64,
    },
}

/// A body that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends early.
    #[error("a message of type {kind} ends within its {field}")]
    Truncated {
        /// Its type; 0 for an empty body.
        kind: u8,
        /// Where it ends.
        field: &'static str,
    },
    /// It does not end.
    #[error("{left} bytes follow a message of type {kind}")]
    Trailing {
        /// Its type.
        kind: u8,
        /// Bytes too many.
        left: usize,
    },
    /// Not a type.
    #[error("{kind} is not a message type")]
    Kind {
        /// What stood there.
        kind: u8,
    },
    /// A field with an impossible value.
    #[error("{field} of a message of type {kind} is {got}")]
    Value {
        /// The message's type.
        kind: u8,
        /// The field.
        field: &'static str,
        /// Its value.
        got: u64,
    },
}

/// A whole frame, header and body.
#[must_use]
pub fn encode(message: &Wire) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEADER_LEN];
    match message {
        Wire::Sa(Message::Hello(hello)) => encode_hello(hello, &mut out),
        Wire::Sa(Message::Ready { epoch }) => {
            out.push(2);
            out.extend(epoch.to_be_bytes());
        }
        Wire::Sa(Message::Delete { below }) => {
            out.push(3);
            out.extend(below.to_be_bytes());
        }
        Wire::Sa(Message::Ping {
            sending,
            rekey_wanted,
        }) => {
            out.push(4);
            out.extend(sending.to_be_bytes());
            out.push(u8::from(*rekey_wanted));
        }
        Wire::BindingsBegin { instance } => {
            out.push(5);
            out.extend(instance.to_be_bytes());
        }
        Wire::Binding(binding) => {
            out.push(6);
            out.extend(binding.number.to_be_bytes());
            encode_addr(binding.addr, &mut out);
            let uid = clip(binding.pod.0.as_bytes(), POD_UID_LEN_MAX);
            out.push(u8::try_from(uid.len()).unwrap_or(u8::MAX));
            out.extend(uid);
        }
        Wire::BindingsEnd => out.push(7),
        Wire::Withdraw { addr, number } => {
            out.push(8);
            out.extend(number.to_be_bytes());
            encode_addr(*addr, &mut out);
        }
    }
    let len = u16::try_from(out.len() - FRAME_HEADER_LEN).unwrap_or(u16::MAX);
    out[..FRAME_HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    out
}

fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    out.push(1);
    for number in [hello.instance, hello.attempt, hello.epoch_floor] {
        out.extend(number.to_be_bytes());
    }
    out.extend(hello.receive.base().to_be_bytes());
    out.push(hello.lanes);
    out.push(u8::from(hello.esn));
    let algorithms = clip(&hello.algorithms, ALGORITHMS_MAX);
    out.push(u8::try_from(algorithms.len()).unwrap_or(u8::MAX));
    out.extend(algorithms.iter().map(|a| match a {
        Algorithm::Aes128Gcm16 => 1,
        Algorithm::Aes256Gcm16 => 2,
        Algorithm::ChaCha20Poly1305 => 3,
    }));
    let sending = clip(&hello.sending, SENDING_MAX);
    out.push(u8::try_from(sending.len()).unwrap_or(u8::MAX));
    sending.iter().for_each(|e| out.extend(e.to_be_bytes()));
    let id = clip(hello.spiffe_id.as_bytes(), SPIFFE_ID_LEN_MAX);
    out.extend(u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(id);
}

/// What is longer was refused where it came in; cut here, it could only be refused by the peer.
fn clip<T>(all: &[T], max: usize) -> &[T] {
    &all[..all.len().min(max)]
}

fn encode_addr(addr: IpAddr, out: &mut Vec<u8>) {
    match addr {
        IpAddr::V4(addr) => {
            out.push(4);
            out.extend(addr.octets());
        }
        IpAddr::V6(addr) => {
            out.push(6);
            out.extend(addr.octets());
        }
    }
}

/// The message of a body.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(body: &[u8]) -> Result<Wire, DecodeError> {
    let mut r = Reader {
        kind: 0,
        left: body,
    };
    r.kind = r.u8("type")?;
    let message = match r.kind {
        1 => Wire::Sa(Message::Hello(decode_hello(&mut r)?)),
        2 => Wire::Sa(Message::Ready {
            epoch: r.u64("epoch")?,
        }),
        3 => Wire::Sa(Message::Delete {
            below: r.u64("epoch")?,
        }),
        4 => Wire::Sa(Message::Ping {
            sending: r.u64("epoch")?,
            rekey_wanted: r.flag("rekey wanted")?,
        }),
        5 => Wire::BindingsBegin {
            instance: r.u64("instance")?,
        },
        6 => {
            let number = r.u64("number")?;
            let addr = r.addr()?;
            let len = usize::from(r.u8("pod UID's length")?);
            if len == 0 || len > POD_UID_LEN_MAX {
                return Err(r.value("pod UID's length", len as u64));
            }
            let pod = PodUid(r.text(len, "pod UID")?);
            Wire::Binding(Binding { addr, pod, number })
        }
        7 => Wire::BindingsEnd,
        8 => {
            let number = r.u64("number")?;
            let addr = r.addr()?;
            Wire::Withdraw { addr, number }
        }
        kind => return Err(DecodeError::Kind { kind }),
    };
    match r.left.len() {
        0 => Ok(message),
        left => Err(DecodeError::Trailing { kind: r.kind, left }),
    }
}

fn decode_hello(r: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    let instance = r.u64("instance")?;
    let attempt = r.u64("attempt")?;
    let epoch_floor = r.u64("epoch floor")?;
    let base = u32::from_be_bytes(r.array("receive base")?);
    let receive = SpiBlock::new(base).map_err(|_| r.value("receive base", base.into()))?;
    if receive.base() != base {
        return Err(r.value("receive base", base.into()));
    }
    let lanes = r.u8("lanes")?;
    let esn = r.flag("esn")?;
    let count = r.count("algorithms", ALGORITHMS_MAX)?;
    let mut algorithms = Vec::with_capacity(count);
    for _ in 0..count {
        match r.u8("algorithms")? {
            1 => algorithms.push(Algorithm::Aes128Gcm16),
            2 => algorithms.push(Algorithm::Aes256Gcm16),
            3 => algorithms.push(Algorithm::ChaCha20Poly1305),
            // A newer peer may speak more.
            _ => {}
        }
    }
    let count = r.count("sending", SENDING_MAX)?;
    let mut sending = Vec::with_capacity(count);
    for _ in 0..count {
        sending.push(r.u64("sending")?);
    }
    let len = usize::from(u16::from_be_bytes(r.array("SPIFFE ID's length")?));
    if len > SPIFFE_ID_LEN_MAX {
        return Err(r.value("SPIFFE ID's length", len as u64));
    }
    Ok(Hello {
        spiffe_id: r.text(len, "SPIFFE ID")?,
        instance,
        attempt,
        epoch_floor,
        receive,
        lanes,
        algorithms,
        esn,
        sending,
    })
}

struct Reader<'a> {
    kind: u8,
    left: &'a [u8],
}

impl Reader<'_> {
    fn bytes(&mut self, len: usize, field: &'static str) -> Result<&[u8], DecodeError> {
        let kind = self.kind;
        let split = self.left.split_at_checked(len);
        let (bytes, left) = split.ok_or(DecodeError::Truncated { kind, field })?;
        self.left = left;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, field)?);
        Ok(array)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(self.value(field, got.into())),
        }
    }

    fn count(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let got = self.u8(field)?;
        match usize::from(got) {
            count if count <= max => Ok(count),
            _ => Err(self.value(field, got.into())),
        }
    }

    fn addr(&mut self) -> Result<IpAddr, DecodeError> {
        match self.u8("address family")? {
            4 => Ok(IpAddr::from(self.array::<4>("address")?)),
            6 => {
                let addr = Ipv6Addr::from(self.array::<16>("address")?);
                // A second spelling of an IPv4 address, which may be anybody's.
                if addr.to_ipv4_mapped().is_some() {
                    return Err(self.value("address", 6));
                }
                Ok(IpAddr::V6(addr))
            }
            got => Err(self.value("address family", got.into())),
        }
    }

    fn text(&mut self, len: usize, field: &'static str) -> Result<String, DecodeError> {
        let kind = self.kind;
        let bytes = self.bytes(len, field)?;
        let text = core::str::from_utf8(bytes).map_err(|e| DecodeError::Value {
            kind,
            field,
            got: bytes.get(e.valid_up_to()).copied().unwrap_or(0).into(),
        })?;
        Ok(text.to_owned())
    }

    fn value(&self, field: &'static str, got: u64) -> DecodeError {
        let kind = self.kind;
        DecodeError::Value { kind, field, got }
    }
}

/// Reserved SPIs never come from a peer: [`SpiBlock`] refuses them.
const _: () = assert!(SpiBlock::new(Spi(255).0).is_err());

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]
mod tests {
    use super::*;

    fn samples() -> Vec<Wire> {
        let hello = Hello {
            spiffe_id: "spiffe://t/sluice/node/a".to_owned(),
            instance: u64::MAX,
            attempt: 2,
            epoch_floor: 3,
            receive: SpiBlock::new(0xffff_ffe0).unwrap(),
            lanes: 32,
            algorithms: Algorithm::ALL.to_vec(),
            esn: true,
            sending: vec![1, u64::MAX],
        };
        let bare = Hello {
            spiffe_id: String::new(),
            algorithms: Vec::new(),
            sending: Vec::new(),
            esn: false,
            ..hello.clone()
        };
        let binding = |addr, uid: &str| {
            Wire::Binding(Binding {
                addr,
                pod: PodUid::from(uid),
                number: 7,
            })
        };
        let (v4, v6) = (
            IpAddr::from([10, 0, 0, 1]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
        );
        vec![
            Wire::Sa(Message::Hello(hello)),
            Wire::Sa(Message::Hello(bare)),
            Wire::Sa(Message::Ready { epoch: 5 }),
            Wire::Sa(Message::Delete { below: 6 }),
            Wire::Sa(Message::Ping {
                sending: 0,
                rekey_wanted: true,
            }),
            Wire::BindingsBegin { instance: 9 },
            binding(v4, "0b3a"),
            binding(v6, &"u".repeat(POD_UID_LEN_MAX)),
            Wire::BindingsEnd,
            Wire::Withdraw {
                addr: v6,
                number: 8,
            },
        ]
    }

    #[test]
    fn decode_of_encode_is_identity_and_every_truncation_and_addition_is_refused() {
        for message in samples() {
            let frame = encode(&message);
            let (header, body) = frame.split_at(FRAME_HEADER_LEN);
            assert_eq!(header, u16::try_from(body.len()).unwrap().to_be_bytes());
            assert_eq!(decode(body), Ok(message.clone()));
            for len in 0..body.len() {
                let short = decode(&body[..len]);
                assert!(
                    matches!(short, Err(DecodeError::Truncated { .. })),
                    "{message:?} cut to {len}: {short:?}"
                );
            }
            let long = decode(&[body, &[0]].concat());
            let kind = body[0];
            assert_eq!(long, Err(DecodeError::Trailing { kind, left: 1 }));
        }
    }

    #[test]
    fn the_longest_hello_fits_a_frame() {
        let Wire::Sa(Message::Hello(mut hello)) = samples().remove(0) else {
            unreachable!("the first sample is a hello");
        };
        hello.spiffe_id = "s".repeat(SPIFFE_ID_LEN_MAX);
        hello.algorithms = vec![Algorithm::Aes128Gcm16; ALGORITHMS_MAX];
        hello.sending = vec![1; SENDING_MAX];
        let frame = encode(&Wire::Sa(Message::Hello(hello.clone())));
        assert!(frame.len() - FRAME_HEADER_LEN <= FRAME_LEN_MAX);
        let back = decode(&frame[FRAME_HEADER_LEN..]);
        assert_eq!(back, Ok(Wire::Sa(Message::Hello(hello))));
    }

    #[test]
    fn impossible_values_are_refused_and_unknown_algorithms_skipped() {
        let body = |message: &Wire| encode(message).split_off(FRAME_HEADER_LEN);
        assert_eq!(decode(&[9]), Err(DecodeError::Kind { kind: 9 }));
        let mut ping = body(&samples()[4]);
        ping[9] = 2;
        assert!(matches!(
            decode(&ping),
            Err(DecodeError::Value { got: 2, .. })
        ));
        let mut hello = body(&samples()[0]);
        hello[25..29].copy_from_slice(&255u32.to_be_bytes());
        assert!(matches!(
            decode(&hello),
            Err(DecodeError::Value { got: 255, .. })
        ));
        let mut hello = body(&samples()[0]);
        hello[28] |= 1;
        assert!(decode(&hello).is_err(), "a child's SPI is no base");
        let mut hello = body(&samples()[0]);
        hello[32] = 77;
        let Ok(Wire::Sa(Message::Hello(hello))) = decode(&hello) else {
            unreachable!("an algorithm of the future");
        };
        assert_eq!(hello.algorithms.len(), Algorithm::ALL.len() - 1);
        let mut binding = body(&samples()[6]);
        binding[14] = 0;
        assert!(decode(&binding).is_err(), "a pod without a UID");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut x = 1u64;
        for _ in 0..200_000 {
            let mut bytes = Vec::new();
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for i in 0..(x >> 58) {
                bytes.push(u8::try_from((x >> (i % 50)) & 0xff).unwrap());
            }
            if let Some(first) = bytes.first_mut() {
                *first %= 10;
            }
            if let Ok(message) = decode(&bytes) {
                let again = encode(&message).split_off(FRAME_HEADER_LEN);
                assert_eq!(decode(&again), Ok(message));
            }
        }
    }
}
