//! What was asked for and can't be had: an error that names it, and nothing left open.

use sluice_dpdk::devargs::Devargs;
use sluice_dpdk::device::{Device, DeviceConfig, OpenError};
use sluice_dpdk::eal::{Eal, EalConfig, EalError, Memory};
use sluice_dpdk::pool::{Pool, PoolConfig};

use crate::Case;
use crate::bench::Bench;

pub(crate) const CASES: &[Case] = &[
    ("an_eal_starts_once", once),
    (
        "more_memory_than_there_is_is_refused_before_dpdk_starts",
        memory,
    ),
    ("a_pool_that_does_not_fit_is_refused", pool_memory),
    ("an_interface_that_is_not_there_is_named", no_interface),
    (
        "a_device_with_too_few_queues_says_how_to_have_more",
        few_queues,
    ),
    ("a_file_that_is_not_there_is_named", no_file),
    ("a_value_that_the_driver_refuses_is_named", bad_value),
    ("a_driver_that_does_not_exist_is_named", no_driver),
    ("a_device_is_open_once", open_once),
    ("one_device_of_several_that_fails_closes_all", all_or_none),
    ("an_mtu_that_the_driver_refuses_closes_the_device", bad_mtu),
];

fn refused(bench: &mut Bench, devargs: &str) -> OpenError {
    match bench.try_open(devargs, &DeviceConfig::default()) {
        Ok(_) => panic!("{devargs} came up"),
        Err(error) => {
            assert_eq!(
                bench.start().0.ports_open(),
                0,
                "{devargs}: nothing is open"
            );
            assert!(error.to_string().contains(devargs), "{error}");
            error
        }
    }
}

fn once(bench: &mut Bench) {
    bench.start();
    let again = Eal::init(&EalConfig::new(bench.memory())).unwrap_err();
    assert!(matches!(again, EalError::Claimed), "{again}");
}

fn memory(bench: &mut Bench) {
    let mib = 1 << 30;
    let config = EalConfig::new(match bench.memory() {
        Memory::Hugepages { .. } => Memory::Hugepages { mib },
        Memory::NoHuge { .. } => Memory::NoHuge { mib },
    });
    let said = Eal::init(&config).unwrap_err().to_string();
    assert!(said.contains("1073741824 MiB of"), "{said}");
    let huge = matches!(bench.memory(), Memory::Hugepages { .. });
    assert_eq!(said.contains("vm.nr_hugepages"), huge, "{said}");
    assert!(Eal::init(&EalConfig::new(Memory::NoHuge { mib: 0 })).is_err());
    // It was not tried, so it can be tried with less.
    bench.start();
}

fn pool_memory(bench: &mut Bench) {
    let (eal, _) = bench.start();
    let config = PoolConfig {
        name: "vast",
        frames: (1 << 23) - 1,
        frame_len_max: 9000,
        cache: 0,
    };
    let said = Pool::new(&eal, &config).unwrap_err().to_string();
    assert!(said.contains("\"vast\"") && said.contains("MiB"), "{said}");
    assert!(said.contains("memory"), "{said}");
    let twice = PoolConfig {
        name: "frames",
        frames: 63,
        ..config
    };
    let said = Pool::new(&eal, &twice).unwrap_err().to_string();
    assert!(said.contains("exists"), "{said}");
    let long = PoolConfig {
        name: "long",
        frames: 63,
        frame_len_max: u16::MAX,
        cache: 0,
    };
    assert!(Pool::new(&eal, &long).is_err());
}

fn no_interface(bench: &mut Bench) {
    for devargs in [
        "net_af_packet0,iface=nope0",
        "net_af_xdp0,iface=nope0",
        "net_pcap0,iface=nope0",
        "net_tap0,remote=nope0",
    ] {
        let error = refused(bench, devargs);
        assert!(matches!(&error, OpenError::NoInterface { interface, .. } if interface == "nope0"));
    }
}

fn few_queues(bench: &mut Bench) {
    crate::wire::veth(1500);
    let config = DeviceConfig {
        queues: 2,
        ..DeviceConfig::default()
    };
    let error = bench
        .try_open("net_af_packet0,iface=sl0", &config)
        .unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Queues {
                wanted: 2,
                most: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("qpairs=2"), "{error}");
    let enough = bench.try_open("net_af_packet0,iface=sl0,qpairs=2", &config);
    assert!(enough.is_ok());
}

fn no_file(bench: &mut Bench) {
    let error = refused(bench, "net_pcap0,rx_pcap=nope.pcap");
    assert!(matches!(&error, OpenError::NoFile { path, .. } if path == "nope.pcap"));
    refused(bench, "net_pcap0,tx_pcap=no/such/folder.pcap");
}

fn bad_value(bench: &mut Bench) {
    for devargs in [
        "net_memif0,role=king",
        "net_tap0,iface=an-interface-name-that-is-too-long",
        "net_tap0,iface=slt0,mac=02:00",
        "net_ring0,nodeaction=a",
    ] {
        refused(bench, devargs);
    }
    std::fs::write("text.pcap", "no capture").unwrap();
    refused(bench, "net_pcap0,rx_pcap=text.pcap");
}

fn no_driver(bench: &mut Bench) {
    for devargs in ["net_nul0", "crypto_null0", "0000:7f:1f.7", "eth0"] {
        refused(bench, devargs);
    }
}

fn open_once(bench: &mut Bench) {
    let (_device, _port) = bench.open("net_null0");
    let again = bench.try_open("net_null0,size=70", &DeviceConfig::default());
    let Err(OpenError::AlreadyOpen { name, .. }) = again else {
        panic!("{again:?}");
    };
    assert_eq!(name, "net_null0");
    assert_eq!(bench.start().0.ports_open(), 1, "the first stays");
}

fn all_or_none(bench: &mut Bench) {
    let (eal, pool) = bench.start();
    let asked = |all: [&str; 3]| all.map(|text| text.parse::<Devargs>().unwrap());
    let config = DeviceConfig::default();
    let bad = asked(["net_null0", "net_ring0", "net_af_packet0,iface=nope0"]);
    let error = Device::open_all(&eal, &bad, &config, &pool).unwrap_err();
    assert!(error.to_string().contains("nope0"), "{error}");
    assert_eq!(eal.ports_open(), 0);
    let good = asked(["net_null0", "net_ring0", "net_null1"]);
    let (devices, ports) = Device::open_all(&eal, &good, &config, &pool).unwrap();
    let names: Vec<_> = devices.iter().map(Device::name).collect();
    assert_eq!(names, ["net_null0", "net_ring0", "net_null1"]);
    assert_eq!(ports.len(), 3);
    assert_eq!(eal.ports_open(), 3);
}

fn bad_mtu(bench: &mut Bench) {
    let config = DeviceConfig {
        mtu: Some(9000),
        ..DeviceConfig::default()
    };
    crate::wire::veth(1500);
    let refused = bench.try_open("net_af_packet0,iface=sl0", &config);
    let Err(OpenError::Setup { step, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(step.contains("MTU"), "{step}");
    assert_eq!(bench.start().0.ports_open(), 0);
}
