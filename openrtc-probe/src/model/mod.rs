//! Facts in, [`Snapshot`] out. No clock, no I/O, no async, no serialization: time is an argument.

mod entry;
mod ledger;
mod look;
mod merge;
mod snapshot;
mod stalls;
mod usage;

#[cfg(test)]
mod tests;

pub use ledger::{About, Ledger};
pub use look::{Fact, Look, Names, ThreadLook};
pub use merge::merge;
pub use snapshot::{Health, IdType, Session, Snapshot, Stall, Status, Untagged, Usage, Worker};
pub use stalls::{Known, StallIds, Stalls};
