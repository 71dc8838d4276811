//! Snapshots across real threads: adopted in order, freed where they were made.
//!
//! `src/publish/interleavings.rs` has loom try every order; here are many turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::{self, ThreadId};

use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::publish::{PublishError, Publisher, channel};
use sluice_dataplane_core::snapshot::Snapshot;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};

use crate::rig::*;

const SNAPSHOTS: u64 = 5_000;

fn publish<T>(publisher: &mut Publisher<T>, what: &Arc<T>) {
    loop {
        match publisher.publish(Arc::clone(what)) {
            Ok(()) => return,
            Err(PublishError::Busy) => thread::yield_now(),
            Err(PublishError::Gone) => panic!("the worker has ended"),
        }
    }
}

/// Polls a worker until told to stop, a packet that begins a flow in each poll.
fn work(hand_over: &mpsc::Sender<sluice_dataplane_core::worker::WorkerHandle>, stop: &AtomicBool) {
    let pool = MemPool::new(64);
    let ports = PORT_NAMES.map(|_| MemPort::new(&pool, 64)).into();
    let config = WorkerConfig::new(64, [1, 2]);
    let (mut worker, handle) = Worker::new(ports, &config).unwrap();
    hand_over.send(handle).unwrap();
    let frame = Side::A
        .pod_sends(0, Side::A.pod(1, true), udp(1, 2))
        .build();
    let mut now = START;
    while !stop.load(Ordering::Relaxed) {
        now = now + 1_000;
        worker.ports_mut()[usize::from(VF0.0)].deliver(pool.frame(&frame).unwrap());
        worker.poll(now);
        for port in worker.ports_mut() {
            while port.collect().is_some() {}
        }
    }
    worker.poll(now);
}

#[test]
fn a_worker_adopts_in_order_and_everything_comes_back() {
    let (to_main, from_worker) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let stop_worker = Arc::clone(&stop);
    let worker = thread::spawn(move || work(&to_main, &stop_worker));
    let mut handle = from_worker.recv().unwrap();

    // Denials only: each poll leaves a verdict with the generation that was in force.
    let mut plan = Plan::open(Side::A);
    plan.repolicy(0, Policy::CLOSED);
    let template = (*plan.snapshot()).clone();
    let mut published: Vec<Weak<Snapshot>> = Vec::new();
    let mut seen = Vec::new();
    for generation in 1..=SNAPSHOTS {
        let snapshot = Arc::new(Snapshot {
            generation,
            ..template.clone()
        });
        published.push(Arc::downgrade(&snapshot));
        publish(&mut handle.snapshots, &snapshot);
        seen.extend(std::iter::from_fn(|| handle.verdicts.next()).map(|v| v.generation));
    }
    while !handle.snapshots.reclaim() {
        thread::yield_now();
    }
    let dead = |w: &Weak<Snapshot>| w.upgrade().is_none();
    let (last, before) = published.split_last().unwrap();
    assert!(
        before.iter().all(dead),
        "all but the one in force were freed"
    );
    assert!(!dead(last));

    while seen.last() != Some(&SNAPSHOTS) {
        seen.extend(std::iter::from_fn(|| handle.verdicts.next()).map(|v| v.generation));
        thread::yield_now();
    }
    assert!(seen.is_sorted(), "a generation came back");
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap();
    assert!(dead(last), "the worker's own goes with it");
    assert!(handle.counters.ports().iter().all(|p| p.balance() == 0));
    let gone = handle.snapshots.publish(Arc::new(template));
    assert_eq!(gone, Err(PublishError::Gone));
}

/// Says on which thread it was dropped.
struct Tell(u64, Arc<Mutex<Vec<(u64, ThreadId)>>>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.1
            .lock()
            .unwrap()
            .push((self.0, thread::current().id()));
    }
}

#[test]
fn what_was_replaced_is_freed_on_the_publishers_thread() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let tell = |n| Arc::new(Tell(n, Arc::clone(&dropped)));
    let (mut publisher, mut subscriber) = channel(tell(0));
    let worker = thread::spawn(move || {
        let mut last = 0;
        while last < SNAPSHOTS {
            subscriber.advance();
            let now = subscriber.current().0;
            assert!(now >= last);
            last = now;
        }
        subscriber
    });
    for n in 1..=SNAPSHOTS {
        publish(&mut publisher, &tell(n));
    }
    let _subscriber = worker.join().unwrap();
    assert!(publisher.reclaim());
    let dropped = dropped.lock().unwrap();
    let order: Vec<_> = dropped.iter().map(|d| d.0).collect();
    assert_eq!(order, (0..SNAPSHOTS).collect::<Vec<_>>());
    let here = thread::current().id();
    assert!(dropped.iter().all(|d| d.1 == here));
}
