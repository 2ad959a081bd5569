//! Where the running kernel keeps the fields of a task, from its own type information: no header
//! and no version is assumed.

use anyhow::{Context as _, Result};
use openrtc_common::config::KernelLayout;

use super::btf::Types;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The offsets that the scheduler's programs need.
///
/// # Errors
/// Where the kernel has no readable BTF, or its `task_struct` lacks a field.
pub fn kernel_layout() -> Result<KernelLayout> {
    let cannot = || format!("cannot read the kernel's type information {VMLINUX}");
    let bytes = std::fs::read(VMLINUX).with_context(cannot)?;
    let structs = ["task_struct", "sched_entity", "cfs_rq"];
    let types = Types::find(&bytes, &structs, &["bpf_func_id"]).with_context(cannot)?;
    let task = |names: &[&str]| types.field("task_struct", names);
    Ok(KernelLayout {
        task_tid: task(&["pid"])?,
        task_tgid: task(&["tgid"])?,
        // Renamed in 5.14.
        task_state: task(&["__state", "state"])?,
        task_charged: task(&["se"])? + types.field("sched_entity", &["sum_exec_runtime"])?,
        task_stack: task(&["stack"])?,
        has_task_pt_regs: u32::from(types.has("bpf_func_id", "BPF_FUNC_task_pt_regs")),
        task_throttled: task(&["throttled"]).unwrap_or(0),
        task_queue: types
            .field("sched_entity", &["cfs_rq"])
            .and_then(|queue| Ok(task(&["se"])? + queue))
            .unwrap_or(0),
        queue_throttled: types.field("cfs_rq", &["throttle_count"]).unwrap_or(0),
        reserved: 0,
    })
}
