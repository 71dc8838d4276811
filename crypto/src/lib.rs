//! ESP, AEAD backends, replay windows and SA key material for Sluice.
