//! What the CNI plugin and `sluicectl` ask.

use std::collections::BTreeMap;
use std::time::Instant;

use sluice_offload_api::model::{NameRecord, PodUid};

use super::waiters::{ReplyTo, Waiter};
use super::{Call, Daemon, WAITERS_MAX, views};
use crate::agent::{AttachError, AttachRequest};
use crate::local::{Fault, FaultKind, FlowsView, NameView, Request, Response};

impl Daemon {
    pub(super) fn on_call(&mut self, call: Call) {
        let (request, reply) = match call {
            Call::Ask { request, reply } => (request, reply),
            Call::Undelivered { container, ifname } => {
                tracing::warn!(container, "ADD's answer was not taken; it is taken back");
                self.detach(&container, &ifname);
                return;
            }
        };
        let answer = match request {
            Request::Add(request) => return self.add(&request, reply),
            Request::Del { container, ifname } => self.del(&container, &ifname),
            Request::Gc { network, keep } => {
                let gone = self.agent.collect(&network, &keep);
                self.unwritten = true;
                for it in &gone {
                    tracing::info!(container = it.container, pod = %it.pod, "GC");
                }
                self.write_journal()
                    .map(|()| Response::Collected { gone: gone.len() })
            }
            Request::Check {
                container,
                ifname,
                ips,
            } => {
                let checked = self.agent.check(&container, &ifname, &ips);
                let refused = |error: crate::agent::CheckError| {
                    Fault::new(FaultKind::Refused, error.to_string())
                };
                checked.map(|()| Response::Checked).map_err(refused)
            }
            Request::Ready => self.ready(),
            Request::Status => Ok(Response::Status(Box::new(self.status_view()))),
            Request::Vfs => Ok(Response::Vfs(self.agent.vf_views())),
            Request::Policy { pod } => self.policy(pod.as_deref()),
            Request::Trace(request) => {
                let traced = self.agent.trace(&request);
                let refused = |error: crate::agent::TraceError| {
                    Fault::new(FaultKind::Request, error.to_string())
                };
                traced
                    .map(|it| Response::Trace(Box::new(it)))
                    .map_err(refused)
            }
            Request::Drops { port } => return self.drops(port, reply),
            Request::Flows { pod } => return self.flows(pod, reply),
            Request::Names { pod } => return self.names(pod, reply),
            Request::Sas { peer } => return self.sas(peer, reply),
            Request::Matrix => return self.matrix(reply),
            Request::Bundle => return self.bundle(reply),
        };
        let _ = reply.send(answer);
    }

    fn add(&mut self, request: &AttachRequest, reply: ReplyTo) {
        if self.waiters.len() >= WAITERS_MAX {
            let text = format!("{WAITERS_MAX} ADDs wait for the dataplane already; try again");
            let _ = reply.send(Err(Fault::new(FaultKind::Unavailable, text)));
            return;
        }
        let attached = match self.agent.attach(request) {
            Ok(attached) => attached,
            Err(error) => {
                tracing::warn!(container = request.container, pod = %request.pod, %error, "ADD refused");
                let kind = match error {
                    AttachError::NoManifests { .. } => FaultKind::Unavailable,
                    _ => FaultKind::Refused,
                };
                let _ = reply.send(Err(Fault::new(kind, error.to_string())));
                return;
            }
        };
        self.unwritten = true;
        // An earlier ADD of this container that still waits has this one's fate.
        let earlier = self.waiters.take_of(&request.container, &request.ifname);
        let fresh = attached.fresh || earlier.iter().any(|it| it.fresh);
        for it in earlier {
            let text = "another ADD of this container has come";
            let _ = it.reply.send(Err(Fault::new(FaultKind::Unavailable, text)));
        }
        if let Err(fault) = self.write_journal() {
            if fresh {
                self.detach(&request.container, &request.ifname);
            }
            let _ = reply.send(Err(fault));
            return;
        }
        self.waiters.push(Waiter {
            container: request.container.clone(),
            ifname: request.ifname.clone(),
            uid: attached.uid,
            fresh,
            deadline: Instant::now() + self.add_timeout,
            needs: None,
            reply,
        });
    }

    /// DEL doesn't wait for the dataplane: until the VF's next pod is acknowledged, what is
    /// in force there is the old pod's, and nobody has the VF.
    fn del(&mut self, container: &str, ifname: &str) -> Result<Response, Fault> {
        for it in self.waiters.take_of(container, ifname) {
            let text = "DEL of this container has come";
            let _ = it.reply.send(Err(Fault::new(FaultKind::Unavailable, text)));
        }
        let gone = self.detach(container, ifname);
        if let Some(gone) = &gone {
            tracing::info!(container, pod = %gone.pod, port = %gone.port, "DEL");
        }
        self.write_journal()?;
        Ok(Response::Deleted {
            found: gone.is_some(),
        })
    }

    /// Whether an ADD that came now could succeed.
    fn ready(&self) -> Result<Response, Fault> {
        if !self.agent.is_connected() {
            return Err(Fault::new(
                FaultKind::Unavailable,
                "the dataplane is not connected",
            ));
        }
        let compile = self.agent.compile_fault().map(ToString::to_string);
        let refused = self.agent.held().map(ToString::to_string);
        match compile.or(refused).or_else(|| self.journal_fault.clone()) {
            Some(why) => Err(Fault::new(FaultKind::Unavailable, why)),
            None => Ok(Response::Ready),
        }
    }

    fn policy(&self, pod: Option<&str>) -> Result<Response, Fault> {
        let tables = self.agent.policy_views(pod);
        match pod {
            Some(pod) if tables.is_empty() => {
                let text = format!("pod {pod} has no table in force here; see `sluicectl vf`");
                Err(Fault::new(FaultKind::Request, text))
            }
            _ => Ok(Response::Policy(tables)),
        }
    }

    /// Lets `read` ask the dataplane, beside this task.
    pub(super) fn read_beside<F>(&self, reply: ReplyTo, read: impl FnOnce(super::Reader) -> F)
    where
        F: Future<Output = Result<Response, String>> + Send + 'static,
    {
        let unavailable = |why: String| {
            let text = format!("the dataplane can't be read: {why}");
            Fault::new(FaultKind::Unavailable, text)
        };
        let reader = self.reader.borrow().clone();
        let Some(reader) = reader else {
            let why = self.link.fault.clone();
            let why = why.unwrap_or_else(|| "it is not connected".to_owned());
            let _ = reply.send(Err(unavailable(why)));
            return;
        };
        let read = read(reader);
        tokio::spawn(async move {
            let _ = reply.send(read.await.map_err(unavailable));
        });
    }

    fn drops(&self, port: Option<String>, reply: ReplyTo) {
        let pods = self.pods_by_port();
        if let Some(port) = &port
            && !self.has_port(port)
        {
            let text = format!("this node has no port {port}; see `sluicectl vf`");
            let _ = reply.send(Err(Fault::new(FaultKind::Request, text)));
            return;
        }
        self.read_beside(reply, |reader| async move {
            let counters = reader.counters(port.as_deref().map(Into::into)).await?;
            Ok(Response::Drops(views::drops(&counters, &pods)))
        });
    }

    fn flows(&self, pod: Option<String>, reply: ReplyTo) {
        let endpoint = match pod.map(|it| self.endpoint(&it)).transpose() {
            Ok(endpoint) => endpoint,
            Err(fault) => {
                let _ = reply.send(Err(fault));
                return;
            }
        };
        self.read_beside(reply, |reader| async move {
            let (flows, truncated) = reader.flows(endpoint).await?;
            let flows = flows.into_iter().map(views::flow).collect();
            Ok(Response::Flows(FlowsView { flows, truncated }))
        });
    }

    fn names(&self, pod: Option<String>, reply: ReplyTo) {
        let endpoint = match pod.map(|it| self.endpoint(&it)).transpose() {
            Ok(endpoint) => endpoint,
            Err(fault) => {
                let _ = reply.send(Err(fault));
                return;
            }
        };
        let endpoints = self.agent.in_force().map(|it| it.endpoints.values());
        let endpoints = endpoints.into_iter().flatten();
        let pods: BTreeMap<_, _> = endpoints
            .map(|it| (it.pod_uid.clone(), it.pod.to_string()))
            .collect();
        self.read_beside(reply, |reader| async move {
            let names = reader.names(endpoint).await?.into_iter();
            let view = |it: NameRecord| NameView {
                pod: pods.get(&it.endpoint).cloned(),
                ip: it.ip,
                domain: it.domain.to_string(),
                left_ms: it.left_ms,
            };
            Ok(Response::Names(names.map(view).collect()))
        });
    }

    fn sas(&self, peer: Option<String>, reply: ReplyTo) {
        self.read_beside(reply, |reader| async move {
            let sas = reader.sas(peer).await?;
            Ok(Response::Sas(sas.into_iter().map(views::sa).collect()))
        });
    }

    fn matrix(&self, reply: ReplyTo) {
        let pods = self.agent.pods_by_identity();
        self.read_beside(reply, |reader| async move {
            let (pairs, rest) = reader.pairs().await?;
            Ok(Response::Matrix(views::matrix(pairs, rest, &pods)))
        });
    }

    fn endpoint(&self, pod: &str) -> Result<PodUid, Fault> {
        let endpoints = self.agent.in_force().map(|it| &it.endpoints);
        let found = endpoints
            .into_iter()
            .flatten()
            .find(|(_, it)| it.pod.to_string() == pod);
        found.map(|(key, _)| key.pod_uid.clone()).ok_or_else(|| {
            let text = format!("pod {pod} is no endpoint here; see `sluicectl vf`");
            Fault::new(FaultKind::Request, text)
        })
    }
}
