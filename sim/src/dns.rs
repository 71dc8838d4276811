//! DNS messages as an honest resolver and its clients write them (RFC 1035 section 4).

use std::net::IpAddr;

/// Bits of a query that wants recursion, and of a whole answer to it.
const QUERY: u16 = 0x0100;
const RESPONSE: u16 = 0x8180;
/// Where the question's name is: in front of everything else.
const QUESTION: u16 = 0xc00c;
const CLASS_IN: u16 = 1;

/// What is asked of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// The name that it stands for.
    Cname = 5,
    /// IPv6 addresses.
    Aaaa = 28,
}

impl Kind {
    /// The kind of record that an address stands in.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::A,
            IpAddr::V6(_) => Self::Aaaa,
        }
    }
}

/// A name as it stands in a message: labels of its text with their lengths, and the root.
#[must_use]
pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|it| !it.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A message in the making. Its fields are as they are on the wire, so that a test can make
/// any of them wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Chosen by who asks.
    pub id: u16,
    /// The header's bits.
    pub bits: u16,
    /// The question's name.
    pub name: Vec<u8>,
    /// What is asked.
    pub kind: u16,
    /// The answers, each as it stands on the wire.
    pub answers: Vec<Vec<u8>>,
}

impl Message {
    /// A question.
    #[must_use]
    pub fn query(id: u16, text: &str, kind: Kind) -> Self {
        Self {
            id,
            bits: QUERY,
            name: name(text),
            kind: kind as u16,
            answers: Vec::new(),
        }
    }

    /// Its answer, so far of no records.
    #[must_use]
    pub fn answer(&self) -> Self {
        Self {
            bits: RESPONSE,
            ..self.clone()
        }
    }

    /// With an address of the question's name.
    #[must_use]
    pub fn addr(self, ip: IpAddr, ttl_s: u32) -> Self {
        self.record(&QUESTION.to_be_bytes(), ip, ttl_s)
    }

    /// With an address of a name.
    #[must_use]
    pub fn addr_of(self, owner: &str, ip: IpAddr, ttl_s: u32) -> Self {
        self.record(&name(owner), ip, ttl_s)
    }

    fn record(self, owner: &[u8], ip: IpAddr, ttl_s: u32) -> Self {
        let data = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.raw(owner, Kind::of(ip) as u16, ttl_s, &data)
    }

    /// With what a name stands for.
    #[must_use]
    pub fn cname(self, owner: &str, target: &str, ttl_s: u32) -> Self {
        self.raw(&name(owner), Kind::Cname as u16, ttl_s, &name(target))
    }

    /// With a record of any kind.
    #[must_use]
    pub fn raw(mut self, owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Self {
        let mut record = owner.to_vec();
        record.extend(kind.to_be_bytes());
        record.extend(CLASS_IN.to_be_bytes());
        record.extend(ttl_s.to_be_bytes());
        record.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        record.extend(data);
        self.answers.push(record);
        self
    }

    /// The message as it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let records = u16::try_from(self.answers.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::new();
        for word in [self.id, self.bits, 1, records, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.name);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes.extend(self.answers.iter().flatten());
        bytes
    }
}
