//! The live view's place: the terminal, what is shown on it, and what is done for its keys.

use anyhow::{Context as _, Result};

use super::Wish;
use crate::{
    model::Snapshot,
    plan::Plan,
    save::save,
    view::{
        json,
        top::{Action, Chosen, Live, Palette, Press, Screen, Tasks, press},
    },
};

/// The terminal while the live view has it.
pub(super) struct Table {
    live: Live,
    screen: Screen,
    shown: Option<Snapshot>,
    /// Where pictures were written to.
    written: Vec<String>,
}

impl Table {
    /// Takes the terminal.
    pub(super) fn open(plan: &Plan) -> Result<Table> {
        let rate_hz = 1.0 / plan.interval.as_secs_f64();
        Ok(Table {
            live: Live::enter(plan.is_utf8).context("cannot take the terminal")?,
            screen: Screen::new(plan.order.clone(), Palette::new(plan.colour), rate_hz),
            shown: None,
            written: Vec::new(),
        })
    }

    /// A new picture.
    pub(super) fn show(&mut self, snapshot: Snapshot) -> Result<()> {
        if !self.screen.paused || self.shown.is_none() {
            self.shown = Some(snapshot);
        }
        self.draw()
    }

    /// What has been read of the tasks of the session whose details are open.
    pub(super) fn tell_tasks(&mut self, tasks: Tasks) -> Result<()> {
        if self.screen.paused {
            return Ok(());
        }
        self.screen.tasks = Some(tasks);
        self.draw()
    }

    /// The session whose details are open.
    pub(super) fn focus(&self) -> Option<&Chosen> {
        self.screen.focus()
    }

    /// A key was pressed, or the terminal changed its size.
    pub(super) fn press(&mut self, typed: Press) -> Result<Wish> {
        // Keys before the first picture are about nothing that is seen.
        let nothing = Snapshot::default();
        let shown = self.shown.as_ref().unwrap_or(&nothing);
        let (screen, action) = press(&self.screen, shown, typed);
        self.screen = screen;
        let wish = match action {
            Action::Ignore => return Ok(Wish::Nothing),
            Action::Quit => return Ok(Wish::End),
            Action::Suspend => return Ok(Wish::Suspend),
            Action::Refresh => {
                // Also while paused.
                self.shown = None;
                return Ok(Wish::Picture);
            }
            Action::Draw => Wish::Nothing,
            Action::Rate(hz) => Wish::Rate(hz),
            Action::Threshold(ns) => Wish::Threshold(ns),
            Action::Copy(text) => {
                self.screen.message = Some(self.copy(&text)?);
                Wish::Nothing
            }
            Action::Save => {
                self.screen.message = Some(self.save());
                Wish::Nothing
            }
        };
        self.draw().map(|()| wish)
    }

    /// No terminal says whether it took it.
    fn copy(&mut self, text: &str) -> Result<String> {
        let is_sent = self.live.copy(text).context("cannot write to the terminal")?;
        Ok(if is_sent {
            "sent to the terminal's clipboard (OSC 52)".into()
        } else {
            "the id is too long for a terminal's clipboard: w writes it to a file".into()
        })
    }

    /// What was done, or why not.
    fn save(&mut self) -> String {
        let Some(shown) = &self.shown else { return "there is no picture to write yet".into() };
        // Each worker's own: what is merged of several is for the eye.
        let pictures = shown.fleet.as_deref().unwrap_or(std::slice::from_ref(shown));
        let order = &self.screen.order;
        let snapshots = pictures.iter().map(|one| json::snapshot(one, order));
        let stalls = shown.stalls.iter().map(json::stall);
        let lines: Vec<_> = snapshots.chain(stalls).collect();
        let pid = pictures.first().map_or(0, |one| one.worker.pid);
        match save(&lines.join("\n"), pid, shown.at_unix_ns) {
            Ok(path) => {
                let written = format!("written: {}", path.display());
                self.written.push(written.clone());
                written
            }
            Err(why) => format!("{why:#}"),
        }
    }

    /// Gives the terminal back; where pictures were written to, which may have been too long for it.
    pub(super) fn close(self) -> Vec<String> {
        self.written
    }

    /// Gives the terminal back, until [`Table::take_again`].
    pub(super) fn lend(&mut self) {
        self.live.lend();
    }

    /// Takes the terminal again.
    pub(super) fn take_again(&mut self) -> Result<()> {
        self.live.take_again().context("cannot take the terminal again")?;
        self.draw()
    }

    fn draw(&mut self) -> Result<()> {
        let Some(snapshot) = &self.shown else { return Ok(()) };
        self.screen = self.live.show(snapshot, &self.screen).context("cannot draw the table")?;
        Ok(())
    }
}
