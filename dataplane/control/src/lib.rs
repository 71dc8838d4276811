//! Applies agent transactions to the Sluice dataplane and answers its read side.
