//! Reading from the dataplane, for people.

use std::time::Duration;

use sluice_offload_api::model::{
    FlowRecord, NameRecord, PairLine, PairRecord, PairsRest, PodUid, PortCounters, PortName,
    SaRecord,
};
use sluice_offload_api::proto::offload_client::OffloadClient;
use sluice_offload_api::proto::{
    CountersRequest, FlowsRequest, NamesRequest, PairsRequest, SasRequest,
};
use tokio::time::timeout;
use tonic::transport::Channel;

use super::told;

/// Flows that are shown, at most.
pub const FLOWS_MAX: usize = 10_000;
/// Addresses by names that are shown, at most.
const NAMES_MAX: usize = 1 << 18;
/// SAs that are shown, at most: all there can be.
const SAS_MAX: usize = 1 << 18;
/// Pairs of identities that are read, at most: more than a dataplane tells of.
const PAIRS_MAX: usize = 1 << 15;
/// An answer takes at most so long.
const READ_MAX: Duration = Duration::from_secs(10);

/// A connection to read from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(OffloadClient<Channel>);

impl Reader {
    pub(super) fn new(channel: Channel) -> Self {
        Self(OffloadClient::new(channel))
    }

    /// The counters of one port or all.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub async fn counters(mut self, port: Option<PortName>) -> Result<Vec<PortCounters>, String> {
        let port = port.map(|it| it.0);
        let answer = self.0.counters(CountersRequest { port });
        let answer = within(answer).await?.map_err(|status| told(&status))?;
        let ports = answer.into_inner().ports.into_iter();
        ports.map(|it| it.try_into().map_err(nonsense)).collect()
    }

    /// The flows of one endpoint or all, and whether there are more than were read.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub async fn flows(
        mut self,
        endpoint: Option<PodUid>,
    ) -> Result<(Vec<FlowRecord>, bool), String> {
        within(async {
            let endpoint = endpoint.map(|it| it.0);
            let answer = self.0.flows(FlowsRequest { endpoint }).await;
            let mut stream = answer.map_err(|status| told(&status))?.into_inner();
            let mut flows = Vec::new();
            while let Some(flow) = stream.message().await.map_err(|status| told(&status))? {
                if flows.len() == FLOWS_MAX {
                    return Ok((flows, true));
                }
                flows.push(FlowRecord::try_from(flow).map_err(nonsense)?);
            }
            Ok((flows, false))
        })
        .await?
    }

    /// The addresses that one endpoint or all know by domain names.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub async fn names(mut self, endpoint: Option<PodUid>) -> Result<Vec<NameRecord>, String> {
        within(async {
            let endpoint = endpoint.map(|it| it.0);
            let answer = self.0.names(NamesRequest { endpoint }).await;
            let mut stream = answer.map_err(|status| told(&status))?.into_inner();
            let mut names = Vec::new();
            while let Some(name) = stream.message().await.map_err(|status| told(&status))? {
                if names.len() == NAMES_MAX {
                    return Err(format!("it has more than {NAMES_MAX} names; name a pod"));
                }
                names.push(NameRecord::try_from(name).map_err(nonsense)?);
            }
            names.sort();
            Ok(names)
        })
        .await?
    }

    /// The SAs with one peer or all.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub async fn sas(mut self, peer: Option<String>) -> Result<Vec<SaRecord>, String> {
        within(async {
            let answer = self.0.sas(SasRequest { peer }).await;
            let mut stream = answer.map_err(|status| told(&status))?.into_inner();
            let mut sas = Vec::new();
            while let Some(sa) = stream.message().await.map_err(|status| told(&status))? {
                if sas.len() == SAS_MAX {
                    return Err(format!("it has more than {SAS_MAX} SAs; name a peer"));
                }
                sas.push(SaRecord::try_from(sa).map_err(nonsense)?);
            }
            Ok(sas)
        })
        .await?
    }

    /// How packets between this node and others cross the wire, by pair of identities, and
    /// what is not among the pairs.
    ///
    /// # Errors
    /// Why it can't be told, for people.
    pub async fn pairs(mut self) -> Result<(Vec<PairRecord>, PairsRest), String> {
        within(async {
            let answer = self.0.pairs(PairsRequest {}).await;
            let mut stream = answer.map_err(|status| told(&status))?.into_inner();
            let mut pairs = Vec::new();
            while let Some(line) = stream.message().await.map_err(|status| told(&status))? {
                match PairLine::try_from(line).map_err(nonsense)? {
                    PairLine::Rest(rest) => return Ok((pairs, rest)),
                    PairLine::Pair(_) if pairs.len() == PAIRS_MAX => {
                        return Err(format!("it has more than {PAIRS_MAX} pairs"));
                    }
                    PairLine::Pair(pair) => pairs.push(pair),
                }
            }
            Err("its answer ends before it is whole".to_owned())
        })
        .await?
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("no answer within {} s", READ_MAX.as_secs());
    timeout(READ_MAX, answer).await.map_err(late)
}

fn nonsense(error: sluice_offload_api::convert::ConvertError) -> String {
    format!("its answer makes no sense: {error}")
}
