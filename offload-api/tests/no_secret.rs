//! No message has a field for a secret: architecture decision 8.

use prost::{DecodeError, Message as _};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use sluice_offload_api::proto::FILE_DESCRIPTOR_SET;

/// Parts of names that a secret could go by.
const SUSPECTS: [&str; 10] = [
    "key", "secret", "salt", "keymat", "exporter", "psk", "password", "token", "nonce", "private",
];

/// All byte fields there are. A new one is looked at before it is added here.
const BYTE_FIELDS: [&str; 13] = [
    "Endpoint.ips",
    "Endpoint.mac",
    "Flow.dst",
    "Flow.src",
    "FlowVerdict.dst",
    "FlowVerdict.src",
    "Interface.addr",
    "Interface.gateway",
    "IpPrefix.addr",
    "Name.ip",
    "Peer.tunnel_ips",
    "Port.mac",
    "Sa.fingerprint",
];

/// Every field of every message, nested ones too: its name and type.
fn fields() -> Result<Vec<(String, Type)>, DecodeError> {
    fn walk(message: &DescriptorProto, into: &mut Vec<(String, Type)>) {
        for field in &message.field {
            let name = format!("{}.{}", message.name(), field.name());
            into.push((name, field.r#type()));
        }
        for nested in &message.nested_type {
            walk(nested, into);
        }
    }
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    let mut all = Vec::new();
    for message in files.file.iter().flat_map(|file| &file.message_type) {
        walk(message, &mut all);
    }
    Ok(all)
}

#[test]
fn no_field_is_named_like_a_secret() -> Result<(), DecodeError> {
    let fields = fields()?;
    assert!(
        fields.len() > 100,
        "only {} fields were found",
        fields.len()
    );
    for (name, _) in fields {
        let suspect = SUSPECTS.iter().find(|it| name.to_lowercase().contains(*it));
        assert_eq!(suspect, None, "{name} could hold a secret");
    }
    Ok(())
}

#[test]
fn every_byte_field_is_known() -> Result<(), DecodeError> {
    let mut bytes: Vec<_> = fields()?
        .into_iter()
        .filter(|(_, kind)| *kind == Type::Bytes)
        .map(|(name, _)| name)
        .collect();
    bytes.sort();
    assert_eq!(bytes, BYTE_FIELDS);
    Ok(())
}
