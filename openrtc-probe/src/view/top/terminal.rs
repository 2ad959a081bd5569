//! The terminal: raw mode and the alternate screen while [`Live`] lives, and what is typed.
//!
//! - **The terminal is given back** when [`Live`] is dropped and before a panic is printed, once.
//! - Nothing else may write to it meanwhile: what is logged would stand in the table.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, Show};
use crossterm::event::EventStream;
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::model::Snapshot;
use crate::view::top::draw;
use crate::view::top::keys::Press;
use crate::view::top::screen::Screen;

/// Whether the terminal is ours, so that it is given back once, by whoever comes first.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal while the live table has it.
pub struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Live {
    /// Takes the terminal. On an error it is as it was.
    pub fn enter() -> io::Result<Self> {
        HOOK.call_once(give_back_before_a_panic_is_printed);
        TAKEN.store(true, Ordering::SeqCst);
        take().inspect_err(|_| give_back())
    }

    /// Draws the snapshot, and returns the screen fitted to what there is to scroll.
    pub fn show(&mut self, snapshot: &Snapshot, screen: &Screen) -> io::Result<Screen> {
        self.terminal.autoresize()?;
        let size = self.terminal.size()?;
        let screen = screen.fit(snapshot, size.width, size.height);
        self.terminal.draw(|frame| draw(frame, snapshot, &screen))?;
        Ok(screen)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<Live> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)?;
    Ok(Live { terminal: Terminal::new(CrosstermBackend::new(stdout()))? })
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Both are tried: a terminal that refuses one may take the other. There is nobody left to
        // tell of a failure.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn give_back_before_a_panic_is_printed() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        give_back();
        before(info);
    }));
}

/// How wide the terminal on stdout is; `None` where stdout is none, or does not say.
pub fn columns() -> Option<usize> {
    // Without the first question crossterm would answer for the terminal that we were started from.
    let (columns, _) = stdout().is_terminal().then(size)?.ok()?;
    (columns > 0).then_some(columns.into())
}

/// What is typed, and changes of the terminal's size, from when it is first polled: not before
/// [`Live::enter`], as the terminal would still echo it. An error does not pass; it is the end.
pub fn events() -> impl Stream<Item = io::Result<Press>> + Unpin {
    EventStream::new().filter_map(|event| {
        ready(match event {
            Ok(event) => Press::of(&event).map(Ok),
            Err(error) => Some(Err(error)),
        })
    })
}
