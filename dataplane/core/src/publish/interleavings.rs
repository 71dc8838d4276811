//! Every order in which a publisher and a worker can meet.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{PublishError, channel};

/// Which thread drops what is dropped.
struct Snapshot {
    number: usize,
    freed_here: loom::sync::Arc<AtomicUsize>,
    home: loom::thread::ThreadId,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.home, "a worker freed one");
        self.freed_here.fetch_add(1, Ordering::Relaxed);
    }
}

const SNAPSHOTS: usize = 4;

#[test]
fn each_snapshot_is_freed_by_the_publisher_and_the_last_is_in_force_when_it_says_so() {
    loom::model(|| {
        let freed = loom::sync::Arc::new(AtomicUsize::new(0));
        let home = thread::current().id();
        let make = |number| {
            Arc::new(Snapshot {
                number,
                freed_here: loom::sync::Arc::clone(&freed),
                home,
            })
        };
        let (mut publisher, mut subscriber) = channel(make(0));
        let worker = thread::spawn(move || {
            let mut seen = 0;
            for _ in 0..3 {
                subscriber.advance();
                let number = subscriber.current().number;
                assert!(number >= seen, "back to an older one");
                seen = number;
            }
            subscriber
        });
        let mut published = 0;
        for number in 1..SNAPSHOTS {
            match publisher.publish(make(number)) {
                Ok(()) => published = number,
                // Freed here, as it never left.
                Err(PublishError::Busy) => {}
                Err(PublishError::Gone) => panic!("nobody has gone"),
            }
        }
        let is_adopted = publisher.reclaim();
        let mut subscriber = worker.join().unwrap();
        if is_adopted {
            assert_eq!(subscriber.current().number, published);
        }
        subscriber.advance();
        assert!(publisher.reclaim(), "one is neither there nor back");
        assert_eq!(subscriber.current().number, published);
        drop(subscriber);
        assert_eq!(freed.load(Ordering::Relaxed), SNAPSHOTS);
    });
}
