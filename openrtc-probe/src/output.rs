//! Where pictures and stalls go: the terminal, or standard output as text or JSON.
//!
//! Data goes to standard output, everything else to standard error. A reader who closes the pipe
//! has seen enough: that is no error ([`is_closed_pipe`]).

mod table;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use self::table::Table;
use crate::{
    model::{ModeChange, Reason, Snapshot, Stall, merge},
    plan::{Plan, View},
    view::{
        ascii::ascii,
        header, json, log_line, mode, once,
        order::Order,
        top::{Chosen, Press, Tasks, columns},
    },
};

/// Last pictures that are kept for the next picture of all.
const MAX_GONE: usize = 256;
/// Lines above the table.
const MAX_NOTES: usize = 3;
/// Lines that wait for the terminal to be given back.
const MAX_UNSAID: usize = 256;

/// What the loop has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// A new picture.
    Picture,
    /// So many pictures a second.
    Rate(f64),
    /// From now on a poll of so many nanoseconds is a stall.
    Threshold(u64),
    /// To stop, until a shell lets us go on.
    Suspend,
    /// The end.
    End,
}

/// The chosen view's place.
pub struct Output {
    view: View,
    order: Order,
    /// Whether tags that cannot be seen were told of, and are still there.
    told_elsewhere: bool,
    /// Whether there may be more than one worker: then each line and row says of which it is.
    is_fleet: bool,
    /// Whether text may hold more than ASCII.
    is_utf8: bool,
    /// As in the plan: with any, changes of the mode are said on standard error.
    verbosity: u8,
    /// Last pictures of workers that are gone, for the next picture of all.
    gone: Vec<Snapshot>,
    /// How many more there were.
    gone_too: usize,
    /// What stands above the table.
    notes: Vec<String>,
    /// What could not be said while the table had the terminal.
    unsaid: Vec<String>,
    /// The table's state, in [`View::Table`].
    table: Option<Table>,
}

impl Output {
    /// Takes the terminal if the view is the live table.
    pub fn open(plan: &Plan) -> Result<Output> {
        let table = match plan.view {
            View::Table => Some(Table::open(plan)?),
            _ => None,
        };
        Ok(Output {
            view: plan.view,
            order: plan.order.clone(),
            told_elsewhere: false,
            is_fleet: plan.is_fleet(),
            is_utf8: plan.is_utf8,
            verbosity: plan.verbosity,
            gone: Vec::new(),
            gone_too: 0,
            notes: Vec::new(),
            unsaid: Vec::new(),
            table,
        })
    }

    /// A stall has passed the threshold, or has ended.
    pub fn stall(&mut self, stall: &Stall) -> Result<()> {
        match self.view {
            _ if !self.order.keeps_stall(stall) => Ok(()),
            View::Log => self.text(&log_line::stall(stall, self.is_fleet)),
            View::Json => print_line(&json::stall(stall)),
            // These show stalls inside their pictures.
            View::Table | View::Once | View::JsonOnce => Ok(()),
        }
    }

    /// Polls of a worker are accounted in another way from now on, or the worker has just been attached to.
    pub fn mode(&mut self, pid: u32, change: &ModeChange) -> Result<()> {
        let line = mode::log_line(change, self.is_fleet.then_some(pid));
        match self.view {
            // What was asked for goes without saying.
            View::Log if change.reason != Reason::Asked => self.text(&line),
            _ if self.verbosity > 0 => {
                self.say(&line);
                Ok(())
            }
            // Pictures have it.
            _ => Ok(()),
        }
    }

    /// New pictures, one of each worker that is there.
    pub fn pictures(&mut self, pictures: Vec<Snapshot>, is_final: bool) -> Result<()> {
        for one in &pictures {
            self.tell_elsewhere(one);
        }
        match self.view {
            View::Log => Ok(()),
            View::Once | View::JsonOnce if !is_final => Ok(()),
            View::Json | View::JsonOnce => pictures.iter().try_for_each(|one| self.json(one)),
            View::Table => match self.in_one(pictures) {
                Some(all) => self.table.as_mut().map_or(Ok(()), |table| table.show(all)),
                None => Ok(()),
            },
            View::Once => match self.in_one(pictures) {
                Some(all) => {
                    let text = once::render(&all, &self.order, columns());
                    self.text(text.trim_end_matches('\n'))
                }
                None => Ok(()),
            },
        }
    }

    /// The last picture of a worker that is gone.
    pub fn last_picture(&mut self, last: Snapshot) -> Result<()> {
        match self.view {
            View::Log => {}
            View::Json | View::JsonOnce => self.json(&last)?,
            View::Table | View::Once if self.gone.len() < MAX_GONE => self.gone.push(last),
            View::Table | View::Once => self.gone_too += 1,
        }
        Ok(())
    }

    /// Text for people.
    fn text(&self, text: &str) -> Result<()> {
        print_text(text, self.is_utf8)
    }

    fn json(&self, one: &Snapshot) -> Result<()> {
        print_line(&json::snapshot(one, &self.order))
    }

    /// All pictures, also of those that have gone since the last time, in one.
    fn in_one(&mut self, pictures: Vec<Snapshot>) -> Option<Snapshot> {
        let mut all = std::mem::take(&mut self.gone);
        all.extend(pictures);
        let all = if self.is_fleet { Some(merge(all)) } else { all.pop() };
        let mut notes = self.notes.clone();
        match std::mem::take(&mut self.gone_too) {
            0 => {}
            more => notes.push(format!("{more} more workers have ended: they are not shown")),
        }
        all.map(|all| Snapshot { notes, ..all })
    }

    /// Says what stays worth knowing, and what to do about it: above the table, or on standard error.
    pub fn note(&mut self, what: &str, hint: &str) {
        if self.table.is_none() {
            eprintln!("{what}\nhint: {hint}");
        } else if self.notes.len() < MAX_NOTES {
            self.notes.push(format!("{what} ({hint})"));
        }
    }

    /// Says something on standard error, at the end if the table has the terminal.
    pub fn say(&mut self, text: &str) {
        if self.table.is_some() {
            self.unsaid.truncate(MAX_UNSAID - 1);
            self.unsaid.push(text.to_owned());
        } else {
            eprintln!("{text}");
        }
    }

    /// A key was pressed, or the terminal changed its size.
    pub fn press(&mut self, typed: Press) -> Result<Wish> {
        self.table.as_mut().map_or(Ok(Wish::Nothing), |table| table.press(typed))
    }

    /// The session whose details are open.
    pub fn focus(&self) -> Option<&Chosen> {
        self.table.as_ref()?.focus()
    }

    /// What has been read of the tasks of that session.
    pub fn tell_tasks(&mut self, tasks: Tasks) -> Result<()> {
        self.table.as_mut().map_or(Ok(()), |table| table.tell_tasks(tasks))
    }

    /// Gives the terminal back, stops, and once we go on takes it again.
    pub fn suspend(&mut self, stop: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.lend();
        }
        stop()?;
        self.resume()
    }

    /// We were stopped and go on: a shell had the terminal meanwhile.
    pub fn resume(&mut self) -> Result<()> {
        self.table.as_mut().map_or(Ok(()), Table::take_again)
    }

    /// Says on standard error that tasks have begun to hold tags that cannot be seen. The table has it
    /// in its header.
    fn tell_elsewhere(&mut self, snapshot: &Snapshot) {
        let are_elsewhere = snapshot.worker.tasks_tagged_elsewhere > 0;
        if are_elsewhere && !self.told_elsewhere && self.view != View::Table {
            let notice = header::tag_notice(&snapshot.worker).unwrap_or_default();
            eprintln!("warning: {notice}");
        }
        self.told_elsewhere = are_elsewhere;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let written = self.table.take().map(Table::close).unwrap_or_default();
        for text in self.unsaid.iter().chain(&written) {
            eprintln!("{text}");
        }
    }
}

/// Prints a line to standard output, at once.
pub fn print_line(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// The same of a text that may have more than ASCII in it, for a reader who can read that or cannot.
pub fn print_text(text: &str, is_utf8: bool) -> Result<()> {
    if is_utf8 { print_line(text) } else { print_line(&ascii(text)) }
}

/// Whether this error says that nobody reads any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
