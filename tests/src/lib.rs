//! What the kernel tests (`tests/tests`) and the measurements (`src/bin`) share: the fixture workers
//! and the daemon as child processes, and what they say.
//!
//! | module | what it is |
//! |---|---|
//! | [`setting`] | where the interpreters, the fixtures and the daemon are |
//! | [`interpreter`] | one interpreter, and what is known of it |
//! | [`container`] | a root, and process ids, of a worker's own |
//! | [`process`] | a child that prints lines; nothing waits without a limit |
//! | [`worker`] | a fixture worker: `ready`, `mark`, `truth` |
//! | [`truth`] | the worker's own account |
//! | [`probe`] | the daemon, attached |
//! | [`driver`] | its library, driven without its loop |
//! | [`nobody`] | the daemon, run by somebody who is not root |
//! | [`refusal`] | how it says that it cannot |
//! | [`said`] | what the daemon prints with `--json` |
//! | [`accuracy`] | both accounts beside each other; the bench of that name |
//! | [`matrix`] | every interpreter and loop: accuracy, stalls, sessions that were there |
//! | [`anatomy`] | a stall of each kind at a known line, and what is told of it; the bench of that name |
//! | [`scale`] | very many sessions; the bench of that name |
//! | [`churn`] | sessions that are replaced all the time, beside their own account |
//! | [`cgroup`] | a group of processes to freeze, or with little memory |
//! | [`random`] | numbers of a seed |
//! | [`cpu_watch`] | the kernel's account of a process, bracketed |
//! | [`stolen`] | what the hypervisor took |
//! | [`stacks`] | what `stacks.py` says of its threads, and what is read of them |
//! | [`kernel`] | the kernel's own list of programs, maps and links |
//! | [`code_pages`] | a process's code, compared with its files |
//! | [`terminal`] | a terminal to run something in |
//! | [`live`] | the live view in a terminal |
//! | [`clock`], [`field`], [`say`] | small things |
//!
//! A test says what it needs and what must be true; every wait has a limit, and no test is skipped
//! without a line on the terminal ([`say::not_run`]).

pub mod accuracy;
pub mod anatomy;
pub mod bench;
pub mod cgroup;
pub mod churn;
pub mod clock;
pub mod code_pages;
pub mod container;
pub mod cpu_watch;
pub mod driver;
pub mod field;
pub mod interpreter;
pub mod kernel;
pub mod layouts;
pub mod live;
pub mod matrix;
pub mod nobody;
pub mod probe;
pub mod process;
pub mod random;
pub mod refusal;
pub mod said;
pub mod say;
pub mod scale;
pub mod setting;
pub mod stacks;
pub mod stolen;
pub mod terminal;
pub mod truth;
pub mod worker;
