//! Pods that manifests describe and don't have: the templates of Deployments and their like.
//!
//! An agent has no use for them, as the API server's pods are what counts. Who looks at a
//! repository, where there are no pods, has.

use std::path::Path;
use std::sync::Arc;

use miette::NamedSource;
use serde::Deserialize;
use sluice_offload_api::model::{PodRef, Protocol};

use super::documents::documents;
use super::error::LoadError;
use super::load::{Files, read_files};
use super::read::At;
use super::wire;
use crate::cluster::{ContainerPort, Labels, Pod};
use crate::text::Spot;

/// Kinds that have a template of pods.
const KINDS: [&str; 7] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// A pod as an object would make it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    /// The pod, with the object's namespace and name, on no node and without addresses.
    pub pod: Pod,
    /// The object's kind.
    pub kind: String,
    /// It may make several pods: it has a number of them, which is not 1 or not written down,
    /// as when something scales it.
    pub several: bool,
    /// The file's name in its folder.
    pub file: String,
    /// Where the object's name is.
    pub spot: Spot,
}

#[derive(Deserialize)]
struct Workload {
    metadata: wire::Metadata,
    spec: Option<WorkloadSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadSpec {
    replicas: Option<u32>,
    template: Option<PodTemplate>,
    job_template: Option<JobTemplate>,
}

#[derive(Deserialize)]
struct JobTemplate {
    spec: Option<JobSpec>,
}

#[derive(Deserialize)]
struct JobSpec {
    template: Option<PodTemplate>,
}

#[derive(Deserialize)]
struct PodTemplate {
    metadata: Option<TemplateMetadata>,
    spec: Option<wire::PodSpec>,
}

#[derive(Deserialize)]
struct TemplateMetadata {
    labels: Option<Labels>,
}

/// The templates in the files that [`load_dir`](super::load_dir) reads, in their order. What
/// can't be read as one, and what is in a List, is left out.
///
/// # Errors
/// [`LoadError`] if the files can't be read.
pub fn load_templates(path: &Path) -> Result<Vec<Template>, LoadError> {
    let Files { texts, .. } = read_files(path)?;
    let all = texts.iter().flat_map(|(name, text)| templates(name, text));
    Ok(all.collect())
}

/// The same of one file.
#[must_use]
pub fn templates(file_name: &str, text: &str) -> Vec<Template> {
    let source = Arc::new(NamedSource::new(file_name, text.to_owned()));
    let template = |document| {
        let at = At {
            source: &source,
            document,
        };
        let header: wire::Header = serde_saphyr::from_str(at.text()).ok()?;
        let kind = header.kind?.value;
        if !KINDS.contains(&kind.as_str()) {
            return None;
        }
        let workload: Workload = serde_saphyr::from_str(at.text()).ok()?;
        let spot = at.spot(workload.metadata.name.referenced);
        let replicas = workload.spec.as_ref().and_then(|it| it.replicas);
        let several = !kind.ends_with("Job") && replicas.is_none_or(|it| it > 1);
        let pod = pod(workload)?;
        let file = file_name.to_owned();
        Some(Template {
            pod,
            kind,
            several,
            file,
            spot,
        })
    };
    documents(text).into_iter().filter_map(template).collect()
}

fn pod(workload: Workload) -> Option<Pod> {
    let WorkloadSpec {
        template,
        job_template,
        ..
    } = workload.spec?;
    let of_job = || job_template?.spec?.template;
    let template = template.or_else(of_job)?;
    let namespace = workload.metadata.namespace.map(|it| it.value);
    let namespace = namespace.filter(|it| !it.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let mut pod = Pod::new(&namespace, &workload.metadata.name.value);
    pod.pod = PodRef {
        namespace,
        name: workload.metadata.name.value,
    };
    pod.labels = template.metadata?.labels.unwrap_or_default();
    let spec = template.spec.unwrap_or_default();
    pod.host_network = spec.host_network.unwrap_or(false);
    let ports = spec.containers.unwrap_or_default().into_iter();
    let ports = ports.flat_map(|it| it.ports.unwrap_or_default());
    pod.ports = ports.filter_map(port).collect();
    Some(pod)
}

fn port(wire: wire::ContainerPort) -> Option<ContainerPort> {
    let protocol = match wire.protocol.as_ref().map(|it| it.value.as_str()) {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    let (wire::NumberOrName::Number(text) | wire::NumberOrName::Name(text)) =
        wire.container_port.value;
    Some(ContainerPort {
        name: wire.name.filter(|it| !it.is_empty()),
        protocol,
        number: text.parse().ok().filter(|it| *it > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{ports: [{name: http, containerPort: 8080}, {containerPort: 70000}]}]}
---
kind: CronJob
metadata: {name: night}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: night}}, spec: {hostNetwork: true}}}}}
---
kind: Deployment
metadata: {name: broken}
spec: {template: 5}
---
kind: Pod
metadata: {name: web-0}
";

    #[test]
    fn templates_are_pods_of_their_objects() {
        let all = templates("t.yaml", TEXT);
        let [web, night] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!((web.kind.as_str(), web.spot.line), ("Deployment", 3));
        assert_eq!(web.pod.pod.to_string(), "shop/web");
        assert_eq!(web.pod.labels, Labels::from([("app".into(), "web".into())]));
        assert_eq!(
            web.pod
                .named_ports("http", Protocol::Tcp)
                .collect::<Vec<_>>(),
            [8080]
        );
        assert_eq!(web.pod.ports.len(), 1);
        assert!(web.several && !night.several);
        let one = TEXT.replacen("spec:\n", "spec:\n  replicas: 1\n", 1);
        assert!(!templates("t.yaml", &one)[0].several);
        assert_eq!(night.pod.pod.to_string(), "default/night");
        assert!(night.pod.host_network);
    }
}
