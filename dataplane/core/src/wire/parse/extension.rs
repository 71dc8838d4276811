//! The chain of IPv6 extension headers (RFC 8200 section 4), walked within bounds.

use crate::reason::DropReason;
use crate::wire::bytes::{array, be16};

/// Extension headers in one packet, at most.
//= RFC 8504 section 5.3: a node may limit what of a chain it processes
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of all extension headers of one packet, at most.
pub const EXTENSION_BYTES_MAX: usize = 512;
/// Options other than padding in one options header, at most.
//= RFC 8504 section 5.3: "the default value SHOULD be set to 8"
pub const OPTIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const OPTION_PAD1: u8 = 0x00;
const OPTION_PADN: u8 = 0x01;
const OPTION_JUMBO: u8 = 0xc2;
const OPTION_HOME_ADDRESS: u8 = 0xc9;

const FRAGMENT_LEN: usize = 8;

/// What stands at the end of the chain.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Chain {
    /// The first header that isn't an extension; behind a later fragment's header
    /// whatever that one names.
    pub(in crate::wire) protocol: u8,
    /// Where that header starts.
    pub(in crate::wire) l4_off: usize,
    /// The fragment header, if there is one.
    pub(in crate::wire) fragment: Option<Fragment>,
}

/// The fields of a fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Fragment {
    /// Where its data belongs in the original's.
    pub(in crate::wire) offset_bytes: u16,
    /// Whether more fragments follow.
    pub(in crate::wire) more: bool,
    /// Where its data starts in the frame.
    pub(in crate::wire) data_off: usize,
}

/// Walks the chain that starts at `chain_off` with the header `next_header` names;
/// `frame` ends where the packet does.
///
/// AH, and whatever isn't known here, ends the chain as a protocol without ports.
///
/// # Errors
/// [`DropReason::Truncated`] if the packet ends inside a header,
/// [`DropReason::ExtensionHeaders`] past a bound or for a header that may not be there,
/// [`DropReason::Malformed`] if a header contradicts itself.
pub(in crate::wire) fn walk(
    frame: &[u8],
    chain_off: usize,
    next_header: u8,
) -> Result<Chain, DropReason> {
    let mut chain = Chain {
        protocol: next_header,
        l4_off: chain_off,
        fragment: None,
    };
    // One turn more than headers: the last one finds the transport header or gives up.
    for index in 0..=EXTENSIONS_MAX {
        let kind = chain.protocol;
        let len = match kind {
            //= RFC 8200 section 4.1: the Hop-by-Hop Options header "is restricted to appear
            //= immediately after an IPv6 header only"
            HOP_BY_HOP if index > 0 => return Err(DropReason::ExtensionHeaders),
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let header = variable(frame, chain.l4_off)?;
                if kind == ROUTING {
                    routing(header)?
                } else {
                    options(header)?
                }
                header.len()
            }
            FRAGMENT if chain.fragment.is_some() => return Err(DropReason::ExtensionHeaders),
            FRAGMENT => {
                chain.fragment = Some(fragment(frame, chain.l4_off)?);
                FRAGMENT_LEN
            }
            _ => return Ok(chain),
        };
        chain.protocol = *frame.get(chain.l4_off).ok_or(DropReason::Truncated)?;
        chain.l4_off += len;
        if chain.l4_off - chain_off > EXTENSION_BYTES_MAX {
            return Err(DropReason::ExtensionHeaders);
        }
        if chain.fragment.is_some_and(|f| f.offset_bytes != 0) {
            return Ok(chain);
        }
    }
    Err(DropReason::ExtensionHeaders)
}

/// The header at `at` that tells its own length, in units of 8 bytes past the first 8.
fn variable(frame: &[u8], at: usize) -> Result<&[u8], DropReason> {
    let [_, units] = array(frame, at).ok_or(DropReason::Truncated)?;
    let len = (usize::from(units) + 1) * 8;
    //= RFC 7112 section 5: "it MUST include the entire IPv6 Header Chain in the First Fragment"
    frame.get(at..at + len).ok_or(DropReason::Truncated)
}

/// Refuses routes that are still to be travelled: the destination in the IPv6 header
/// isn't where such a packet goes, so no policy could judge it. It is to IPv6 what the
/// refused source route options are to IPv4.
//= RFC 5095 section 3: a type 0 header is never executed
fn routing(header: &[u8]) -> Result<(), DropReason> {
    match *header {
        [_, _, kind, 0, ..] if kind != 0 => Ok(()),
        _ => Err(DropReason::ExtensionHeaders),
    }
}

/// Checks that options nest in their header and none changes what the packet is.
fn options(header: &[u8]) -> Result<(), DropReason> {
    let mut rest = header.get(2..).unwrap_or(&[]);
    let mut count = 0;
    // At most 2046 bytes, and each turn takes at least one.
    while let [kind, tail @ ..] = rest {
        rest = match *kind {
            OPTION_PAD1 => tail,
            OPTION_PADN => after_option(tail)?,
            // RFC 2675: no link here has an MTU that needs one.
            OPTION_JUMBO => return Err(DropReason::Malformed),
            // RFC 6275 section 6.3: it puts another address in the source's place, past
            // the guard.
            OPTION_HOME_ADDRESS => return Err(DropReason::ExtensionHeaders),
            _ => {
                count += 1;
                if count > OPTIONS_MAX {
                    return Err(DropReason::ExtensionHeaders);
                }
                after_option(tail)?
            }
        };
    }
    Ok(())
}

/// What follows an option whose length byte is the first of `tail`.
fn after_option(tail: &[u8]) -> Result<&[u8], DropReason> {
    let (len, data) = tail.split_first().ok_or(DropReason::Malformed)?;
    data.get(usize::from(*len)..).ok_or(DropReason::Malformed)
}

fn fragment(frame: &[u8], at: usize) -> Result<Fragment, DropReason> {
    let _whole: [u8; FRAGMENT_LEN] = array(frame, at).ok_or(DropReason::Truncated)?;
    let field = be16(frame, at + 2).ok_or(DropReason::Truncated)?;
    Ok(Fragment {
        offset_bytes: field & 0xfff8,
        more: field & 1 != 0,
        data_off: at + FRAGMENT_LEN,
    })
}
