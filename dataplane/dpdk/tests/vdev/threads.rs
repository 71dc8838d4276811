//! Worker threads.

use std::sync::{Arc, Barrier};
use std::thread;

use sluice_dataplane_core::port::Port;
use sluice_dpdk::lcore::{Lcore, LcoreError};

use crate::Case;
use crate::bench::{Bench, numbered, poll, until};

pub(crate) const CASES: &[Case] = &[
    ("worker_threads_have_caches_of_their_own", workers),
    ("the_main_thread_is_a_worker_already", main_thread),
    ("a_cpu_that_is_not_there_is_named", no_cpu),
];

fn workers(bench: &mut Bench) {
    let (eal, pool) = bench.start();
    let pairs = ["net_ring0", "net_ring1"].map(|devargs| bench.open(devargs));
    let both_in = Arc::new(Barrier::new(2));
    let workers = pairs.map(|(device, mut port)| {
        let both_in = Arc::clone(&both_in);
        thread::spawn(move || {
            let lcore = Lcore::enter(&eal, Some(0)).unwrap();
            assert_ne!(lcore.id(), 0, "not the main thread's");
            both_in.wait();
            for n in 0..50 {
                let sent: Vec<_> = (0..20).map(|k| numbered(n + k, 77)).collect();
                for bytes in &sent {
                    assert!(port.tx(pool.frame(bytes).unwrap()).is_ok());
                }
                port.flush();
                let mut got = Vec::new();
                until("they come", || {
                    got.extend(poll(&mut port));
                    got.len() == sent.len()
                });
                assert_eq!(got, sent);
            }
            // The port goes on to whoever takes it: a thread owns none for ever.
            (device, port, lcore.id())
        })
    });
    let ended = workers.map(|worker| worker.join().unwrap());
    assert_ne!(ended[0].2, ended[1].2, "each its own");
}

fn main_thread(bench: &mut Bench) {
    let (eal, _) = bench.start();
    let refused = Lcore::enter(&eal, None).unwrap_err();
    assert!(matches!(refused, LcoreError::Registered(0)), "{refused}");
}

fn no_cpu(bench: &mut Bench) {
    let (eal, _) = bench.start();
    let worker = thread::spawn(move || Lcore::enter(&eal, Some(900)).unwrap_err().to_string());
    let said = worker.join().unwrap();
    assert!(said.contains("CPU 900"), "{said}");
}
