//! System calls that put a thread to sleep, by what it then waits for: data only.
//!
//! Whatever is not here is [`Class::Other`]: a thread can sleep in any of them, for a lock of the kernel.

use syscalls::Sysno;

use super::cause::Class;

/// Where a call says on what it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Its first argument is a descriptor.
    Descriptor,
    /// Its first argument points at descriptors to be watched (`struct pollfd`).
    Polled,
    /// Nowhere that we look at.
    Elsewhere,
}

/// Calls of one class.
struct Row {
    class: Class,
    subject: Subject,
    calls: &'static [Sysno],
}

const TABLE: &[Row] = &[
    Row {
        class: Class::Sleep,
        subject: Subject::Elsewhere,
        calls: &[Sysno::nanosleep, Sysno::clock_nanosleep, Sysno::pause],
    },
    Row {
        // Those on the GIL are told by their address.
        class: Class::Lock,
        subject: Subject::Elsewhere,
        calls: &[
            Sysno::futex,
            Sysno::futex_wait,
            Sysno::futex_waitv,
            Sysno::semop,
            Sysno::semtimedop,
        ],
    },
    Row { class: Class::Lock, subject: Subject::Descriptor, calls: &[Sysno::flock] },
    Row {
        class: Class::Wait,
        subject: Subject::Elsewhere,
        calls: &[Sysno::wait4, Sysno::waitid, Sysno::vfork],
    },
    Row { class: Class::Io, subject: Subject::Polled, calls: &[Sysno::poll, Sysno::ppoll] },
    Row {
        class: Class::Io,
        subject: Subject::Elsewhere,
        calls: &[
            Sysno::select,
            Sysno::pselect6,
            Sysno::open,
            Sysno::openat,
            Sysno::openat2,
            Sysno::creat,
            Sysno::stat,
            Sysno::lstat,
            Sysno::access,
            Sysno::readlink,
            Sysno::rename,
            Sysno::renameat,
            Sysno::renameat2,
            Sysno::unlink,
            Sysno::unlinkat,
            Sysno::mkdir,
            Sysno::mkdirat,
            Sysno::rmdir,
            Sysno::truncate,
            Sysno::sync,
            Sysno::msync,
        ],
    },
    Row {
        class: Class::Io,
        subject: Subject::Descriptor,
        calls: &[
            Sysno::read,
            Sysno::pread64,
            Sysno::readv,
            Sysno::preadv,
            Sysno::preadv2,
            Sysno::write,
            Sysno::pwrite64,
            Sysno::writev,
            Sysno::pwritev,
            Sysno::pwritev2,
            Sysno::recvfrom,
            Sysno::recvmsg,
            Sysno::recvmmsg,
            Sysno::sendto,
            Sysno::sendmsg,
            Sysno::sendmmsg,
            Sysno::sendfile,
            Sysno::splice,
            Sysno::copy_file_range,
            Sysno::connect,
            Sysno::accept,
            Sysno::accept4,
            Sysno::shutdown,
            Sysno::close,
            Sysno::fsync,
            Sysno::fdatasync,
            Sysno::sync_file_range,
            Sysno::syncfs,
            Sysno::ftruncate,
            Sysno::fallocate,
            Sysno::getdents64,
            Sysno::fstat,
            Sysno::newfstatat,
            Sysno::statx,
            Sysno::ioctl,
            Sysno::epoll_wait,
            Sysno::epoll_pwait,
            Sysno::epoll_pwait2,
            Sysno::io_uring_enter,
        ],
    },
];

/// What a thread waits for that sleeps in the call of this number, and where the call says on what.
pub fn class_of(number: u32) -> (Class, Subject) {
    let known = call(number).and_then(|call| TABLE.iter().find(|row| row.calls.contains(&call)));
    known.map_or((Class::Other, Subject::Elsewhere), |row| (row.class, row.subject))
}

/// A call's name; `None` where this number is none that is known.
pub fn name_of(number: u32) -> Option<&'static str> {
    call(number).map(|call| call.name())
}

fn call(number: u32) -> Option<Sysno> {
    Sysno::new(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_stands_in_two_rows() {
        let calls: Vec<Sysno> = TABLE.iter().flat_map(|row| row.calls).copied().collect();
        for (index, call) in calls.iter().enumerate() {
            assert!(!calls[..index].contains(call), "{call} stands twice");
        }
    }

    #[test]
    fn calls_are_known_by_their_numbers() {
        assert_eq!(class_of(230), (Class::Sleep, Subject::Elsewhere));
        assert_eq!(name_of(230), Some("clock_nanosleep"));
        assert_eq!(class_of(45), (Class::Io, Subject::Descriptor), "recvfrom");
        assert_eq!(class_of(24), (Class::Other, Subject::Elsewhere), "sched_yield");
        assert_eq!((class_of(99_999).0, name_of(99_999)), (Class::Other, None));
    }
}
