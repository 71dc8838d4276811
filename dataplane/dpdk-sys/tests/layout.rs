//! Whether bindgen's `rte_mbuf` is the C compiler's: everything that reads a frame's length
//! or address in Rust stands on it.

use std::mem::{align_of, offset_of, size_of};

use sluice_dpdk_sys::{rte_mbuf, sluice_mbuf_layout, sluice_mbuf_layout_of_c};

#[test]
fn rust_has_the_fields_of_an_mbuf_where_c_has_them() {
    // SAFETY: reads constants; no EAL needed, no precondition.
    let c: sluice_mbuf_layout = unsafe { sluice_mbuf_layout_of_c() };
    let field = |name: &str, c: usize, rust: usize| assert_eq!(c, rust, "{name}");
    field("size", c.size, size_of::<rte_mbuf>());
    field("align", c.align, align_of::<rte_mbuf>());
    field("buf_addr", c.buf_addr, offset_of!(rte_mbuf, buf_addr));
    field("data_off", c.data_off, offset_of!(rte_mbuf, data_off));
    field("refcnt", c.refcnt, offset_of!(rte_mbuf, refcnt));
    field("nb_segs", c.nb_segs, offset_of!(rte_mbuf, nb_segs));
    field("ol_flags", c.ol_flags, offset_of!(rte_mbuf, ol_flags));
    field("pkt_len", c.pkt_len, offset_of!(rte_mbuf, pkt_len));
    field("data_len", c.data_len, offset_of!(rte_mbuf, data_len));
    field("buf_len", c.buf_len, offset_of!(rte_mbuf, buf_len));
}
