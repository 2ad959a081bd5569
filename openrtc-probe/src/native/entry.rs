//! Which frame of a native stack tells what Python code waits for: a rule over data.
//!
//! Innermost first, a stack looks like `libc · library · extension · interpreter`. What helps is the function
//! through which the innermost library was entered: `PKCS5_PBKDF2_HMAC` and not the round of SHA-256 that it
//! is in. Beyond the evaluation loop stand the callers of the Python code, which are no answer.

use super::{Native, NativeFrame};

/// Whose code a frame is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file that holds the interpreter.
    Interpreter,
    /// The C library, the dynamic linker, or the kernel's own code in the process.
    System,
    /// An extension module, or a library that one uses.
    Library,
}

/// What files of the system are called; a digit or a dot or a dash follows.
const SYSTEM: &[&str] = &[
    "[vdso]",
    "ld",
    "ld-linux",
    "ld-linux-x86-64",
    "ld-musl-x86_64",
    "libc",
    "libdl",
    "libm",
    "libpthread",
    "librt",
];

/// Functions that run Python code: a part that the compiler split off has a suffix after a dot.
const EVALUATION: &[&str] = &["_PyEval_EvalFrameDefault", "_PyEval_EvalFrame"];
/// How those are called that an interpreter built of tail calls consists of (3.14 and later).
const EVALUATION_PREFIX: &str = "_TAIL_CALL_";

/// How functions of the interpreter's file are called that are an answer: its own locks, those of modules that are
/// built in, and of its few operations that may take long. All others are the interpreter itself at work.
const BUILT_IN: &[&str] = &[
    "PyThread_acquire_lock",
    "_PyMutex_Lock",
    "_PyParkingLot_Park",
    "_PySemaphore_Wait",
    "_codecs_",
    "_collections_",
    "_functools_",
    "_io_",
    "_operator_",
    "_signal_",
    "_socket_",
    "_sre_",
    "_ssl_",
    "_struct_",
    "_thread_",
    "binascii_",
    "bufferedio_",
    "builtin_",
    "bytes_join",
    "bytes_replace",
    "deque_",
    "faulthandler_",
    "fileio_",
    "gc_collect",
    "itertools_",
    "list_sort",
    "lock_PyThread_",
    "long_pow",
    "marshal_",
    "math_",
    "os_",
    "pattern_",
    "posix_",
    "select_",
    "sock_",
    "sre_",
    "thread_PyThread_",
    "time_sleep",
    "unicode_join",
    "unicode_replace",
    "unicode_split",
    "zlib_",
];

/// Functions of the system that are called all the time and never wait.
const HOUSEKEEPING: &[&str] = &[
    "calloc",
    "clock_gettime",
    "free",
    "gettimeofday",
    "malloc",
    "memchr",
    "memcmp",
    "memcpy",
    "memmove",
    "memrchr",
    "memset",
    "realloc",
    "strchr",
    "strcmp",
    "strlen",
];

impl Place {
    /// Whose file this is.
    pub fn of(name: &str, is_interpreter: bool) -> Self {
        let is_system = SYSTEM.iter().any(|system| {
            name.strip_prefix(system)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
        });
        match (is_interpreter, is_system) {
            (true, _) => Self::Interpreter,
            (false, true) => Self::System,
            (false, false) => Self::Library,
        }
    }
}

impl NativeFrame {
    /// Whether it is known to run Python code.
    pub(super) fn is_evaluation(&self) -> bool {
        let Some(symbol) = self.symbol.as_deref().filter(|_| self.place == Place::Interpreter)
        else {
            return false;
        };
        let function = symbol.split('.').next().unwrap_or_default();
        EVALUATION.contains(&function) || function.starts_with(EVALUATION_PREFIX)
    }

    fn is_built_in(&self) -> bool {
        self.symbol
            .as_deref()
            .is_some_and(|name| BUILT_IN.iter().any(|known| name.starts_with(known)))
    }

    fn answer(&self) -> Option<String> {
        Some(format!("{} ({})", self.symbol.as_deref()?, self.module))
    }
}

/// The answer, as [`Native::innermost`] describes it.
pub fn innermost(frames: &[NativeFrame]) -> Option<String> {
    // A nameless function of the interpreter may be a part of its evaluation loop: nothing beyond it is
    // known to be called by the Python code that runs now.
    let is_python = |frame: &NativeFrame| {
        frame.is_evaluation() || (frame.place == Place::Interpreter && frame.symbol.is_none())
    };
    let end = frames.iter().position(is_python).unwrap_or(frames.len());
    let called = frames.get(..end)?;
    library(called).or_else(|| system(called)).or_else(|| built_in(called))
}

/// The function through which the innermost library with a name for it was entered; where none has, at
/// least where in which file.
fn library(called: &[NativeFrame]) -> Option<String> {
    let mut rest = called;
    let mut nameless = None;
    while let Some(first) = rest.iter().position(|frame| frame.place == Place::Library) {
        let module = &rest[first].module;
        let is_other =
            |frame: &NativeFrame| frame.place != Place::System && frame.module != *module;
        let end =
            rest[first..].iter().position(is_other).map_or(rest.len(), |length| first + length);
        let mut inside = rest[first..end].iter().filter(|frame| frame.module == *module);
        if let Some(answer) = inside.clone().rev().find_map(NativeFrame::answer) {
            return Some(answer);
        }
        nameless = nameless.or_else(|| {
            inside.next_back().map(|frame| format!("{}+{:#x}", frame.module, frame.offset))
        });
        rest = &rest[end..];
    }
    nameless
}

/// The function of the system that was called, where that was the innermost call.
fn system(called: &[NativeFrame]) -> Option<String> {
    let inner = called.iter().take_while(|frame| frame.place == Place::System);
    let named = inner.filter(|frame| frame.symbol.is_some());
    let entered = named.last()?;
    let name = entered.symbol.as_deref()?.trim_start_matches('_');
    let is_housekeeping = HOUSEKEEPING.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    entered.answer().filter(|_| !is_housekeeping)
}

/// The function of a built-in module through which it was entered.
fn built_in(called: &[NativeFrame]) -> Option<String> {
    called.iter().rev().find(|frame| frame.is_built_in()).and_then(NativeFrame::answer)
}

/// What most of several samples of one thread say: more than two in three, of all that were taken. Python
/// code calls C functions all the time, and one sample would name any of them.
pub fn most(samples: &[Native]) -> Option<String> {
    let answers: Vec<Option<String>> = samples.iter().map(Native::innermost).collect();
    let count = |answer: &Option<String>| answers.iter().filter(|other| *other == answer).count();
    let answer = answers.iter().find(|answer| count(answer) * 3 > samples.len() * 2)?;
    answer.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `symbol@file ...`, innermost first; `-` for no symbol.
    fn stack(text: &str) -> Vec<NativeFrame> {
        let frame = |word: &str| {
            let (symbol, module) = word.split_once('@').unwrap();
            let place = Place::of(module, module.contains("python3"));
            let symbol = (symbol != "-").then(|| symbol.to_owned());
            NativeFrame { symbol, module: module.to_owned(), offset: 0x10, place }
        };
        text.split_whitespace().map(frame).collect()
    }

    #[test]
    fn the_entry_of_the_innermost_library_is_the_answer() {
        let beyond = "_PyEval_EvalFrameDefault@python3.11 task_step@_asyncio.so run@loop.so";
        for (inner, answer) in [
            (
                "clock_nanosleep@libc.so.6 time_sleep@python3.11",
                Some("clock_nanosleep (libc.so.6)"),
            ),
            ("clock_nanosleep@libc.so.6 -@python3.11", Some("clock_nanosleep (libc.so.6)")),
            (
                "-@libc.so.6 pthread_cond_timedwait@libc.so.6 -@python3.11",
                Some("pthread_cond_timedwait (libc.so.6)"),
            ),
            (
                "read@libc.so.6 -@libsqlite3.so.0 sqlite3_exec@libsqlite3.so.0 sqlite3_step@libsqlite3.so.0 -@_sqlite3.so PyObject_Vectorcall@python3.11",
                Some("sqlite3_step (libsqlite3.so.0)"),
            ),
            (
                "-@libcrypto.so.3 HMAC_Update@libcrypto.so.3 PKCS5_PBKDF2_HMAC@libcrypto.so.3 -@_hashlib.so",
                Some("PKCS5_PBKDF2_HMAC (libcrypto.so.3)"),
            ),
            ("cmp@libx.so qsort@libc.so.6 sort@libx.so -@_x.so", Some("sort (libx.so)")),
            ("memmove@libc.so.6 -@_json.so", Some("_json.so+0x10")),
            ("-@libx.so entry@_x.so", Some("entry (_x.so)")),
            (
                "PyLong_FromLong@python3.11 parse@_json.so PyObject_Vectorcall@python3.11",
                Some("parse (_json.so)"),
            ),
            (
                "sre_ucs1_match@python3.11 _sre_SRE_Pattern_match@python3.11 method_vectorcall@python3.11",
                Some("_sre_SRE_Pattern_match (python3.11)"),
            ),
            ("poll@[vdso] clock_gettime@libc.so.6 time_monotonic@python3.11", None),
        ] {
            let frames = stack(&format!("{inner} {beyond}"));
            assert_eq!(innermost(&frames).as_deref(), answer, "{inner}");
        }
    }

    #[test]
    fn python_itself_is_no_answer() {
        for inner in [
            "",
            "long_add@python3.11",
            "-@python3.11",
            "malloc@libc.so.6 PyObject_Malloc@python3.11",
            "-@libc.so.6 -@python3.11",
            "__memmove_avx_unaligned@libc.so.6 list_extend@python3.11",
        ] {
            for evaluation in [
                "_PyEval_EvalFrameDefault",
                "_PyEval_EvalFrameDefault.cold",
                "_TAIL_CALL_CALL",
                "-",
            ] {
                let frames =
                    stack(&format!("{inner} {evaluation}@python3.11 sqlite3_step@libsqlite3.so.0"));
                assert_eq!(innermost(&frames), None, "{inner} {evaluation}");
            }
        }
        assert_eq!(innermost(&[]), None);
    }

    #[test]
    fn one_sample_of_many_decides_nothing() {
        let in_step = Native { frames: stack("sqlite3_step@libsqlite3.so.0") };
        let in_python = Native { frames: stack("_PyEval_EvalFrameDefault@python3.11") };
        let samples =
            |step, python| [vec![in_step.clone(); step], vec![in_python.clone(); python]].concat();
        assert_eq!(most(&samples(7, 0)).as_deref(), Some("sqlite3_step (libsqlite3.so.0)"));
        assert_eq!(most(&samples(5, 2)).as_deref(), Some("sqlite3_step (libsqlite3.so.0)"));
        assert_eq!(most(&samples(4, 3)), None);
        assert_eq!(most(&samples(2, 5)), None);
        assert_eq!(most(&[]), None);
    }

    #[test]
    fn files_have_their_place() {
        for (name, place) in [
            ("libc.so.6", Place::System),
            ("libc-2.31.so", Place::System),
            ("ld-linux-x86-64.so.2", Place::System),
            ("ld-musl-x86_64.so.1", Place::System),
            ("[vdso]", Place::System),
            ("libcrypto.so.3", Place::Library),
            ("libcares.so.2", Place::Library),
            ("_sqlite3.cpython-311-x86_64-linux-gnu.so", Place::Library),
        ] {
            assert_eq!(Place::of(name, false), place, "{name}");
        }
    }
}
