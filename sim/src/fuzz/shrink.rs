//! Making a failure small: what can be left out while it still fails the same way is.

use serde_json::Value;

use super::case::{Case, Step};
use super::judge::{Failure, play_case};

/// Plays of one case, at most: a case of fifty parts needs some hundred.
const PLAYS_MAX: usize = 600;

/// A case that fails and that nothing can be left out of.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It.
    pub case: Case,
    /// How it fails.
    pub failure: Failure,
    /// How often it was played.
    pub plays: usize,
}

/// Leaves out steps, then objects, then parts of objects, while the case fails as before.
#[must_use]
pub fn shrink(case: &Case, failure: &Failure) -> Shrunk {
    let mut shrinker = Shrinker {
        best: case.clone(),
        failure: failure.clone(),
        plays: 0,
    };
    loop {
        let before = shrinker.best.clone();
        shrinker.steps();
        shrinker.objects();
        shrinker.parts();
        if shrinker.best == before || shrinker.plays >= PLAYS_MAX {
            break;
        }
    }
    Shrunk {
        case: shrinker.best,
        failure: shrinker.failure,
        plays: shrinker.plays,
    }
}

struct Shrinker {
    best: Case,
    failure: Failure,
    plays: usize,
}

impl Shrinker {
    /// Takes a smaller case if it fails the same way.
    fn accept(&mut self, smaller: Case) -> bool {
        if self.plays >= PLAYS_MAX {
            return false;
        }
        self.plays += 1;
        match play_case(&smaller) {
            Err(failure) if failure.kind == self.failure.kind => {
                self.best = smaller;
                self.failure = failure;
                true
            }
            _ => false,
        }
    }

    /// Runs of steps, long ones first, from the end: what comes after a failure goes at once.
    fn steps(&mut self) {
        let mut len = self.best.steps.len();
        while len > 0 {
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(len);
                let mut smaller = self.best.clone();
                smaller.steps.drain(start..end);
                self.accept(smaller);
                end = start;
            }
            len /= 2;
        }
    }

    fn objects(&mut self) {
        for at in (0..self.best.objects.len()).rev() {
            let mut smaller = self.best.clone();
            smaller.objects.remove(at);
            self.accept(smaller);
        }
    }

    /// Rules, peers, ports and labels of objects.
    fn parts(&mut self) {
        for at in 0..self.best.objects.len() {
            let object = |case: &mut Case| case.objects.get_mut(at).map(core::mem::take);
            self.parts_of(&object, &|case, value| {
                if let Some(slot) = case.objects.get_mut(at) {
                    *slot = value;
                }
            });
        }
        for at in 0..self.best.steps.len() {
            let object = |case: &mut Case| match case.steps.get_mut(at) {
                Some(Step::Apply(objects)) => objects.first_mut().map(core::mem::take),
                _ => None,
            };
            self.parts_of(&object, &|case, value| {
                if let Some(Step::Apply(objects)) = case.steps.get_mut(at)
                    && let Some(slot) = objects.first_mut()
                {
                    *slot = value;
                }
            });
        }
    }

    fn parts_of(
        &mut self,
        take: &dyn Fn(&mut Case) -> Option<Value>,
        put: &dyn Fn(&mut Case, Value),
    ) {
        let mut tried = 0;
        loop {
            let Some(object) = take(&mut self.best.clone()) else {
                return;
            };
            let mut smaller = smaller_values(&object);
            if tried >= smaller.len() {
                return;
            }
            let mut case = self.best.clone();
            put(&mut case, smaller.swap_remove(tried));
            if !self.accept(case) {
                tried += 1;
            }
        }
    }
}

/// An object with one element of one list, or one label, left out.
fn smaller_values(value: &Value) -> Vec<Value> {
    let mut smaller = Vec::new();
    match value {
        Value::Array(items) => {
            for at in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(at);
                smaller.push(Value::Array(fewer));
                for item in items.get(at).map(smaller_values).unwrap_or_default() {
                    let mut changed = items.clone();
                    if let Some(slot) = changed.get_mut(at) {
                        *slot = item;
                    }
                    smaller.push(Value::Array(changed));
                }
            }
        }
        Value::Object(fields) => {
            // Without addresses it would be given others, which tells less.
            for (name, field) in fields.iter().filter(|it| it.0 != "podIPs") {
                if matches!(
                    name.as_str(),
                    "labels" | "ports" | "containers" | "annotations"
                ) {
                    let mut fewer = fields.clone();
                    fewer.remove(name);
                    smaller.push(Value::Object(fewer));
                }
                for part in smaller_values(field) {
                    let mut changed = fields.clone();
                    changed.insert(name.clone(), part);
                    smaller.push(Value::Object(changed));
                }
            }
        }
        _ => {}
    }
    smaller
}
