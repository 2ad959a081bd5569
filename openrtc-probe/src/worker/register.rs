//! The general registers: how iced-x86 names them, and where the kernel keeps them.

use std::fmt;

use iced_x86::Register as Iced;

/// A 64-bit general register, but for the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    name: &'static str,
    iced: Iced,
    offset: u32,
}

impl Register {
    /// Every register that may hold a value that we want, callee-saved ones last; offsets are those
    /// of x86-64's `struct pt_regs`:
    /// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/ptrace.h>.
    pub const ALL: [Register; 15] = [
        Self::new("rdi", Iced::RDI, 112),
        Self::new("rsi", Iced::RSI, 104),
        Self::new("rdx", Iced::RDX, 96),
        Self::new("rcx", Iced::RCX, 88),
        Self::new("rax", Iced::RAX, 80),
        Self::new("r8", Iced::R8, 72),
        Self::new("r9", Iced::R9, 64),
        Self::new("r10", Iced::R10, 56),
        Self::new("r11", Iced::R11, 48),
        Self::new("rbx", Iced::RBX, 40),
        Self::new("rbp", Iced::RBP, 32),
        Self::new("r12", Iced::R12, 24),
        Self::new("r13", Iced::R13, 16),
        Self::new("r14", Iced::R14, 8),
        Self::new("r15", Iced::R15, 0),
    ];
    /// How many of [`Self::ALL`] a call may overwrite (System V ABI): the first ones.
    pub const CALLER_SAVED: usize = 9;

    const fn new(name: &'static str, iced: Iced, offset: u32) -> Self {
        Self { name, iced, offset }
    }

    /// Its byte offset in `struct pt_regs`.
    pub fn pt_regs_offset(self) -> u32 {
        self.offset
    }

    /// The index in [`Self::ALL`] of the register that `iced` is, or is a part of.
    pub(super) fn index(iced: Iced) -> Option<usize> {
        let full = iced.full_register();
        Self::ALL.iter().position(|register| register.iced == full)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
