//! The keys as data: what each does, where, and how the help calls it. `q`, `r`, `s` and `f` mean what
//! they mean in `openrtc top`.

use crossterm::event::{
    Event, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::view::top::screen::Pane;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl-C: in raw mode the terminal makes no signal of it.
    CtrlC,
    /// Ctrl-Z, likewise.
    CtrlZ,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Escape.
    Esc,
    /// Enter.
    Enter,
    /// Tab, with Shift or without: there are two lists.
    Tab,
    /// Backspace.
    Backspace,
}

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// A key went down.
    Key(Key),
    /// The mouse wheel turned: down is more than 0.
    Wheel(i8),
    /// The left button went down on this cell, counted from 0.
    Click {
        /// From the left.
        column: u16,
        /// From the top.
        line: u16,
    },
    /// The terminal has another size: draw again.
    Resize,
}

impl Press {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Resize(..) => Some(Press::Resize),
            // Some terminals also report a key going up.
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                key_of(key.code, control).map(Press::Key)
            }
            Event::Mouse(mouse) => Self::of_mouse(*mouse),
            _ => None,
        }
    }

    fn of_mouse(mouse: MouseEvent) -> Option<Self> {
        match mouse.kind {
            MouseEventKind::ScrollDown => Some(Press::Wheel(1)),
            MouseEventKind::ScrollUp => Some(Press::Wheel(-1)),
            MouseEventKind::Down(MouseButton::Left) => {
                Some(Press::Click { column: mouse.column, line: mouse.row })
            }
            _ => None,
        }
    }
}

fn key_of(code: KeyCode, control: bool) -> Option<Key> {
    Some(match code {
        KeyCode::Char('c') if control => Key::CtrlC,
        KeyCode::Char('z') if control => Key::CtrlZ,
        // What a terminal sends for Backspace that sends the other of the two.
        KeyCode::Char('h') if control => Key::Backspace,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Esc,
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// What a key can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End.
    Quit,
    /// Open or close the help.
    Help,
    /// Leave what is open, or undo what was chosen, one at a time.
    Back,
    /// The details of the selected session.
    Details,
    /// To the other list.
    OtherList,
    /// Type a filter.
    Filter,
    /// Sort by the next column.
    Sort,
    /// The other way round.
    Reverse,
    /// The next status.
    Status,
    /// Ended sessions, shown or not.
    Ended,
    /// Hold the picture.
    Pause,
    /// A new picture now.
    Refresh,
    /// More pictures a second.
    Faster,
    /// Fewer.
    Slower,
    /// Type a stall threshold.
    Threshold,
    /// The selected session's id to the clipboard.
    Copy,
    /// The picture to a file.
    Save,
    /// A line up.
    LineUp,
    /// A line down.
    LineDown,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
    /// Stop, as the shell's job control has it.
    Suspend,
}

/// A command with its keys.
#[derive(Debug)]
pub struct Binding {
    /// What the keys do.
    pub command: Command,
    /// The keys.
    pub keys: &'static [Key],
    /// How the help calls the keys; empty if the line of another one names them too.
    pub label: &'static str,
    /// What the help says of it.
    pub what: &'static str,
    /// The hint in the last line, if it has one; the most needed come first in the table.
    pub hint: Option<&'static str>,
    /// Where the hint stands.
    pub panes: &'static [Pane],
}

const LISTS: &[Pane] = &[Pane::Sessions, Pane::Stalls];
const OPENED: &[Pane] = &[Pane::Details, Pane::Stalls];
const SESSIONS: &[Pane] = &[Pane::Sessions];
const DETAILS: &[Pane] = &[Pane::Details];
const EVERYWHERE: &[Pane] = &[Pane::Sessions, Pane::Stalls, Pane::Details];

const fn binding(
    command: Command,
    keys: &'static [Key],
    label: &'static str,
    what: &'static str,
) -> Binding {
    Binding { command, keys, label, what, hint: None, panes: EVERYWHERE }
}

impl Binding {
    const fn hint(self, hint: &'static str, panes: &'static [Pane]) -> Self {
        Self { hint: Some(hint), panes, ..self }
    }
}

/// All keys. In the order in which their hints give way, from the right.
pub static BINDINGS: &[Binding] = &[
    binding(Command::Quit, &[Key::Char('q'), Key::Char('Q'), Key::CtrlC], "q, Ctrl-C", "quit")
        .hint("q quit", EVERYWHERE),
    binding(Command::Help, &[Key::Char('?')], "?", "this help").hint("? help", EVERYWHERE),
    binding(
        Command::Back,
        &[Key::Esc],
        "Esc",
        "back; on the sessions: undo the filter, then the selection",
    )
    .hint("Esc back", OPENED),
    binding(
        Command::Details,
        &[Key::Enter],
        "Enter, click",
        "details of the selected session (the first, if none is)",
    )
    .hint("Enter details", LISTS),
    binding(Command::OtherList, &[Key::Tab], "Tab", "all stalls, and back to the sessions")
        .hint("Tab stalls", SESSIONS),
    binding(
        Command::Filter,
        &[Key::Char('/')],
        "/",
        "show what has this text in session, agent or tenant",
    )
    .hint("/ filter", LISTS),
    binding(Command::Sort, &[Key::Char('s')], "s", "sort by the next column (or click its title)")
        .hint("s sort", SESSIONS),
    binding(Command::Copy, &[Key::Char('y')], "y", "copy the session's id to the clipboard")
        .hint("y copy id", DETAILS),
    binding(Command::Status, &[Key::Char('f'), Key::Char('F')], "f", "next status filter")
        .hint("f status", SESSIONS),
    binding(Command::Pause, &[Key::Char(' ')], "Space", "hold the picture, and go on")
        .hint("Space pause", EVERYWHERE),
    binding(Command::Refresh, &[Key::Char('r'), Key::Char('R')], "r", "refresh now")
        .hint("r refresh", EVERYWHERE),
    binding(Command::Reverse, &[Key::Char('S')], "S", "reverse the order"),
    binding(
        Command::LineDown,
        &[Key::Char('j'), Key::Down],
        "j k, arrows",
        "select the next, the previous; the wheel scrolls",
    ),
    binding(Command::LineUp, &[Key::Char('k'), Key::Up], "", "select the previous"),
    binding(Command::PageDown, &[Key::PageDown], "PgDn PgUp", "a page down, up"),
    binding(Command::PageUp, &[Key::PageUp], "", "a page up"),
    binding(Command::First, &[Key::Char('g'), Key::Home], "g G", "to the first, the last"),
    binding(Command::Last, &[Key::Char('G'), Key::End], "", "to the last"),
    binding(
        Command::Ended,
        &[Key::Char('e')],
        "e",
        "show ended sessions for a minute, or not at all",
    ),
    binding(Command::Threshold, &[Key::Char('t')], "t", "set from how many ms a poll is a stall"),
    binding(
        Command::Faster,
        &[Key::Char('+'), Key::Char('=')],
        "+ -",
        "more, fewer pictures a second (0.5 to 10)",
    ),
    binding(Command::Slower, &[Key::Char('-')], "", "fewer pictures a second"),
    binding(Command::Save, &[Key::Char('w')], "w", "write the picture to a file, as JSON"),
    binding(Command::Suspend, &[Key::CtrlZ], "Ctrl-Z", "suspend; fg comes back"),
];

/// What a key does.
pub(super) fn command_of(key: Key) -> Option<Command> {
    let binding = BINDINGS.iter().find(|binding| binding.keys.contains(&key));
    binding.map(|binding| binding.command)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn a_key_does_one_thing() {
        let keys: Vec<_> = BINDINGS.iter().flat_map(|binding| binding.keys).collect();
        let names: BTreeSet<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        assert_eq!(names.len(), keys.len());
    }

    #[test]
    fn what_is_typed() {
        let of = |code, modifiers| Press::of(&Event::Key(KeyEvent::new(code, modifiers)));
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        for (code, modifiers, key) in [
            (KeyCode::Char('z'), none, Some(Key::Char('z'))),
            (KeyCode::Char('Z'), KeyModifiers::SHIFT, Some(Key::Char('Z'))),
            (KeyCode::Char('z'), control, Some(Key::CtrlZ)),
            (KeyCode::Char('c'), control, Some(Key::CtrlC)),
            (KeyCode::Char('h'), control, Some(Key::Backspace)),
            (KeyCode::Char('x'), control, None),
            (KeyCode::Enter, none, Some(Key::Enter)),
            (KeyCode::Tab, none, Some(Key::Tab)),
            (KeyCode::BackTab, KeyModifiers::SHIFT, Some(Key::Tab)),
            (KeyCode::Backspace, none, Some(Key::Backspace)),
            (KeyCode::F(1), none, None),
        ] {
            assert_eq!(of(code, modifiers), key.map(Press::Key), "{code:?} {modifiers:?}");
        }
    }

    #[test]
    fn what_the_mouse_does() {
        let of = |kind| {
            let modifiers = KeyModifiers::NONE;
            Press::of(&Event::Mouse(MouseEvent { kind, column: 7, row: 3, modifiers }))
        };
        assert_eq!(of(MouseEventKind::ScrollUp), Some(Press::Wheel(-1)));
        assert_eq!(of(MouseEventKind::ScrollDown), Some(Press::Wheel(1)));
        let click = of(MouseEventKind::Down(MouseButton::Left));
        assert_eq!(click, Some(Press::Click { column: 7, line: 3 }));
        for kind in [
            MouseEventKind::Down(MouseButton::Right),
            MouseEventKind::Up(MouseButton::Left),
            MouseEventKind::Moved,
        ] {
            assert_eq!(of(kind), None, "{kind:?}");
        }
    }
}
