//! How the ends of a probe are written.

use std::net::IpAddr;

use crate::probe::Party;

/// A text that names no party.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not namespace/pod, node:NAME or an IP address")]
pub struct PartyError {
    /// The text.
    pub text: String,
}

/// Reads `namespace/pod`, `node:NAME` or an IP address.
///
/// # Errors
/// [`PartyError`] for anything else.
pub fn parse_party(text: &str) -> Result<Party, PartyError> {
    let error = || PartyError {
        text: text.to_owned(),
    };
    let named = |name: &str| {
        let fits = !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_whitespace());
        fits.then(|| name.to_owned()).ok_or_else(error)
    };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Party::Outside(ip));
    }
    if let Some(node) = text.strip_prefix("node:") {
        return Ok(Party::Node(named(node)?));
    }
    let (namespace, name) = text.split_once('/').ok_or_else(error)?;
    Ok(Party::Pod {
        namespace: named(namespace)?,
        name: named(name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_prints_as_it_is_read() {
        for text in ["shop/cart", "node:node-a", "192.0.2.7", "2001:db8::7"] {
            assert_eq!(parse_party(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "cart", "shop/", "/cart", "a/b/c", "node:", "node:a/b", "1.2.3", "a b/c",
        ] {
            assert!(parse_party(text).is_err(), "{text:?}");
        }
    }
}
