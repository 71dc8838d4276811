//! Frame to `Meta`: `wire::parse` alone, by kind of packet.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_bench::frames::of_len;
use sluice_bench::{Side, timing};
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::wire;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

const UDP: Body = Body::Udp {
    src_port: 1,
    dst_port: 2,
};

const V6_SRC: Addr = Addr(0xfd00 << 112 | 1);
const V6_DST: Addr = Addr(0xfd00 << 112 | 2);

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let (mac, src) = Side::A.source();
    let dst = Side::B.pod(0);
    let v4 = |body| of_len((mac, src), dst, body, 512);
    let v6 = |body| of_len((mac, V6_SRC), V6_DST, body, 512);
    let tcp = Body::Tcp {
        src_port: 1,
        dst_port: 2,
        flags: 0x10,
        seq: 1,
        ack: 1,
        mss: None,
    };
    let tagged = FrameSpec {
        vlan: Some(7),
        payload: vec![0; 466],
        ..FrameSpec::new(src.into(), dst.into(), UDP)
    };
    // Destination options of eight bytes, then UDP.
    let mut extended = v6(UDP);
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[20] = 60;
    let payload_len = u16::try_from(extended.len() - 54).unwrap_or(0);
    extended[18..20].copy_from_slice(&payload_len.to_be_bytes());
    vec![
        ("ipv4-udp", v4(UDP)),
        ("ipv4-tcp", v4(tcp)),
        ("ipv4-esp", v4(Body::Other { protocol: 50 })),
        ("ipv4-udp-vlan", tagged.build()),
        ("ipv6-udp", v6(UDP)),
        ("ipv6-tcp", v6(tcp)),
        ("ipv6-options-udp", extended),
    ]
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, frame) in frames() {
        assert!(wire::parse(&frame).is_ok(), "{name} parses");
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: frame.len() as u64,
        });
        group.bench_with_input(BenchmarkId::from_parameter(name), &frame, |b, frame| {
            b.iter(|| wire::parse(black_box(frame)));
        });
    }
    let frame = frames().remove(0).1;
    group.bench_function("noop", |b| b.iter(|| black_box(frame.as_slice()).len()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(timing::SAMPLES)
        .warm_up_time(timing::WARM_UP)
        .measurement_time(timing::MEASURE);
    targets = parse
}
criterion_main!(benches);
