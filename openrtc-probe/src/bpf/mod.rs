//! The kernel side as the daemon sees it: load, attach (all or nothing), read, reap.
//!
//! Invariants:
//! - a [`Kernel`] owns every link, program and map; dropping it, or the process dying, detaches
//!   all of them, for nothing is pinned;
//! - the order of attaching is exits, tag changes, enters, threads already alive, scheduler: so an
//!   enter that is seen has its exit seen, and every poll that was running is known.

mod attach;
mod btf;
mod calibrate;
mod credit;
mod kernel_layout;
mod multi;
mod onlooker;
mod read;
mod reap;
mod shared;
mod sites;
mod sys;
mod trial;
mod wire;

pub use attach::{Capacity, CostAccounting, Kernel, Links, Loading, Preparing, ProgramCost};
pub use credit::Place;
pub use kernel_layout::kernel_layout;
pub use onlooker::Onlooker;
pub use read::Told;
pub use reap::Reaper;
pub use sites::{Busiest, Programs, SitePoint, Sites};
pub use trial::{Trial, trial};
