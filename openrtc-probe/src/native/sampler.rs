//! Samples of a thread that runs: its registers and the top of its stack, taken by the kernel's own timer.
//!
//! The event counts the thread's time on a CPU, so it costs nothing while the thread sleeps, and it is
//! for the moment of a capture only. Nothing here waits: [`Sampler::start`] opens the event, and
//! whoever comes back a few milliseconds later takes what is there and drops it.
//!
//! Source: `perf_event_open(2)`; `PERF_SAMPLE_REGS_USER`, `PERF_SAMPLE_STACK_USER` in
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/perf_event.h>, and the registers' numbers in
//! <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/uapi/asm/perf_regs.h>.

use std::io;

use perf_event::{
    Builder, SampleFlag,
    data::{Record, SampleRegsAbi},
    events::Software,
};

use crate::cpython::memory::{ReadError, ReadMemory, RemoteAddr};

use super::Registers;

/// Time on a CPU between two samples, in nanoseconds.
const PERIOD_NS: u64 = 1_000_000;
/// Bytes of the stack in a sample: some fifty functions' worth.
const STACK_BYTES: u32 = 8 << 10;
/// Bytes of the ring: room for seven samples; the kernel drops what does not fit.
const RING_BYTES: usize = 64 << 10;
/// Records that are looked at for one sample; others than samples say that some were dropped.
const MAX_RECORDS: usize = 64;

/// Registers by their numbers in the kernel's mask.
const BP: u64 = 6;
const SP: u64 = 7;
const IP: u64 = 8;

/// A thread's registers and the top of its stack, of one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its registers.
    pub registers: Registers,
    /// Its stack, as far as it was copied.
    pub stack: StackCopy,
}

/// A copy of the lowest bytes of a stack.
#[derive(Clone, Debug)]
pub struct StackCopy {
    start: u64,
    bytes: Vec<u8>,
}

impl ReadMemory for StackCopy {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let unmapped = ReadError::Unmapped { addr, len: buf.len() };
        let from = addr.0.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let to = from.and_then(|from| from.checked_add(buf.len()));
        let bytes = from.zip(to).and_then(|(from, to)| self.bytes.get(from..to)).ok_or(unmapped)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// An open event that samples one thread while it runs, until it is dropped.
pub struct Sampler {
    ring: perf_event::Sampler,
}

impl Sampler {
    /// Begins to sample the thread `tid`, once in each millisecond that it runs. Time in the kernel counts
    /// too: its samples show where the kernel was called.
    ///
    /// # Errors
    /// The system's, where the thread is gone or we may not (`CAP_PERFMON`).
    pub fn start(tid: u32) -> io::Result<Self> {
        let tid = i32::try_from(tid).map_err(io::Error::other)?;
        let event = Builder::new(Software::CPU_CLOCK)
            .observe_pid(tid)
            .any_cpu()
            .exclude_kernel(false)
            .sample_period(PERIOD_NS)
            .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
            .sample_regs_user(1 << BP | 1 << SP | 1 << IP)
            .sample_stack_user(STACK_BYTES)
            .enabled(true)
            .build()?;
        Ok(Self { ring: event.sampled(RING_BYTES)? })
    }

    /// The next sample, or `None` where there is none now. Never waits.
    pub fn take(&mut self) -> Option<Sample> {
        for _ in 0..MAX_RECORDS {
            let record = self.ring.next_record()?;
            let Ok(Record::Sample(sample)) = record.parse_record() else { continue };
            let Some(registers) = sample.regs_user() else { continue };
            // In the order of their numbers.
            let (SampleRegsAbi::ABI_64, [bp, sp, ip]) = (registers.abi, &*registers.regs) else {
                continue;
            };
            let bytes = sample.stack_user().unwrap_or_default().to_vec();
            return Some(Sample {
                registers: Registers { ip: *ip, sp: *sp, bp: Some(*bp) },
                stack: StackCopy { start: *sp, bytes },
            });
        }
        None
    }
}
