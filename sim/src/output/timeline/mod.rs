//! A run as a page: who talked to whom, what was dropped and why, generations, keys, faults
//! and steps on one axis of virtual time.
//!
//! `recorder` watches a run and makes the data of `model`; `page` puts that into one HTML file
//! that needs no network. Neither knows of the other.

mod faults;
mod flows;
mod model;
mod page;
mod recorder;

pub use model::Timeline;
pub use page::timeline_html;
pub use recorder::Recorder;
