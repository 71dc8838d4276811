//! ESP inside UDP, for paths that only pass UDP (RFC 3948).

/// The UDP port that IKE and ESP share, at both ends.
pub const PORT_NAT_T: u16 = 4500;

/// Four zero bytes where ESP has its SPI: what follows is IKE.
const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// What the payload of a UDP datagram on port 4500 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpEncap {
    /// ESP: the payload goes to the SA that its first four bytes name.
    Esp,
    /// IKE behind the non-ESP marker.
    Ike,
    /// A keepalive that holds a NAT's mapping; ignore it.
    Keepalive,
    /// Too short for any of them; drop it.
    Runt,
}

/// Tells what a UDP payload on port 4500 is. `Esp` means only that it is none of the others.
///
//= RFC 3948 section 2.2
//# The Non-ESP Marker is 4 zero-valued bytes aligning with the SPI field of an ESP packet.
//
//= RFC 3948 section 2.3
//# The sender MUST use a one-octet-long payload with the value 0xFF.
#[must_use]
pub fn esp_in_udp(payload: &[u8]) -> UdpEncap {
    match payload {
        [0xff] => UdpEncap::Keepalive,
        _ => match payload.first_chunk() {
            Some(&NON_ESP_MARKER) => UdpEncap::Ike,
            Some(_) => UdpEncap::Esp,
            None => UdpEncap::Runt,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_esp_from_ike_and_keepalives() {
        assert_eq!(esp_in_udp(&[0xff]), UdpEncap::Keepalive);
        assert_eq!(esp_in_udp(&[0, 0, 0, 0]), UdpEncap::Ike);
        assert_eq!(esp_in_udp(&[0, 0, 0, 0, 9]), UdpEncap::Ike);
        assert_eq!(esp_in_udp(&[0, 0, 1, 0, 9]), UdpEncap::Esp);
        assert_eq!(esp_in_udp(&[0xff, 0xff, 0xff, 0xff]), UdpEncap::Esp);
    }

    #[test]
    fn what_is_too_short_for_an_spi_is_a_runt() {
        for runt in [&[][..], &[0], &[0xfe], &[0xff, 0xff], &[0, 0, 0]] {
            assert_eq!(esp_in_udp(runt), UdpEncap::Runt);
        }
    }
}
