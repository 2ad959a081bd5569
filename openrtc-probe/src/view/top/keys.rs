//! The keys as data: what each does and how the help calls it. `q`, `r`, `s` and `f` mean what they
//! mean in `openrtc top`.

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl-C: in raw mode the terminal makes no signal of it.
    CtrlC,
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
}

/// What comes from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// A key went down.
    Key(Key),
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
            _ => None,
        }
    }
}

fn key_of(code: KeyCode, control: bool) -> Option<Key> {
    Some(match code {
        KeyCode::Char('c') if control => Key::CtrlC,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Esc,
        _ => return None,
    })
}

/// What a key can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Help,
    Close,
    Sort,
    Reverse,
    Status,
    Pause,
    Refresh,
    LineUp,
    LineDown,
    PageUp,
    PageDown,
    Top,
    Bottom,
}

/// A command with its keys.
pub(super) struct Binding {
    pub command: Command,
    pub keys: &'static [Key],
    /// How the help calls the keys; empty if the line of another one names them too.
    pub label: &'static str,
    /// What the help says of it.
    pub what: &'static str,
    /// The hint in the footer, if it has one; the most needed come first in the table.
    pub hint: Option<&'static str>,
}

const fn binding(
    command: Command,
    keys: &'static [Key],
    label: &'static str,
    what: &'static str,
    hint: Option<&'static str>,
) -> Binding {
    Binding { command, keys, label, what, hint }
}

pub(super) static BINDINGS: &[Binding] = &[
    binding(
        Command::Quit,
        &[Key::Char('q'), Key::Char('Q'), Key::CtrlC],
        "q, Ctrl-C",
        "quit",
        Some("q quit"),
    ),
    binding(Command::Help, &[Key::Char('?')], "?", "this help", Some("? help")),
    binding(Command::Sort, &[Key::Char('s')], "s", "sort by the next column", Some("s sort")),
    binding(
        Command::Status,
        &[Key::Char('f'), Key::Char('F')],
        "f",
        "next status filter",
        Some("f status"),
    ),
    binding(
        Command::Pause,
        &[Key::Char(' ')],
        "Space",
        "hold the picture, and go on",
        Some("Space pause"),
    ),
    binding(
        Command::Refresh,
        &[Key::Char('r'), Key::Char('R')],
        "r",
        "refresh now",
        Some("r refresh"),
    ),
    binding(Command::Reverse, &[Key::Char('S')], "S", "reverse the order", None),
    binding(
        Command::LineDown,
        &[Key::Char('j'), Key::Down],
        "j k, arrows",
        "a line down, up",
        None,
    ),
    binding(Command::LineUp, &[Key::Char('k'), Key::Up], "", "a line up", None),
    binding(Command::PageDown, &[Key::PageDown], "PgDn PgUp", "a page down, up", None),
    binding(Command::PageUp, &[Key::PageUp], "", "a page up", None),
    binding(Command::Top, &[Key::Char('g'), Key::Home], "g G", "to the first, the last", None),
    binding(Command::Bottom, &[Key::Char('G'), Key::End], "", "to the last", None),
    binding(Command::Close, &[Key::Esc], "Esc", "close this help", None),
];

/// What a key does.
pub(super) fn command_of(key: Key) -> Option<Command> {
    let binding = BINDINGS.iter().find(|binding| binding.keys.contains(&key));
    binding.map(|binding| binding.command)
}
