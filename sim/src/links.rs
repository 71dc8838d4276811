//! Captures of single links: what was seen on each, for a file of its own.
//!
//! A wire may lose a frame, change it or hold it up, so of an uplink there are two: what the
//! node put on it, and what came. All that were put are `wire.pcap`, but for frames that
//! `replay` puts on the wire, which are on nobody's link until they come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sluice_offload_api::model::{NodeName, PodRef};

use crate::report::Captured;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::FIRST_VF;

/// Of a pod's name as much as a file's name has room for beside the rest.
const POD_NAME_LEN_MAX: usize = 200;

/// Frames by the link that they were on, in the order in which they were.
#[derive(Clone, Debug, Default)]
pub struct Links(BTreeMap<Link, Vec<Captured>>);

/// A link, or of those of the wire one of its directions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Link {
    spot: Spot,
    /// Who was plugged in: a VF has one pod after the other.
    pod: Option<PodRef>,
    direction: Option<Direction>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Direction {
    /// Onto the wire.
    Tx,
    /// From it.
    Rx,
}

impl Links {
    /// Takes what was seen.
    pub fn see(&mut self, sightings: &[Sighting]) {
        for seen in sightings {
            let Some(link) = Link::of(seen) else {
                continue;
            };
            self.0.entry(link).or_default().push(Captured {
                at: seen.at,
                bytes: seen.frame.clone(),
            });
        }
    }

    /// The files, by their paths in a folder: `node-a/uplink-tx.pcap`, `node-a/vf0-shop_web.pcap`.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<&Captured>> {
        let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (link, frames) in &self.0 {
            // Two pods whose names are cut to the same one share a file.
            files.entry(link.path()).or_default().extend(frames);
        }
        for frames in files.values_mut() {
            frames.sort_by_key(|it| it.at);
        }
        files
    }
}

impl Link {
    /// The link that a frame was seen on; none where it is seen once more at the other end.
    fn of(seen: &Sighting) -> Option<Self> {
        let direction = match (&seen.spot, seen.way) {
            (Spot::Uplink(_) | Spot::Outside, Way::OnWire) => Some(Direction::Tx),
            (Spot::Uplink(_), Way::OffWire) | (Spot::Outside, Way::Delivered) => {
                Some(Direction::Rx)
            }
            (Spot::Vf(..) | Spot::Host(_), Way::Sent | Way::Delivered) => None,
            _ => return None,
        };
        let is_vf = matches!(seen.spot, Spot::Vf(..));
        let who = seen.who.as_ref().filter(|_| is_vf);
        Some(Self {
            spot: seen.spot.clone(),
            pod: who.and_then(|it| it.pod.clone()),
            direction,
        })
    }

    fn path(&self) -> PathBuf {
        let direction = match self.direction {
            Some(Direction::Tx) => "tx",
            Some(Direction::Rx) => "rx",
            None => "",
        };
        let (folder, file) = match &self.spot {
            Spot::Outside => ("outside".to_owned(), direction.to_owned()),
            Spot::Uplink(node) => (folder(node), format!("uplink-{direction}")),
            Spot::Host(node) => (folder(node), "host".to_owned()),
            Spot::Vf(node, port) => {
                let vf = format!("vf{}", port.saturating_sub(FIRST_VF));
                (folder(node), vf + &name(self.pod.as_ref()))
            }
        };
        Path::new(&folder).join(file + ".pcap")
    }
}

/// A node's folder. A node may have a name that to a file system is another folder's.
fn folder(node: &NodeName) -> String {
    let NodeName(name) = node;
    if name.bytes().all(|it| it == b'.') {
        return name.replace('.', "_");
    }
    name.clone()
}

fn name(pod: Option<&PodRef>) -> String {
    let Some(PodRef { namespace, name }) = pod else {
        return String::new();
    };
    let cut = format!("-{namespace}_{name}");
    cut.chars().take(POD_NAME_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluice_dataplane_core::addr::Mac;
    use sluice_dataplane_core::tick::Tick;

    use super::*;
    use crate::sighting::Who;

    fn seen(at: u64, way: Way, spot: Spot, pod: Option<&str>) -> Sighting {
        let who = pod.map(|name| {
            Arc::new(Who {
                pod: Some(PodRef {
                    namespace: "n".to_owned(),
                    name: name.to_owned(),
                }),
                mac: Mac([2; 6]),
                ips: Vec::new(),
            })
        });
        Sighting {
            at: Tick(at),
            way,
            spot,
            who,
            touched: false,
            frame: Arc::from(at.to_le_bytes()),
        }
    }

    #[test]
    fn each_link_has_its_frames_once() {
        let (a, vf) = (|| "a".into(), || Spot::Vf("a".into(), FIRST_VF + 3));
        let mut links = Links::default();
        links.see(&[
            seen(1, Way::Sent, vf(), Some("web")),
            seen(2, Way::Taken, vf(), None),
            seen(3, Way::OnWire, Spot::Uplink(a()), None),
            seen(4, Way::OffWire, Spot::Uplink(a()), None),
            seen(5, Way::Delivered, vf(), Some("web")),
            seen(6, Way::Sent, vf(), Some("next")),
            seen(7, Way::Sent, Spot::Outside, None),
            seen(7, Way::OnWire, Spot::Outside, None),
            seen(8, Way::Delivered, Spot::Outside, None),
            seen(9, Way::Delivered, Spot::Host("..".into()), None),
        ]);
        let files = links.files();
        let all: Vec<(&str, Vec<u64>)> = files
            .iter()
            .map(|(path, frames)| {
                let times = frames.iter().map(|it| it.at.0);
                (path.to_str().unwrap(), times.collect())
            })
            .collect();
        let expected = [
            ("__/host.pcap", vec![9]),
            ("a/uplink-rx.pcap", vec![4]),
            ("a/uplink-tx.pcap", vec![3]),
            ("a/vf3-n_next.pcap", vec![6]),
            ("a/vf3-n_web.pcap", vec![1, 5]),
            ("outside/rx.pcap", vec![8]),
            ("outside/tx.pcap", vec![7]),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_name_is_cut_to_what_a_file_may_have() {
        let pod = PodRef {
            namespace: "n".repeat(60),
            name: "p".repeat(253),
        };
        assert_eq!(name(Some(&pod)).len(), POD_NAME_LEN_MAX);
    }
}
