//! Reading DNS messages (RFC 1035 section 4): one question, and in an answer the addresses
//! that it leads to. Untrusted bytes: every loop is bounded, nothing is allocated, and what
//! isn't as it should be is an error as a whole.
//!
//! ```text
//!  0      2      4         6         8         10        12
//!  +------+------+---------+---------+---------+---------+----------+---------
//!  | id   | bits | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT | question | answers…
//!  +------+------+---------+---------+---------+---------+----------+---------
//! ```
//! Authority and additional records, EDNS among them, say nothing of the question and are
//! not read.

use crate::addr::Addr;
use crate::hash::HashKey;
use crate::wire::bytes::{be16, be32};

/// Bytes of the header.
const HEADER_LEN: usize = 12;
/// Bytes of a name, lengths included and the root's not, at most (RFC 1035 section 2.3.4).
pub const NAME_LEN_MAX: usize = 254;
/// Labels of a name, at most: each takes two bytes.
pub const LABELS_MAX: usize = NAME_LEN_MAX / 2;
const LABEL_LEN_MAX: usize = 63;
/// Records of an answer, at most. A name may have 100 addresses, and a frame few more.
pub const RECORDS_MAX: u16 = 256;
/// CNAMEs from the question's name to the addresses, at most.
pub const CHAIN_MAX: usize = 16;
/// Pointers followed in one name, at most.
const HOPS_MAX: usize = 16;
/// What reading one message may cost, at most: each time that a label is met counts one, and
/// one more for eight bytes of it that are read. Four passes over a hundred records with names
/// written out take a half of it.
const WORK_MAX: usize = 8192;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;

/// QR, OPCODE, TC and RCODE in the header's bits (RFC 1035 section 4.1.1).
const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TC: u16 = 0x0200;
const RCODE: u16 = 0x000f;

/// Why a message says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// It ends before what its header promises.
    #[error("the message ends in its midst")]
    Short,
    /// Not a query or response with one question.
    #[error("not a query or response with one question of class IN")]
    Header,
    /// A name that is no name: too long, of a kind of label that there isn't, or pointers
    /// that lead forward.
    #[error("a name in it is none")]
    Name,
    /// A record that isn't as its type says.
    #[error("a record is not as its type says")]
    Record,
    /// More records, CNAMEs or labels than are read.
    #[error("it has more in it than is read")]
    TooMuch,
}

/// A name: its labels with their lengths as on the wire, in lower case, without the root.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME_LEN_MAX],
    len: u8,
}

impl Name {
    /// The name of no labels.
    const ROOT: Self = Self {
        bytes: [0; NAME_LEN_MAX],
        len: 0,
    };

    /// As it stands on the wire, but for case and the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// A name from its text, `db.example.com`; `None` if it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut name = Self::ROOT;
        for label in text.split('.') {
            name.push(label.as_bytes()).ok()?;
        }
        Some(name)
    }

    /// Adds a label.
    fn push(&mut self, label: &[u8]) -> Result<(), Fault> {
        let start = usize::from(self.len);
        let end = start + 1 + label.len();
        let room = self.bytes.get_mut(start..end).ok_or(Fault::Name)?;
        let (first, rest) = room.split_first_mut().ok_or(Fault::Name)?;
        if label.is_empty() || label.len() > LABEL_LEN_MAX {
            return Err(Fault::Name);
        }
        *first = u8::try_from(label.len()).map_err(|_| Fault::Name)?;
        for (to, from) in rest.iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.len = u8::try_from(end).map_err(|_| Fault::Name)?;
        Ok(())
    }

    /// Its labels, the first first, each with all that is behind it.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.as_bytes();
        core::iter::from_fn(move || {
            let whole = rest;
            let len = usize::from(*whole.first()?);
            rest = whole.get(1 + len..)?;
            Some(whole)
        })
    }

    /// A hash of it all.
    #[must_use]
    pub fn hash(&self, key: HashKey) -> u64 {
        hash_bytes(key, 0, self.as_bytes())
    }
}

/// A hash of bytes behind what was hashed before.
pub(crate) fn hash_bytes(key: HashKey, before: u64, bytes: &[u8]) -> u64 {
    let mut state = key.hash([before, bytes.len() as u64]);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        state = key.hash([state, u64::from_le_bytes(word)]);
    }
    state
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for label in self.suffixes() {
            let len = label.first().map_or(0, |len| usize::from(*len));
            let label = label.get(1..=len).unwrap_or_default();
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

/// Which addresses are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// IPv4's, by A records.
    V4,
    /// IPv6's, by AAAA records (RFC 3596).
    V6,
}

/// A message: a question, and perhaps its answer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Chosen by who asks.
    pub id: u16,
    /// Whether it is an answer.
    pub is_response: bool,
    /// The name that is asked for.
    pub name: Name,
    /// What is asked of it; `None` is anything else than addresses.
    pub asked: Option<Asked>,
    /// Whether it is an answer that says all there is: without error and not cut.
    pub is_whole: bool,
    records: u16,
    /// Where the answers begin.
    answers: usize,
}

impl<'a> Message<'a> {
    /// Reads the header and the question.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let field = |at| be16(bytes, at).ok_or(Fault::Short);
        let (id, bits, questions, records) = (field(0)?, field(2)?, field(4)?, field(6)?);
        field(10)?;
        if bits & OPCODE != 0 || questions != 1 {
            return Err(Fault::Header);
        }
        let mut work = Work(WORK_MAX);
        let name = decode(bytes, HEADER_LEN, &mut work)?;
        let end = skip(bytes, HEADER_LEN, &mut work)?;
        let (kind, class) = (field(end)?, field(end + 2)?);
        if class != CLASS_IN {
            return Err(Fault::Header);
        }
        Ok(Self {
            bytes,
            id,
            is_response: bits & QR != 0,
            name,
            asked: match kind {
                TYPE_A => Some(Asked::V4),
                TYPE_AAAA => Some(Asked::V6),
                _ => None,
            },
            is_whole: bits & (QR | TC | RCODE) == QR,
            records,
            answers: end + 4,
        })
    }

    /// Calls `each` with every address that the answer gives for the question, and for how
    /// many seconds it is good: the least of its own time and those of the CNAMEs that lead
    /// to it. Nothing is said of other names. On an error it was called with none.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn addresses(&self, each: &mut impl FnMut(Addr, u32)) -> Result<(), Fault> {
        if self.records > RECORDS_MAX {
            return Err(Fault::TooMuch);
        }
        let mut work = Work(WORK_MAX);
        let mut at = Chain {
            name: self.name,
            ttl_s: u32::MAX,
            steps: 0,
        };
        // Most answers have their CNAMEs in order. Each round follows one at least.
        while self.follow(&mut at, &mut work)? {}
        // Once to see that it can be read to its end, once to tell.
        self.tell(&at, &mut work, &mut |_, _| {})?;
        let mut again = Work(WORK_MAX);
        self.tell(&at, &mut again, each)
    }

    /// Follows the CNAMEs of the name that was come to; whether there were any.
    fn follow(&self, chain: &mut Chain, work: &mut Work) -> Result<bool, Fault> {
        let (before, mut owner) = (chain.steps, Owner::default());
        self.each_record(work, &mut |record, work| {
            if record.kind != TYPE_CNAME || !owner.is(self.bytes, record.at, &chain.name, work)? {
                return Ok(());
            }
            chain.steps += 1;
            if chain.steps > CHAIN_MAX {
                return Err(Fault::TooMuch);
            }
            chain.name = decode(self.bytes, record.data, work)?;
            chain.ttl_s = chain.ttl_s.min(record.ttl_s);
            owner = Owner::default();
            Ok(())
        })?;
        Ok(chain.steps != before)
    }

    /// Tells the addresses of the name at the chain's end.
    fn tell(
        &self,
        chain: &Chain,
        work: &mut Work,
        each: &mut impl FnMut(Addr, u32),
    ) -> Result<(), Fault> {
        let wanted = match self.asked {
            Some(Asked::V4) => TYPE_A,
            Some(Asked::V6) => TYPE_AAAA,
            None => return Ok(()),
        };
        let mut owner = Owner::default();
        self.each_record(work, &mut |record, work| {
            if record.kind != wanted || !owner.is(self.bytes, record.at, &chain.name, work)? {
                return Ok(());
            }
            let data = self
                .bytes
                .get(record.data..record.end)
                .ok_or(Fault::Short)?;
            let addr = if let Ok(v4) = <[u8; 4]>::try_from(data) {
                Addr::v4(v4)
            } else {
                let v6 = <[u8; 16]>::try_from(data).map_err(|_| Fault::Record)?;
                let addr = Addr::v6(v6);
                // It would be taken for the IPv4 address inside.
                if addr.is_v4() {
                    return Err(Fault::Record);
                }
                addr
            };
            each(addr, record.ttl_s.min(chain.ttl_s));
            Ok(())
        })
    }

    /// Goes through the answers. Each is checked in its form.
    fn each_record(
        &self,
        work: &mut Work,
        each: &mut impl FnMut(Record, &mut Work) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut at = self.answers;
        for _ in 0..self.records.min(RECORDS_MAX) {
            let fixed = skip(self.bytes, at, work)?;
            let field = |at| be16(self.bytes, at).ok_or(Fault::Short);
            let (kind, class) = (field(fixed)?, field(fixed + 2)?);
            let ttl_s = be32(self.bytes, fixed + 4).ok_or(Fault::Short)?;
            let data = fixed + 10;
            let end = data + usize::from(field(fixed + 8)?);
            if end > self.bytes.len() {
                return Err(Fault::Short);
            }
            let len = end - data;
            let fits = match kind {
                TYPE_A => len == 4,
                TYPE_AAAA => len == 16,
                TYPE_CNAME => skip(self.bytes, data, work)? == end,
                _ => true,
            };
            if class == CLASS_IN {
                if !fits {
                    return Err(Fault::Record);
                }
                //= RFC 2181 section 8: "Implementations should treat TTL values received with
                //= the most significant bit set as if the entire value received was zero"
                let ttl_s = if ttl_s >> 31 == 0 { ttl_s } else { 0 };
                let record = Record {
                    at,
                    kind,
                    ttl_s,
                    data,
                    end,
                };
                each(record, work)?;
            }
            at = end;
        }
        Ok(())
    }
}

/// How far CNAMEs have led.
struct Chain {
    name: Name,
    ttl_s: u32,
    steps: usize,
}

/// A record of class IN.
struct Record {
    /// Where its name is.
    at: usize,
    kind: u16,
    ttl_s: u32,
    /// Where its data begin and end.
    data: usize,
    end: usize,
}

/// What the last record's name was compared with: most point at one place.
#[derive(Default)]
struct Owner(Option<(u16, bool)>);

impl Owner {
    /// Whether the name at `at` is `name`, which is the same in all calls.
    fn is(&mut self, bytes: &[u8], at: usize, name: &Name, work: &mut Work) -> Result<bool, Fault> {
        let pointer = be16(bytes, at).filter(|it| it >> 14 == 3);
        if let (Some(pointer), Some((known, is))) = (pointer, self.0)
            && pointer == known
        {
            return Ok(is);
        }
        let is = decode(bytes, at, work)? == *name;
        self.0 = pointer.map(|it| (it, is));
        Ok(is)
    }
}

/// What may still be done, see [`WORK_MAX`].
struct Work(usize);

impl Work {
    fn spend(&mut self, cost: usize) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(cost).ok_or(Fault::TooMuch)?;
        Ok(())
    }
}

/// The name at `at`, which may go on elsewhere.
fn decode(bytes: &[u8], at: usize, work: &mut Work) -> Result<Name, Fault> {
    let mut name = Name::ROOT;
    let (mut at, mut before, mut hops) = (at, at, 0);
    for _ in 0..=LABELS_MAX + HOPS_MAX {
        let first = *bytes.get(at).ok_or(Fault::Short)?;
        work.spend(1)?;
        match first >> 6 {
            0 if first == 0 => return Ok(name),
            0 => {
                let end = at + 1 + usize::from(first);
                work.spend(usize::from(first) / 8)?;
                name.push(bytes.get(at + 1..end).ok_or(Fault::Short)?)?;
                at = end;
            }
            3 => {
                //= RFC 1035 section 4.1.4: "a pointer to a prior occurance of the same name"
                // Each leads further to the front, so none leads round.
                let target = usize::from(be16(bytes, at).ok_or(Fault::Short)? & 0x3fff);
                hops += 1;
                if target >= before || target < HEADER_LEN || hops > HOPS_MAX {
                    return Err(Fault::Name);
                }
                (at, before) = (target, target);
            }
            _ => return Err(Fault::Name),
        }
    }
    Err(Fault::Name)
}

/// Where what follows the name at `at` begins.
fn skip(bytes: &[u8], at: usize, work: &mut Work) -> Result<usize, Fault> {
    let mut at = at;
    for _ in 0..=LABELS_MAX {
        let first = *bytes.get(at).ok_or(Fault::Short)?;
        work.spend(1)?;
        match first >> 6 {
            0 if first == 0 => return Ok(at + 1),
            0 => at += 1 + usize::from(first),
            3 => {
                bytes.get(at + 1).ok_or(Fault::Short)?;
                return Ok(at + 2);
            }
            _ => return Err(Fault::Name),
        }
    }
    Err(Fault::Name)
}
