//! The pure core of the Sluice host agent: manifests, identities, policy compiler, VF bindings, reconciler.
