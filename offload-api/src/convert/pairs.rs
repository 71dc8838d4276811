//! How packets between nodes cross the wire.

use super::ConvertError;
use super::field::{enumerate, enumeration, message, required};
use crate::model::{IdentityId, NodeName, PairCrossing, PairEnd, PairLine, PairRecord, PairsRest};
use crate::proto;

enumerate!(proto::PairCrossing, PairCrossing {
    Sealed <=> Sealed,
    Clear <=> Clear,
    Never <=> Never,
    Gone <=> Gone,
});

impl TryFrom<proto::PairLine> for PairLine {
    type Error = ConvertError;

    fn try_from(wire: proto::PairLine) -> Result<Self, ConvertError> {
        use proto::pair_line::Line as Wire;
        Ok(match required("line", wire.line)? {
            Wire::Pair(pair) => Self::Pair(message("pair", Some(pair))?),
            Wire::Rest(proto::PairsRest {
                left_out,
                clear_packets,
                clear_bytes,
            }) => Self::Rest(PairsRest {
                left_out,
                clear_packets,
                clear_bytes,
            }),
        })
    }
}

impl From<PairLine> for proto::PairLine {
    fn from(line: PairLine) -> Self {
        use proto::pair_line::Line as Wire;
        let line = match line {
            PairLine::Pair(pair) => Wire::Pair(pair.into()),
            PairLine::Rest(PairsRest {
                left_out,
                clear_packets,
                clear_bytes,
            }) => Wire::Rest(proto::PairsRest {
                left_out,
                clear_packets,
                clear_bytes,
            }),
        };
        Self { line: Some(line) }
    }
}

impl TryFrom<proto::PairEnd> for PairEnd {
    type Error = ConvertError;

    fn try_from(wire: proto::PairEnd) -> Result<Self, ConvertError> {
        Ok(Self {
            identity: IdentityId(wire.identity),
            label: wire.label,
        })
    }
}

impl From<PairEnd> for proto::PairEnd {
    fn from(end: PairEnd) -> Self {
        Self {
            identity: end.identity.0,
            label: end.label,
        }
    }
}

impl TryFrom<proto::Pair> for PairRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Pair) -> Result<Self, ConvertError> {
        let setting = match wire.setting {
            0 => None,
            given => Some(enumeration::<proto::Encryption, _>("setting", given)?),
        };
        let algorithm = wire.algorithm;
        let algorithm = algorithm.map(|it| enumeration::<proto::SaAlgorithm, _>("algorithm", it));
        Ok(Self {
            from: message("from", wire.from)?,
            to: message("to", wire.to)?,
            peer: wire.peer.map(NodeName),
            direction: enumeration::<proto::SaDirection, _>("direction", wire.direction)?,
            setting,
            crossing: enumeration::<proto::PairCrossing, _>("crossing", wire.crossing)?,
            algorithm: algorithm.transpose()?,
            sa_age_ms: wire.sa_age_ms,
            flows: wire.flows,
            clear_packets: wire.clear_packets,
            clear_bytes: wire.clear_bytes,
        })
    }
}

impl From<PairRecord> for proto::Pair {
    fn from(pair: PairRecord) -> Self {
        let setting = pair.setting.map(proto::Encryption::from);
        let algorithm = pair.algorithm.map(proto::SaAlgorithm::from);
        Self {
            from: Some(pair.from.into()),
            to: Some(pair.to.into()),
            peer: pair.peer.map(|node| node.0),
            direction: proto::SaDirection::from(pair.direction).into(),
            setting: setting.map_or(0, Into::into),
            crossing: proto::PairCrossing::from(pair.crossing).into(),
            algorithm: algorithm.map(Into::into),
            sa_age_ms: pair.sa_age_ms,
            flows: pair.flows,
            clear_packets: pair.clear_packets,
            clear_bytes: pair.clear_bytes,
        }
    }
}
