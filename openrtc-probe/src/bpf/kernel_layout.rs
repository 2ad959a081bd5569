//! Where the running kernel keeps the fields of a task, from its own type information: no header
//! and no version is assumed.

use anyhow::{Context as _, Result, bail};
use btf_rs::{Btf, Type};
use openrtc_common::config::KernelLayout;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The offsets that the scheduler's programs need.
///
/// # Errors
/// Where the kernel has no readable BTF, or its `task_struct` lacks a field.
pub fn kernel_layout() -> Result<KernelLayout> {
    let cannot = || format!("cannot read the kernel's type information {VMLINUX}");
    // As a whole: the reader seeks for each of a hundred thousand types.
    let bytes = std::fs::read(VMLINUX).with_context(cannot)?;
    let btf = Btf::from_bytes(&bytes).with_context(cannot)?;
    let task = |names: &[&str]| field(&btf, "task_struct", names);
    Ok(KernelLayout {
        task_tid: task(&["pid"])?,
        task_tgid: task(&["tgid"])?,
        // Renamed in 5.14.
        task_state: task(&["__state", "state"])?,
        task_charged: task(&["se"])? + field(&btf, "sched_entity", &["sum_exec_runtime"])?,
        task_stack: task(&["stack"])?,
        has_task_pt_regs: u32::from(has_helper(&btf, "BPF_FUNC_task_pt_regs")?),
        task_throttled: task(&["throttled"]).unwrap_or(0),
        task_queue: field(&btf, "sched_entity", &["cfs_rq"])
            .and_then(|queue| Ok(task(&["se"])? + queue))
            .unwrap_or(0),
        queue_throttled: field(&btf, "cfs_rq", &["throttle_count"]).unwrap_or(0),
        reserved: 0,
    })
}

/// Whether the kernel knows a helper: its type information names them all.
fn has_helper(btf: &Btf, name: &str) -> Result<bool> {
    for ty in btf.resolve_types_by_name("bpf_func_id")? {
        let Type::Enum(found) = ty else { continue };
        for member in &found.members {
            if btf.resolve_name(member)? == name {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn field(btf: &Btf, structure: &str, names: &[&str]) -> Result<u32> {
    for ty in btf.resolve_types_by_name(structure)? {
        let Type::Struct(found) = ty else { continue };
        for member in &found.members {
            if names.contains(&btf.resolve_name(member)?.as_str()) {
                return Ok(member.bit_offset() / 8);
            }
        }
    }
    bail!("the kernel's {structure} has no field {}", names.join(" or "))
}
