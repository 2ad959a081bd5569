//! Facts in, [`Snapshot`] out. No clock, no I/O, no async, no serialization: time is an argument.

mod anatomy;
mod cause;
mod entry;
mod fold;
mod ledger;
mod look;
mod merge;
mod snapshot;
mod stalls;
mod syscalls;
mod usage;

#[cfg(test)]
mod tests;

pub use anatomy::{Anatomy, Capture, Frame, GilHolder, Late, MAX_BYSTANDERS, Process, Stack};
pub use cause::{Causes, Class, GilPlaces, class_of_wait};
pub use entry::{TypeNames, id_of};
pub use ledger::{About, Ledger};
pub use look::{Fact, Look, Names, ThreadLook};
pub use merge::merge;
pub use snapshot::{
    Health, IdType, Repeats, Session, Snapshot, Stall, Status, Untagged, Usage, Worker,
};
pub use stalls::{Known, StallIds, Stalls, Wanted};
pub use syscalls::{Subject, class_of};
