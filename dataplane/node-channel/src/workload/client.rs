//! One stream of the Workload API: asked for, and followed until it ends.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use super::proto::{SpiffeWorkloadApiClient, X509svidRequest, X509svidResponse};
use super::response::{self, ResponseError};
use super::{News, WorkloadApi, shortened};
use sluice_svid::{SpiffeId, TrustDomain};

/// Longest response, in bytes: as the longest file.
pub const RESPONSE_LEN_MAX: usize = 1 << 20;

/// Without it a server refuses to answer, so that no one who is only made to send requests to a
/// URL gets an SVID (SPIFFE Workload Endpoint, section 5).
const HEADER: &str = "workload.spiffe.io";

/// How often a server that says nothing is asked whether it lives: one that hangs keeps its socket
/// open. SPIRE's gRPC library takes pings that come more often than every five minutes for an
/// attack.
const PING_EVERY: Duration = Duration::from_secs(360);

/// What the Workload API doesn't give, and why.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A path that can't be asked at.
    #[error("the Workload API's socket {} is no path in UTF-8", socket.display())]
    Path {
        /// The path.
        socket: PathBuf,
    },
    /// Nobody is there.
    #[error(
        "can't reach the Workload API at {}: {why}; does the SPIRE agent run, and may this \
         process use its socket?",
        socket.display()
    )]
    Connect {
        /// Where.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// Somebody is there who doesn't answer.
    #[error("the Workload API at {} gives no answer within {ms} ms", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// The bound.
        ms: u64,
    },
    /// It has nothing for us.
    #[error(
        "the Workload API at {} grants this process no SVID: {message}; is there a registration \
         entry of {id} whose selectors it fits?",
        socket.display()
    )]
    Denied {
        /// Where.
        socket: PathBuf,
        /// Who we are.
        id: SpiffeId,
        /// What it says, shortened.
        message: String,
    },
    /// It refuses, or the connection broke.
    #[error("the Workload API at {}: {code}: {message}", socket.display())]
    Status {
        /// Where.
        socket: PathBuf,
        /// The gRPC status.
        code: Code,
        /// What it says, shortened.
        message: String,
    },
    /// The stream is over.
    #[error("the Workload API at {} has ended its stream", socket.display())]
    Ended {
        /// Where.
        socket: PathBuf,
    },
    /// A response that is no identity of this node.
    #[error("the Workload API at {}: {why}", socket.display())]
    Response {
        /// Where.
        socket: PathBuf,
        /// What is wrong.
        why: ResponseError,
    },
}

impl WorkloadError {
    fn of_status(api: &WorkloadApi, id: &SpiffeId, status: &Status) -> Self {
        let socket = api.socket.clone();
        let message = shortened(status.message());
        match status.code() {
            Code::PermissionDenied => Self::Denied {
                socket,
                id: id.clone(),
                message,
            },
            code => Self::Status {
                socket,
                code,
                message,
            },
        }
    }

    /// Whether this node is no longer entitled to its SVID (SPIFFE Workload API 5.2.1), and not
    /// just out of reach of a new one.
    pub(super) fn is_withdrawal(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Response { why, .. } => why.is_withdrawal(),
            _ => false,
        }
    }
}

/// Follows one stream. Gives why it ended, or `None` if nobody wants to hear of it any more.
pub(super) async fn follow_stream(
    api: &WorkloadApi,
    id: &SpiffeId,
    domain: &TrustDomain,
    news: &mpsc::Sender<News>,
) -> Option<WorkloadError> {
    let wait = Duration::from_millis(api.answer_ms_max);
    let silent = || WorkloadError::Silent {
        socket: api.socket.clone(),
        ms: api.answer_ms_max,
    };
    let asked = async {
        let mut stream = ask(api, id, wait).await?;
        let first = next(&mut stream, api, id).await?;
        Ok((stream, first))
    };
    let (mut stream, mut response) = match timeout(wait, asked).await {
        Ok(Ok(it)) => it,
        Ok(Err(why)) => return Some(why),
        Err(_) => return Some(silent()),
    };
    loop {
        let identity = response::identity(&response, id, domain);
        // The key's bytes go before anything is waited for.
        drop(response);
        let told = match identity {
            Ok(identity) => News::Identity(Box::new(identity)),
            Err(why) => {
                let socket = api.socket.clone();
                News::of(WorkloadError::Response { socket, why })
            }
        };
        news.send(told).await.ok()?;
        response = match next(&mut stream, api, id).await {
            Ok(response) => response,
            Err(why) => return Some(why),
        };
    }
}

async fn ask(
    api: &WorkloadApi,
    id: &SpiffeId,
    wait: Duration,
) -> Result<Streaming<X509svidResponse>, WorkloadError> {
    let socket = api.socket.to_str();
    let socket = socket.ok_or_else(|| WorkloadError::Path {
        socket: api.socket.clone(),
    })?;
    let connect = |error: tonic::transport::Error| WorkloadError::Connect {
        socket: api.socket.clone(),
        why: innermost(&error),
    };
    let endpoint = Endpoint::from_shared(format!("unix:{socket}")).map_err(connect)?;
    let endpoint = endpoint.http2_keep_alive_interval(PING_EVERY);
    let endpoint = endpoint.keep_alive_timeout(wait).connect_timeout(wait);
    let channel = endpoint.connect().await;
    let client = SpiffeWorkloadApiClient::new(channel.map_err(connect)?);
    let mut client = client.max_decoding_message_size(RESPONSE_LEN_MAX);
    let mut request = Request::new(X509svidRequest {});
    let metadata = request.metadata_mut();
    metadata.insert(HEADER, MetadataValue::from_static("true"));
    let asked = client.fetch_x509svid(request).await;
    let response = asked.map_err(|status| WorkloadError::of_status(api, id, &status))?;
    Ok(response.into_inner())
}

async fn next(
    stream: &mut Streaming<X509svidResponse>,
    api: &WorkloadApi,
    id: &SpiffeId,
) -> Result<X509svidResponse, WorkloadError> {
    let message = stream.message().await;
    let message = message.map_err(|status| WorkloadError::of_status(api, id, &status))?;
    message.ok_or_else(|| WorkloadError::Ended {
        socket: api.socket.clone(),
    })
}

/// What is at the bottom of an error: the library's own says "transport error" and no more.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
