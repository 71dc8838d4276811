//! Congestion marks at the end of a tunnel.

/// The two bits of explicit congestion notification in a TOS or traffic class byte.
const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The inner TOS or traffic class byte after decapsulation, or `None` if the packet must be
/// dropped. The inner DSCP stays; only the two ECN bits may change.
///
/// ```text
///                        outer
///   inner     Not-ECT   ECT(0)   ECT(1)   CE
///   Not-ECT   Not-ECT   Not-ECT  Not-ECT  drop
///   ECT(0)    ECT(0)    ECT(0)   ECT(1)   CE
///   ECT(1)    ECT(1)    ECT(1)   ECT(1)   CE
///   CE        CE        CE       CE       CE
/// ```
///
//= RFC 6040 section 4.2, figure 4
#[must_use]
pub const fn decap_ecn(outer_tos: u8, inner_tos: u8) -> Option<u8> {
    let ecn = match (inner_tos & ECN_MASK, outer_tos & ECN_MASK) {
        (NOT_ECT, CE) => return None,
        (NOT_ECT, _) => NOT_ECT,
        (_, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (inner, _) => inner,
    };
    Some(inner_tos & !ECN_MASK | ecn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_as_in_figure_4_of_rfc_6040() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(
                    decap_ecn(outer, inner),
                    expected,
                    "inner {inner}, outer {outer}"
                );
            }
        }
    }

    #[test]
    fn the_inner_dscp_is_kept_and_the_outer_one_ignored() {
        assert_eq!(decap_ecn(0b1111_1111, 0b1011_1010), Some(0b1011_1011));
        assert_eq!(decap_ecn(0b1111_1100, 0b1011_1010), Some(0b1011_1010));
        assert_eq!(decap_ecn(0b1111_1111, 0b1011_1000), None);
    }
}
