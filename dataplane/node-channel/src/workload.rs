//! The node's SVID, key and trust bundle from a SPIFFE Workload API, such as a SPIRE agent's
//! (SPIFFE Workload API, section 5), instead of from files.
//!
//! A task follows the API's stream for ever and tells the driver what comes. Nothing of it ends an
//! SA by itself: see [`News`].

mod client;
mod proto;
mod response;

use std::path::PathBuf;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::client::{RESPONSE_LEN_MAX, WorkloadError};
pub use self::response::{ResponseError, SVIDS_MAX};
use crate::identity::Identity;
use sluice_svid::{SpiffeId, TrustDomain};

/// Longest text of the API's that is passed on, in characters.
const TEXT_LEN_MAX: usize = 256;

/// Where a Workload API is, and how patiently it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadApi {
    /// Its Unix socket. Who serves it decides who this node is and whom it trusts.
    pub socket: PathBuf,
    /// Bound on the first answer, connecting included.
    pub answer_ms_max: u64,
    /// Pause before it is asked anew, the first time; each time twice as long, less up to half at
    /// random.
    pub pause_ms_min: u64,
    /// The longest pause. A stream that stood so long makes the next pause the first again.
    pub pause_ms_max: u64,
}

impl WorkloadApi {
    /// Ten seconds for an answer, pauses from a quarter of a second to thirty.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            answer_ms_max: 10_000,
            pause_ms_min: 250,
            pause_ms_max: 30_000,
        }
    }
}

/// What the driver is told.
pub(crate) enum News {
    /// A good response. What it says is in force from now on.
    Identity(Box<Identity>),
    /// This node is not entitled to an SVID, or no longer: no session begins with the one that it
    /// had.
    Withdrawn(WorkloadError),
    /// Nothing new can be had. What came before is good for as long as its time says.
    Fault(WorkloadError),
}

impl News {
    fn of(why: WorkloadError) -> Self {
        if why.is_withdrawal() {
            Self::Withdrawn(why)
        } else {
            Self::Fault(why)
        }
    }
}

/// Follows the API until nobody listens to `news` any more.
pub(crate) async fn follow(
    api: WorkloadApi,
    id: SpiffeId,
    domain: TrustDomain,
    news: mpsc::Sender<News>,
) {
    let random = SystemRandom::new();
    let mut pauses = Pauses::new(&api);
    loop {
        let began = Instant::now();
        let Some(why) = client::follow_stream(&api, &id, &domain, &news).await else {
            return;
        };
        let stood = began.elapsed();
        if news.send(News::of(why)).await.is_err() {
            return;
        }
        let mut drawn = [0; 8];
        if random.fill(&mut drawn).is_err() {
            tracing::warn!("no random numbers: the pause is as long as others'");
        }
        tokio::time::sleep(pauses.next(stood, u64::from_be_bytes(drawn))).await;
    }
}

/// How long to wait between two streams.
struct Pauses {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Pauses {
    fn new(api: &WorkloadApi) -> Self {
        let min_ms = api.pause_ms_min.max(1);
        Self {
            min_ms,
            max_ms: api.pause_ms_max.max(min_ms),
            next_ms: min_ms,
        }
    }

    /// The next pause, after a stream that stood so long; `drawn` is any number.
    fn next(&mut self, stood: Duration, drawn: u64) -> Duration {
        if stood >= Duration::from_millis(self.max_ms) {
            self.next_ms = self.min_ms;
        }
        let full = self.next_ms;
        self.next_ms = full.saturating_mul(2).min(self.max_ms);
        Duration::from_millis(full - drawn % (full / 2 + 1))
    }
}

/// Text of the API's, fit for a log line.
fn shortened(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(TEXT_LEN_MAX).collect();
    if text.escape_debug().nth(TEXT_LEN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_and_begin_again_after_a_long_stream() {
        let mut api = WorkloadApi::new("s".into());
        (api.pause_ms_min, api.pause_ms_max) = (100, 350);
        let mut pauses = Pauses::new(&api);
        let ms = Duration::from_millis;
        let full: Vec<_> = (0..4).map(|_| pauses.next(ms(10), 0)).collect();
        assert_eq!(full, [ms(100), ms(200), ms(350), ms(350)]);
        assert_eq!(pauses.next(ms(350), 0), ms(100));
        for drawn in [1, 99, 100, 101, u64::MAX] {
            let pause = pauses.next(ms(350), drawn);
            assert!((ms(50)..=ms(100)).contains(&pause), "{drawn}: {pause:?}");
        }
    }

    #[test]
    fn what_the_api_says_is_one_short_line() {
        assert_eq!(shortened("a\nb"), "a\\nb");
        let shown = shortened(&"x".repeat(TEXT_LEN_MAX + 1));
        assert_eq!(shown.chars().count(), TEXT_LEN_MAX + 1);
        assert!(shown.ends_with('…'));
    }
}
