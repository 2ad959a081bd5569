//! Facts in, [`Snapshot`] out. No clock, no I/O, no async, no serialization: time is an argument.

mod anatomy;
mod cause;
mod cost;
mod delay;
mod ended;
mod entry;
mod fold;
mod histogram;
mod history;
mod ledger;
mod look;
mod merge;
mod mode;
mod recent;
mod record;
mod roster;
mod snapshot;
mod stalls;
mod syscalls;
mod usage;
mod verdict;

#[cfg(test)]
mod tests;

pub use anatomy::{Anatomy, Capture, Frame, GilHolder, Late, MAX_BYSTANDERS, Process, Stack};
pub use cause::{Causes, Class, GilPlaces, class_of_wait};
pub use cost::{Expense, RunNs};
pub use entry::{TypeNames, id_of};
pub use histogram::{Bucket, Histogram};
pub use history::{CpuHistory, History, SECONDS, Second};
pub use ledger::{About, Ledger};
pub use look::{Fact, Look, Names, SlotLook, ThreadLook};
pub use merge::merge;
pub use mode::{Accounting, Choice, Mode, ModeChange, ModeWish, ProbeLoad, Reason, Sampling};
pub use record::Sample;
pub use smol_str::SmolStr;
pub use snapshot::{
    Cost, Focus, Health, IdType, LoopDelay, MAX_ENDED, Repeats, Session, Snapshot, Stall, Status,
    Untagged, Usage, Worker,
};
pub use stalls::{Known, StallIds, Stalls, Wanted};
pub use syscalls::{Subject, class_of};
pub use verdict::{
    Blame, Culprit, Finding, Fleet, Load, Times, Unknown, Verdict, Wedged, loop_load, verdict,
};
