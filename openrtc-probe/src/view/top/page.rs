//! How the lines of a frame are shared out.

use std::ops::Range;

use crate::model::Snapshot;
use crate::view::columns::rows_below;
use crate::view::header;
use crate::view::stalls::listed;
use crate::view::top::screen::{Pane, Screen};

/// Stalls listed below the sessions at most.
const STALLS_LISTED: usize = 8;
/// The rows below the sessions leave when there are fewer lines than this between header and footer
/// and they would take one from a session.
const LEAST_FOR_ROWS_BELOW: usize = 12;
/// Lines of the stalls' pane for the selected one, of those between header and footer.
const SELECTED_STALL_SHARE: usize = 2;

/// Some lines, from the one at `at` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) at: usize,
    pub(super) lines: usize,
}

impl Lines {
    /// The how-manieth of them a line of the screen is.
    pub(super) fn of(self, line: usize) -> Option<usize> {
        line.checked_sub(self.at).filter(|at| *at < self.lines)
    }

    pub(super) fn range(self) -> Range<usize> {
        self.at..self.at + self.lines
    }
}

/// What is where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// How wide it is.
    pub(super) columns: usize,
    /// Lines of the header.
    pub(super) header: Lines,
    /// What is to be known first.
    pub(super) notice: Lines,
    /// The line that says what is shown.
    pub(super) selection_at: usize,
    /// The titles of the table.
    pub(super) titles_at: usize,
    /// Sessions, stalls or details.
    pub(super) body: Lines,
    /// Lines that the details have in all.
    pub(super) details: usize,
    /// The rows below the sessions.
    pub(super) below: Lines,
    /// Stalls below them with their titles; or, among stalls, more of the selected one.
    pub(super) stalls: Lines,
    /// What is accounted for, and what was lost.
    pub(super) footer: Lines,
    /// The last line: keys, what was said, or what is typed.
    pub(super) hints_at: usize,
}

/// Puts one below the other.
struct Pile {
    next: usize,
    end: usize,
}

impl Pile {
    /// So many lines, or as many as there are.
    fn take(&mut self, lines: usize) -> Lines {
        let lines = lines.min(self.end.saturating_sub(self.next));
        let taken = Lines { at: self.next, lines };
        self.next += lines;
        taken
    }

    fn left(&self) -> usize {
        self.end.saturating_sub(self.next)
    }
}

impl Page {
    /// For `rows` sessions below so many lines of a header, on a terminal of this size. What is said of the whole worker gives way
    /// before the table does.
    pub(super) fn new(
        snapshot: &Snapshot,
        screen: &Screen,
        (rows, header): (usize, usize),
        columns: usize,
        lines: usize,
    ) -> Self {
        let mut pile = Pile { next: 0, end: lines.saturating_sub(1) };
        let header = pile.take(header);
        let notice = pile.take(notice(snapshot, columns).len());
        let selection_at = pile.take(1).at;
        let footer = footer(snapshot, columns).len();
        let page = Self { columns, header, notice, selection_at, ..Self::default() };
        let left = pile.left().saturating_sub(footer);
        let page = match screen.pane {
            Pane::Sessions => page.sessions(&mut pile, left, snapshot, screen, rows),
            Pane::Stalls => page.stalls(&mut pile, left, screen.stall(snapshot).is_some()),
            Pane::Details => Self { body: pile.take(left), ..page },
        };
        let footer = pile.take(footer);
        Self { footer, hints_at: lines.saturating_sub(1), ..page }
    }

    fn sessions(
        self,
        pile: &mut Pile,
        left: usize,
        snapshot: &Snapshot,
        screen: &Screen,
        rows: usize,
    ) -> Self {
        // The titles of both tables.
        let left = left.saturating_sub(2);
        let below = rows_below(snapshot, &screen.order).len();
        let stalls = listed(snapshot, &screen.order, left / 4).len();
        let is_enough = left >= LEAST_FOR_ROWS_BELOW || left >= rows.max(1) + below + stalls;
        let below = if is_enough { below } else { 0 };
        let idle = left.saturating_sub(below + rows.max(1));
        let most = STALLS_LISTED.min(idle.max(left / 4));
        let stalls = listed(snapshot, &screen.order, most).len();
        Self {
            titles_at: pile.take(1).at,
            body: pile.take(left.saturating_sub(below + stalls)),
            below: pile.take(below),
            stalls: pile.take(stalls + 1),
            ..self
        }
    }

    fn stalls(self, pile: &mut Pile, left: usize, is_one_selected: bool) -> Self {
        let titles_at = pile.take(1).at;
        let left = left.saturating_sub(1);
        let more = if is_one_selected { left / SELECTED_STALL_SHARE } else { 0 };
        Self { titles_at, body: pile.take(left - more), stalls: pile.take(more), ..self }
    }
}

/// What stands above all else: less of it where something was opened to be read.
pub(super) fn header(
    snapshot: &Snapshot,
    pane: Pane,
    columns: usize,
    lines: usize,
) -> Vec<header::Line> {
    let share = if pane == Pane::Sessions { lines } else { lines / 2 };
    header::of_screen(snapshot, columns, share)
}

/// What is to be known before the sessions are believed.
pub(super) fn notice(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let notice = header::tag_notice(&snapshot.worker);
    let mut notice = notice.map_or(vec![], |notice| header::wrap_words(&notice, columns));
    notice.extend(header::notes(snapshot, columns));
    notice
}

/// What is accounted for, and what was lost.
pub(super) fn footer(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    header::wrap(&[header::check(snapshot), header::losses(snapshot)], columns)
}
