//! What one of charon's threads has said of a child SA so far.
//!
//! A thread takes a message in (`parsed … request` or `response`, which tells who began the
//! exchange), chooses a proposal, names the child, dumps both keys and then says which SA it
//! adds:
//!
//! ```text
//! 08[ENC] parsed CREATE_CHILD_SA request 0 [ SA No KE TSi TSr N(REKEY_SA) ]
//! 08[CFG] selected proposal: ESP:AES_GCM_16_256/CURVE_25519/NO_EXT_SEQ
//! 08[CHD] CHILD_SA swan{2} state change: CREATED => INSTALLING
//! 08[CHD] encryption initiator key => 36 bytes @ 0x7f02e8003530
//! 08[CHD]    0: 76 D7 67 15 …                                    v.g.
//! 08[CHD] encryption responder key => 36 bytes @ 0x7f02e8000f20
//! 08[CHD] adding inbound ESP SA
//! 08[CHD]   SPI 0x6b5ce8eb, src 198.51.100.20 dst 198.51.100.1
//! 08[CHD] registering outbound ESP SA
//! 08[CHD]   SPI 0xee72d97e, src 198.51.100.1 dst 198.51.100.20
//! ```

use core::fmt;

use sluice_crypto::key::Algorithm;
use zeroize::Zeroizing;

use super::line::{Group, Line};

/// Bytes of a key with its salt, at most.
const KEYMAT_MAX: usize = 36;
/// Bytes in a line of a dump.
const DUMP_LINE: usize = 16;
/// Length of a child's name, at most.
const NAME_MAX: usize = 253;

/// A child SA: its name in charon's configuration, and its number in charon's life.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChildId {
    /// The name.
    pub name: String,
    /// The number.
    pub number: u32,
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{}}}", self.name, self.number)
    }
}

/// Key and algorithm of one SA.
pub struct Keyed {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Key and salt.
    pub keymat: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyed({})", self.algorithm)
    }
}

/// What a line leads to.
#[derive(Debug)]
pub enum Said {
    /// charon receives by this SA from now on.
    Inbound(ChildId, u32, Keyed),
    /// charon will send by this SA, once it says so.
    Registered(ChildId, u32, Keyed),
    /// charon sends by this SA from now on: one that was registered, or a child's first.
    Outbound(u32, Result<First, Unclear>),
    /// A child SA is no more.
    Gone(ChildId),
    /// Something is missing.
    Unclear(Unclear),
}

/// A child's first SA to send by.
#[derive(Debug)]
pub struct First {
    /// The child.
    pub child: ChildId,
    /// The SA's key.
    pub keyed: Keyed,
    /// Whether the peer began the exchange: it has the SA only when charon's response arrives.
    pub by_peer: bool,
}

/// Why an SA that charon tells of can't be used. Never has a byte of a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unclear {
    /// Who began.
    #[error("charon's log doesn't say who began the exchange: set `enc = 3` for it")]
    Role,
    /// Which cipher.
    #[error("charon's log doesn't say which proposal was selected: set `cfg = 1` for it")]
    Proposal,
    /// A cipher that we don't have.
    #[error(
        "the ESP proposal {0} isn't one of Sluice's: set `esp_proposals` to aes128gcm16, \
         aes256gcm16 or chacha20poly1305"
    )]
    Cipher(String),
    /// The child's name.
    #[error("charon's log doesn't say which child SA it is: set `chd = 4` for it")]
    Child,
    /// Its keys.
    #[error("charon's log has no whole key of it: set `chd = 4` for it, and don't cut the log")]
    Key,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    Inbound,
    Registering,
    Outbound,
}

#[derive(Debug, Default)]
struct Dump {
    /// The initiator's key, or the responder's.
    of: Option<Role>,
    len: usize,
    bytes: Zeroizing<Vec<u8>>,
}

/// A thread. Its keys are erased when it takes the next message in.
#[derive(Default)]
pub struct Thread {
    own: Option<Role>,
    proposal: Option<Result<(Algorithm, bool), String>>,
    child: Option<ChildId>,
    dump: Dump,
    initiators: Option<Zeroizing<Vec<u8>>>,
    responders: Option<Zeroizing<Vec<u8>>>,
    announced: Option<Announced>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({:?})", self.child)
    }
}

impl Thread {
    /// Takes a line of this thread in.
    pub fn on_line(&mut self, line: &Line<'_>) -> Option<Said> {
        let text = line.text;
        match line.group {
            Group::Chd => self.on_chd(text),
            Group::Enc => {
                let parsed = text.strip_prefix("parsed ")?;
                let head = parsed.split(" [").next().unwrap_or_default();
                let mut words = head.split(' ').skip(1);
                // An exchange's name has no space in it.
                let own = match words.next() {
                    Some("request") => Role::Responder,
                    Some("response") => Role::Initiator,
                    _ => return None,
                };
                *self = Self {
                    own: Some(own),
                    ..Self::default()
                };
                None
            }
            Group::Cfg => {
                let esp = text.strip_prefix("selected proposal: ESP:")?;
                self.proposal = Some(proposal(esp));
                None
            }
            Group::Other => None,
        }
    }

    fn on_chd(&mut self, text: &str) -> Option<Said> {
        if self.dump.of.is_some() {
            if self.on_dump(text) {
                return None;
            }
            // Cut short: half a key is none.
            self.dump = Dump::default();
        }
        if let Some(announced) = self.announced.take()
            && let Some(spi) = spi(text)
        {
            return Some(self.announce(announced, spi));
        }
        if let Some((child, change)) = text
            .strip_prefix("CHILD_SA ")
            .and_then(|it| it.split_once(" state change: "))
        {
            let child = child_id(child)?;
            match change.split_once(" => ")?.1 {
                "INSTALLING" => self.child = Some(child),
                "DESTROYING" => return Some(Said::Gone(child)),
                _ => {}
            }
            return None;
        }
        let key = text.strip_prefix("encryption ");
        if let Some((of, dump)) = key.and_then(|it| it.split_once(" key => ")) {
            let of = match of {
                "initiator" => Role::Initiator,
                "responder" => Role::Responder,
                _ => return None,
            };
            *self.key_mut(of) = None;
            let len = dump.split(' ').next()?.parse().ok()?;
            if (1..=KEYMAT_MAX).contains(&len) {
                self.dump = Dump {
                    of: Some(of),
                    len,
                    // The whole room at once: a vector that grows leaves copies behind.
                    bytes: Zeroizing::new(Vec::with_capacity(KEYMAT_MAX)),
                };
            }
            return None;
        }
        self.announced = match text {
            "adding inbound ESP SA" => Some(Announced::Inbound),
            "registering outbound ESP SA" => Some(Announced::Registering),
            "adding outbound ESP SA" => Some(Announced::Outbound),
            _ => None,
        };
        None
    }

    const fn key_mut(&mut self, of: Role) -> &mut Option<Zeroizing<Vec<u8>>> {
        match of {
            Role::Initiator => &mut self.initiators,
            Role::Responder => &mut self.responders,
        }
    }

    /// Whether it is the next line of the dump.
    fn on_dump(&mut self, text: &str) -> bool {
        let Some((offset, digits)) = text.split_once(": ") else {
            return false;
        };
        let dump = &mut self.dump;
        if offset.trim_start().parse() != Ok(dump.bytes.len()) {
            return false;
        }
        let count = DUMP_LINE.min(dump.len - dump.bytes.len());
        let digits = digits.as_bytes();
        for at in 0..count {
            let Some([high, low, b' ']) = digits.get(3 * at..3 * at + 3) else {
                return false;
            };
            let digit = |it: u8| {
                char::from(it)
                    .to_digit(16)
                    .and_then(|it| u8::try_from(it).ok())
            };
            let Some((high, low)) = digit(*high).zip(digit(*low)) else {
                return false;
            };
            dump.bytes.push(high << 4 | low);
        }
        if dump.bytes.len() == dump.len
            && let Some(of) = dump.of
        {
            let dump = core::mem::take(dump);
            *self.key_mut(of) = Some(dump.bytes);
        }
        true
    }

    fn announce(&mut self, announced: Announced, spi: u32) -> Said {
        let keyed = self.keyed(announced);
        match (keyed, announced) {
            (keyed, Announced::Outbound) => {
                let by_peer = self.own == Some(Role::Responder);
                let first = |(child, keyed)| First {
                    child,
                    keyed,
                    by_peer,
                };
                Said::Outbound(spi, keyed.map(first))
            }
            (Err(unclear), _) => Said::Unclear(unclear),
            (Ok((child, keyed)), Announced::Inbound) => Said::Inbound(child, spi, keyed),
            (Ok((child, keyed)), Announced::Registering) => Said::Registered(child, spi, keyed),
        }
    }

    /// The SA's key, once: who began the exchange sends under the initiator's (RFC 7296 section
    /// 2.17).
    fn keyed(&mut self, announced: Announced) -> Result<(ChildId, Keyed), Unclear> {
        let own = self.own.ok_or(Unclear::Role)?;
        let of = match (announced, own) {
            (Announced::Inbound, Role::Initiator) => Role::Responder,
            (Announced::Inbound, Role::Responder) => Role::Initiator,
            (Announced::Registering | Announced::Outbound, own) => own,
        };
        let keymat = self.key_mut(of).take();
        let child = self.child.clone().ok_or(Unclear::Child)?;
        let proposal = self.proposal.clone().ok_or(Unclear::Proposal)?;
        let (algorithm, esn) = proposal.map_err(Unclear::Cipher)?;
        let keymat = keymat.filter(|it| it.len() == algorithm.keymat_len());
        let keyed = Keyed {
            algorithm,
            esn,
            keymat: keymat.ok_or(Unclear::Key)?,
        };
        Ok((child, keyed))
    }
}

/// `AES_GCM_16_256/CURVE_25519/NO_EXT_SEQ`.
fn proposal(text: &str) -> Result<(Algorithm, bool), String> {
    let mut parts = text.trim_end().split('/');
    let algorithm = match parts.next() {
        Some("AES_GCM_16_128") => Algorithm::Aes128Gcm16,
        Some("AES_GCM_16_256") => Algorithm::Aes256Gcm16,
        Some("CHACHA20_POLY1305" | "CHACHA20_POLY1305_256") => Algorithm::ChaCha20Poly1305,
        _ => return Err(text.chars().take(80).collect()),
    };
    match parts.next_back() {
        Some("NO_EXT_SEQ") => Ok((algorithm, false)),
        Some("EXT_SEQ") => Ok((algorithm, true)),
        _ => Err(text.chars().take(80).collect()),
    }
}

/// `swan{2}`.
fn child_id(text: &str) -> Option<ChildId> {
    let (name, number) = text.strip_suffix('}')?.rsplit_once('{')?;
    if name.is_empty() || name.len() > NAME_MAX {
        return None;
    }
    Some(ChildId {
        name: name.to_owned(),
        number: number.parse().ok()?,
    })
}

/// `  SPI 0x6b5ce8eb, src 198.51.100.20 dst 198.51.100.1`.
fn spi(text: &str) -> Option<u32> {
    let (digits, _) = text.strip_prefix("  SPI 0x")?.split_once(',')?;
    if digits.len() > 8 || digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}
