//! Label selectors (`k8s.io/apimachinery`, `metav1.LabelSelector`).

use std::collections::{BTreeMap, BTreeSet};

use sluice_mutants::{Mutant, is};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Requirements on labels, all of which must hold. The empty one matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// [`Self::matches`] of labels that are given by their keys.
    pub(super) fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|it| it.holds(label(&it.key)))
    }
}

/// A requirement on one label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
}

/// What can be required of a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operator {
    /// It is there, with one of these values.
    In(BTreeSet<String>),
    /// It isn't there, or has none of these values.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|it| values.contains(it)),
            Operator::NotIn(values) => {
                value.map_or(!is(Mutant::NotInForgotten), |it| !values.contains(it))
            }
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn needs(key: &str, operator: Operator) -> LabelSelector {
        let match_expressions = vec![Requirement {
            key: key.to_owned(),
            operator,
        }];
        LabelSelector {
            match_labels: Labels::new(),
            match_expressions,
        }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn the_empty_selector_matches_all() {
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert!(LabelSelector::default().matches(&labels(&[("a", "1")])));
    }

    #[test]
    fn every_match_label_must_be_there_with_its_value() {
        let match_labels = labels(&[("a", "1"), ("b", "2")]);
        let selector = LabelSelector {
            match_labels,
            match_expressions: Vec::new(),
        };
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!selector.matches(&labels(&[("a", "1")])));
        assert!(!selector.matches(&labels(&[("a", "1"), ("b", "1")])));
    }

    #[test]
    fn each_operator_holds_as_kubernetes_says() {
        let table = [
            // operator, value there and listed, there and not listed, not there
            (Operator::In(values(&["1", "2"])), [true, false, false]),
            (Operator::NotIn(values(&["1", "2"])), [false, true, true]),
            (Operator::Exists, [true, true, false]),
            (Operator::DoesNotExist, [false, false, true]),
        ];
        for (operator, expected) in table {
            let selector = needs("a", operator.clone());
            let got = [&[("a", "1")][..], &[("a", "3")], &[("b", "1")]]
                .map(|pairs| selector.matches(&labels(pairs)));
            assert_eq!(got, expected, "{operator:?}");
        }
    }

    #[test]
    fn labels_and_expressions_must_both_hold() {
        let mut selector = needs("b", Operator::Exists);
        selector.match_labels = labels(&[("a", "1")]);
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "")])));
        assert!(!selector.matches(&labels(&[("a", "1")])));
        assert!(!selector.matches(&labels(&[("b", "")])));
    }
}
