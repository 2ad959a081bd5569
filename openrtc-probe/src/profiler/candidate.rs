//! A process that may be a worker: one that runs Python, and at some time an event loop.

use crate::{
    blocker::Blocker,
    cpython::{PyThread, Python},
    worker::Worker,
};

/// A process that may be a worker.
pub struct Candidate {
    worker: Worker,
    /// Its interpreter, once there is one: it stays the same until the process is replaced.
    python: Option<Python>,
}

impl Candidate {
    /// Looks at the process `pid`.
    ///
    /// # Errors
    /// What [`Worker::open`] says.
    pub fn open(pid: i32) -> Result<Candidate, Blocker> {
        Ok(Candidate { worker: Worker::open(pid)?, python: None })
    }

    /// Whether it is the process that was opened, and runs the program that it ran then.
    pub fn is_the_same(&self) -> bool {
        self.worker.is_alive() && !self.worker.is_replaced()
    }

    /// Whether one of its threads runs an event loop now.
    ///
    /// # Errors
    /// Why its interpreter cannot be read.
    pub fn runs_loop(&mut self) -> Result<bool, Blocker> {
        let Ok(tids) = self.worker.tids() else {
            return Err(Blocker::Exited { pid: self.worker.pid() });
        };
        let python = if let Some(python) = &self.python {
            python
        } else {
            let python = self.worker.python(&self.worker.interpreter()?, &tids)?;
            self.python.insert(python)
        };
        // A list that moves while it is read is read again at the next look.
        let threads = python.threads(&tids).unwrap_or_default();
        Ok(threads.iter().any(PyThread::runs_loop))
    }
}
