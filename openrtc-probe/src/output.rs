//! Where pictures and stalls go: the terminal, or standard output as text or JSON.
//!
//! Data goes to standard output, everything else to standard error. A reader who closes the pipe
//! has seen enough: that is no error ([`is_closed_pipe`]).

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use crate::{
    model::{Snapshot, Stall},
    plan::{Plan, View},
    view::{
        header, json, log_line, once,
        order::Order,
        top::{Action, Live, Palette, Press, Screen, columns, press},
    },
};

/// What the loop has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// A new picture.
    Picture,
    /// The end.
    End,
}

/// The chosen view's place.
pub struct Output {
    view: View,
    order: Order,
    /// Whether tags that cannot be seen were told of, and are still there.
    told_elsewhere: bool,
    /// The table's state, in [`View::Table`].
    table: Option<Table>,
}

struct Table {
    live: Live,
    screen: Screen,
    shown: Option<Snapshot>,
}

impl Output {
    /// Takes the terminal if the view is the live table.
    pub fn open(plan: &Plan) -> Result<Output> {
        let table = match plan.view {
            View::Table => Some(Table {
                live: Live::enter().context("cannot take the terminal")?,
                screen: Screen::new(plan.order.clone(), Palette::new(plan.colour)),
                shown: None,
            }),
            _ => None,
        };
        let order = plan.order.clone();
        Ok(Output { view: plan.view, order, told_elsewhere: false, table })
    }

    /// A stall has passed the threshold, or has ended.
    pub fn stall(&mut self, stall: &Stall) -> Result<()> {
        match self.view {
            _ if !self.order.keeps_stall(stall) => Ok(()),
            View::Log => print_line(&log_line::stall(stall)),
            View::Json => print_line(&json::stall(stall)),
            // These show stalls inside their pictures.
            View::Table | View::Once | View::JsonOnce => Ok(()),
        }
    }

    /// A new picture.
    pub fn picture(&mut self, snapshot: Snapshot) -> Result<()> {
        self.tell_elsewhere(&snapshot);
        match self.view {
            View::Table => self.show(snapshot),
            View::Once | View::JsonOnce if !snapshot.is_final => Ok(()),
            View::Json | View::JsonOnce => print_line(&json::snapshot(&snapshot, &self.order)),
            View::Once => {
                let text = once::render(&snapshot, &self.order, columns());
                print_line(text.trim_end_matches('\n'))
            }
            View::Log => Ok(()),
        }
    }

    /// A key was pressed, or the terminal changed its size.
    pub fn press(&mut self, typed: Press) -> Result<Wish> {
        let Some(table) = &mut self.table else { return Ok(Wish::Nothing) };
        if let Press::Key(key) = typed {
            let (screen, action) = press(&table.screen, key);
            table.screen = screen;
            match action {
                Action::Quit => return Ok(Wish::End),
                Action::Refresh => {
                    // Also while paused.
                    table.shown = None;
                    return Ok(Wish::Picture);
                }
                Action::Ignore => return Ok(Wish::Nothing),
                Action::Draw => {}
            }
        }
        table.draw().map(|()| Wish::Nothing)
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

    fn show(&mut self, snapshot: Snapshot) -> Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        if !table.screen.paused || table.shown.is_none() {
            table.shown = Some(snapshot);
        }
        table.draw()
    }
}

impl Table {
    fn draw(&mut self) -> Result<()> {
        let Some(snapshot) = &self.shown else { return Ok(()) };
        self.screen = self.live.show(snapshot, &self.screen).context("cannot draw the table")?;
        Ok(())
    }
}

/// Prints a line to standard output, at once.
pub fn print_line(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Whether this error says that nobody reads any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
