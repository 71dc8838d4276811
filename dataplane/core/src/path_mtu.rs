//! What the path between two nodes takes, as routers on it say (RFC 1191, RFC 8201; RFC 4301
//! section 8.2 for tunnels).

use crate::tick::Tick;

/// How long it holds: then larger packets are tried again.
//= RFC 8201 section 4: "An attempt to detect an increase ... MUST NOT be done less than 5 minutes
//= after a Packet Too Big message has been received for the given path. The recommended setting
//= for this timer is twice its minimum value (10 minutes)."
pub const HOLDS_NS: u64 = 600 * Tick::SECOND;

/// The least that is believed over IPv4. Its own least is 68; RFC 791 has every host take 576,
/// and no link in use carries less.
pub const PATH_MTU_MIN_V4: u32 = 576;
/// The same over IPv6.
//= RFC 8201 section 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6
//= minimum link MTU"
pub const PATH_MTU_MIN_V6: u32 = 1280;

/// The least that is believed of a path of a family.
#[must_use]
pub const fn least(is_v4: bool) -> u32 {
    if is_v4 {
        PATH_MTU_MIN_V4
    } else {
        PATH_MTU_MIN_V6
    }
}

/// The largest packet that a path takes, for as long as that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathMtu {
    mtu: u16,
    until: Tick,
}

impl Default for PathMtu {
    /// As much as the link.
    fn default() -> Self {
        Self {
            mtu: u16::MAX,
            until: Tick(0),
        }
    }
}

impl PathMtu {
    /// What goes by a path that begins with a link of `link_mtu` bytes.
    #[inline]
    #[must_use]
    pub fn within(&self, link_mtu: usize, now: Tick) -> usize {
        let mtu = usize::from(self.mtu);
        // Most paths are as wide as their link: then there is no time to ask.
        if mtu >= link_mtu || now >= self.until {
            link_mtu
        } else {
            mtu
        }
    }

    /// A router says that no more than `mtu` bytes pass. Whether that is news: what asks for more
    /// than is sent now changes nothing, nor when it ends.
    pub fn lower(&mut self, mtu: u16, now: Tick) -> bool {
        if usize::from(mtu) >= self.within(usize::from(u16::MAX), now) {
            return false;
        }
        *self = Self {
            mtu,
            until: now + HOLDS_NS,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_wider_than_its_link_and_narrow_for_ten_minutes() {
        let (start, mut path) = (Tick(7 * Tick::SECOND), PathMtu::default());
        assert_eq!(path.within(1500, start), 1500);
        assert_eq!(path.within(9000, start), 9000);
        assert!(path.lower(1400, start));
        assert_eq!(path.within(1500, start), 1400);
        assert_eq!(path.within(1300, start), 1300);
        assert!(!path.lower(1400, start + 1) && !path.lower(1450, start + 1));
        let last = Tick(start.0 + HOLDS_NS - 1);
        assert_eq!(path.within(1500, last), 1400);
        assert_eq!(path.within(1500, last + 1), 1500);
        assert!(path.lower(1450, last + 1), "wider than what has ended");
        assert!(path.lower(1300, last + 2));
        assert_eq!(path.within(1500, last + 2), 1300);
    }
}
