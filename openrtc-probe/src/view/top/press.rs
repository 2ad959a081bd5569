//! What a key makes of the screen.

use crate::model::Snapshot;
use crate::view::columns_of;
use crate::view::grid::Grid;
use crate::view::harmless::width;
use crate::view::order::Sort;
use crate::view::top::keys::{Command, Key, Press, command_of};
use crate::view::top::list::{Items as _, Move};
use crate::view::top::prompt::{Asks, Prompt, Typed};
use crate::view::top::screen::{Chosen, Pane, RATES_HZ, Screen};

/// Lines that a turn of the wheel moves.
const WHEEL_LINES: isize = 3;
/// As `--slow-session-threshold-ms`.
const THRESHOLD_MS: std::ops::RangeInclusive<u64> = 1..=3_600_000;
const NS_PER_MS: u64 = 1_000_000;

/// What the caller is to do after a key, besides drawing the new screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing else.
    Draw,
    /// Nothing: not even the screen has changed.
    Ignore,
    /// Take a new picture now, also while paused.
    Refresh,
    /// Take so many pictures a second from now on.
    Rate(f64),
    /// From now on a poll of so many nanoseconds is a stall.
    Threshold(u64),
    /// Put this text into the clipboard.
    Copy(String),
    /// Write the picture to a file.
    Save,
    /// Stop, and draw again when it goes on.
    Suspend,
    /// End.
    Quit,
}

/// The next screen after something was pressed, and what else is to be done. `snapshot` is the one that
/// is shown.
pub fn press(screen: &Screen, snapshot: &Snapshot, press: Press) -> (Screen, Action) {
    // What was said has been read.
    let mut next = Screen { message: None, ..screen.clone() };
    let action = match press {
        Press::Resize => return (next, Action::Draw),
        Press::Wheel(by) => {
            roll(&mut next, WHEEL_LINES * isize::from(by));
            None
        }
        Press::Click { column, line } => {
            click(&mut next, snapshot, column.into(), line.into());
            None
        }
        Press::Key(key) => match &screen.prompt {
            // The only keys that mean the same wherever they are pressed.
            Some(_) if matches!(key, Key::CtrlC) => Some(Action::Quit),
            Some(_) if matches!(key, Key::CtrlZ) => Some(Action::Suspend),
            Some(prompt) => type_in(&mut next, screen, prompt, key),
            None => command_of(key).and_then(|command| obey(&mut next, snapshot, command)),
        },
    };
    let action = action.unwrap_or(if next == *screen { Action::Ignore } else { Action::Draw });
    (next, action)
}

fn obey(next: &mut Screen, snapshot: &Snapshot, command: Command) -> Option<Action> {
    match command {
        Command::Quit => return Some(Action::Quit),
        Command::Refresh => return Some(Action::Refresh),
        Command::Save => return Some(Action::Save),
        Command::Suspend => return Some(Action::Suspend),
        Command::Faster => return rate(next, RATES_HZ.into_iter().find(|hz| *hz > next.rate_hz)),
        Command::Slower => {
            return rate(next, RATES_HZ.into_iter().rev().find(|hz| *hz < next.rate_hz));
        }
        Command::Copy => match next.about(snapshot) {
            Some(chosen) => return Some(Action::Copy(chosen.session_id.to_string())),
            None => next.message = Some("no session is selected: j or an arrow selects one".into()),
        },
        Command::Help => {
            next.help = !next.help;
            next.scroll = 0;
        }
        Command::Pause => next.paused = !next.paused,
        Command::Back => back(next),
        Command::OtherList => {
            let to = if next.pane == Pane::Stalls { Pane::Sessions } else { Pane::Stalls };
            open(next, to);
        }
        Command::Details => details(next, snapshot),
        Command::Filter => ask(next, Asks::Filter),
        Command::Threshold => ask(next, Asks::Threshold),
        Command::Sort => sort(next, next.order.sort.next(), false),
        Command::Reverse => sort(next, next.order.sort, !next.order.reverse),
        Command::Status => next.order.status = next.order.status.next(),
        Command::Ended => {
            next.order.show_ended = !next.order.show_ended;
            let are = if next.order.show_ended { "shown for a minute" } else { "hidden" };
            next.message = Some(format!("ended sessions are {are}"));
        }
        Command::LineUp => go(next, snapshot, Move::By(-1)),
        Command::LineDown => go(next, snapshot, Move::By(1)),
        Command::PageUp => go(next, snapshot, Move::By(-page(next))),
        Command::PageDown => go(next, snapshot, Move::By(page(next))),
        Command::First => go(next, snapshot, Move::To(0)),
        Command::Last => go(next, snapshot, Move::To(usize::MAX)),
    }
    None
}

fn page(screen: &Screen) -> isize {
    isize::try_from(screen.page.body.lines.max(1)).unwrap_or(isize::MAX)
}

fn rate(next: &mut Screen, to: Option<f64>) -> Option<Action> {
    if let Some(hz) = to {
        next.rate_hz = hz;
    }
    next.message = Some(format!("{} pictures a second", next.rate_hz));
    to.map(Action::Rate)
}

fn ask(next: &mut Screen, asks: Asks) {
    // A filter that is there is gone on with; the threshold's digits are few.
    let text = if asks == Asks::Filter { next.order.filter.clone() } else { String::new() };
    next.prompt = Some(Prompt::new(asks, text));
}

/// A key while something is typed.
fn type_in(next: &mut Screen, before: &Screen, prompt: &Prompt, key: Key) -> Option<Action> {
    match prompt.press(key) {
        Typed::Nothing => {
            next.message.clone_from(&before.message);
            None
        }
        Typed::More(prompt) => {
            if prompt.asks == Asks::Filter {
                next.order.filter.clone_from(&prompt.text);
            }
            next.prompt = Some(prompt);
            None
        }
        Typed::Left => {
            next.prompt = None;
            if prompt.asks == Asks::Filter {
                next.order.filter.clear();
            }
            None
        }
        Typed::Done(text) => {
            next.prompt = None;
            if prompt.asks == Asks::Filter { None } else { threshold(next, &text) }
        }
    }
}

fn threshold(next: &mut Screen, text: &str) -> Option<Action> {
    let (least, most) = (THRESHOLD_MS.start(), THRESHOLD_MS.end());
    let Some(ms) = text.parse().ok().filter(|ms| THRESHOLD_MS.contains(ms)) else {
        next.message = Some(format!("\"{text}\" ms is no threshold: type {least} to {most}"));
        return None;
    };
    next.message = Some(format!("from now on a poll of {ms} ms or more is a stall"));
    Some(Action::Threshold(ms * NS_PER_MS))
}

/// Leaves what is on top, or undoes what was chosen last.
fn back(next: &mut Screen) {
    if next.help {
        next.help = false;
    } else if next.pane == Pane::Details {
        open(next, next.opened_from);
    } else if next.pane == Pane::Stalls {
        open(next, Pane::Sessions);
    } else if !next.order.filter.is_empty() {
        next.order.filter.clear();
    } else {
        next.sessions = next.sessions.free();
    }
}

fn open(next: &mut Screen, pane: Pane) {
    next.help = false;
    next.pane = pane;
    next.scroll = 0;
}

/// Opens the details of what is selected; with nothing selected, of the first.
fn details(next: &mut Screen, snapshot: &Snapshot) {
    if next.help || next.pane == Pane::Details {
        return;
    }
    if next.about(snapshot).is_none() {
        go(next, snapshot, Move::By(1));
    }
    let Some(chosen) = next.about(snapshot) else {
        next.message = Some("there is no session to look at".into());
        return;
    };
    let from = next.pane;
    if next.details_of.as_ref() != Some(&chosen) {
        next.tasks = None;
    }
    next.details_of = Some(chosen);
    next.opened_from = from;
    open(next, Pane::Details);
}

fn sort(next: &mut Screen, by: Sort, reverse: bool) {
    (next.order.sort, next.order.reverse) = (by, reverse);
    if next.sessions.selected().is_none() {
        // Whoever sorts wants to see the top.
        next.sessions.scroll = 0;
    }
}

fn go(next: &mut Screen, snapshot: &Snapshot, to: Move) {
    match next.pane {
        _ if next.help => next.scroll = moved(next.scroll, to),
        Pane::Sessions => next.sessions = next.sessions.go(&next.rows(snapshot), to),
        Pane::Stalls => next.stalls = next.stalls.go(&*next.stall_ids(snapshot), to),
        Pane::Details => next.scroll = moved(next.scroll, to),
    }
}

fn moved(scroll: usize, to: Move) -> usize {
    match to {
        Move::By(by) => scroll.saturating_add_signed(by),
        Move::To(at) => at,
    }
}

fn roll(next: &mut Screen, by: isize) {
    match next.pane {
        _ if next.help => next.scroll = next.scroll.saturating_add_signed(by),
        Pane::Sessions => next.sessions = next.sessions.roll(by),
        Pane::Stalls => next.stalls = next.stalls.roll(by),
        Pane::Details => next.scroll = next.scroll.saturating_add_signed(by),
    }
}

/// A click on a row selects it, one on the selected row opens it, one on a title sorts by it.
fn click(next: &mut Screen, snapshot: &Snapshot, column: usize, line: usize) {
    if next.help {
        next.help = false;
        return;
    }
    let page = next.page;
    if next.pane == Pane::Sessions && line == page.titles_at {
        if let Some(by) = title_at(next, snapshot, column) {
            let again = next.order.sort == by;
            sort(next, by, again && !next.order.reverse);
        }
    } else if let Some(at) = page.body.of(line) {
        match next.pane {
            Pane::Sessions => {
                let at = at + next.sessions.scroll;
                let row = next.rows(snapshot).at(at);
                pick(next, snapshot, row, at);
            }
            Pane::Stalls => {
                let at = at + next.stalls.scroll;
                let ids = next.stall_ids(snapshot);
                let is_same = ids.get(at).is_some() && ids.get(at) == next.stalls.selected();
                match (is_same, at < ids.len()) {
                    (true, _) => details(next, snapshot),
                    (_, true) => next.stalls = next.stalls.go(&*ids, Move::To(at)),
                    _ => {}
                }
            }
            Pane::Details => {}
        }
    } else if next.pane == Pane::Sessions && page.stalls.of(line).is_some() {
        open(next, Pane::Stalls);
    }
}

fn pick(next: &mut Screen, snapshot: &Snapshot, row: Option<Chosen>, at: usize) {
    match row {
        Some(row) if next.sessions.selected() == Some(&row) => details(next, snapshot),
        Some(_) => next.sessions = next.sessions.go(&next.rows(snapshot), Move::To(at)),
        None => {}
    }
}

/// What the title at this column of the screen sorts by.
fn title_at(screen: &Screen, snapshot: &Snapshot, column: usize) -> Option<Sort> {
    let slots = screen.listing.len();
    let grid = Grid::fit(&columns_of::sessions(snapshot), screen.page.columns, slots);
    let mut end = 0;
    let hit = grid.titles().find(|(_, title)| {
        end += width(title);
        column < end
    });
    hit.and_then(|(of, _)| of.sort)
}

#[cfg(test)]
mod tests;
