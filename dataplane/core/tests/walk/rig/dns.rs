//! DNS messages (RFC 1035 section 4), as a resolver and its clients write them.

use core::net::IpAddr;

/// The question's name, which stands in front of everything else.
pub(crate) const QUESTION: [u8; 2] = [0xc0, 12];

/// A name with its labels' lengths, and the root.
pub(crate) fn dns_name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| {
        let len = u8::try_from(label.len()).unwrap();
        [&[len], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}

/// A record of class IN.
pub(crate) fn dns_record(owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend([kind, 1].map(u16::to_be_bytes).concat());
    record.extend(ttl_s.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

/// An address of an owner's.
pub(crate) fn dns_addr(owner: &[u8], ip: IpAddr, ttl_s: u32) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => dns_record(owner, 1, ttl_s, &ip.octets()),
        IpAddr::V6(ip) => dns_record(owner, 28, ttl_s, &ip.octets()),
    }
}

fn message(id: u16, bits: u16, name: &str, kind: u16, answers: &[Vec<u8>]) -> Vec<u8> {
    let records = u16::try_from(answers.len()).unwrap();
    let mut bytes = [id, bits, 1, records, 0, 0].map(u16::to_be_bytes).concat();
    bytes.extend(dns_name(name));
    bytes.extend([kind, 1].map(u16::to_be_bytes).concat());
    bytes.extend(answers.concat());
    bytes
}

/// A question for addresses: 1 of IPv4, 28 of IPv6.
pub(crate) fn dns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    message(id, 0x0100, name, kind, &[])
}

/// The answer to it, of these records.
pub(crate) fn dns_answer(id: u16, name: &str, kind: u16, answers: &[Vec<u8>]) -> Vec<u8> {
    message(id, 0x8180, name, kind, answers)
}
