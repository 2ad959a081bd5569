//! The terminal: raw mode, the alternate screen and the mouse while [`Live`] lives, and what is typed.
//!
//! - **The terminal is given back** when [`Live`] is dropped, before a panic is printed and before we
//!   stop, once.
//! - Nothing else may write to it meanwhile: what is logged would stand in the table.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::clipboard::CopyToClipboard;
use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableMouseCapture, EventStream};
use crossterm::execute;
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::model::Snapshot;
use crate::view::harmless::harmless;
use crate::view::top::ascii::in_ascii;
use crate::view::top::draw;
use crate::view::top::keys::Press;
use crate::view::top::screen::Screen;

/// Whether the terminal is ours, so that it is given back once, by whoever comes first.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Asks for the buttons and the wheel, with coordinates of any size. crossterm's own command asks for
/// every move of the mouse too: each would wake us, beside a worker, for nothing.
const MOUSE: &str = "\x1b[?1000h\x1b[?1006h";

/// The longest text that is copied: some terminals throw away a sequence of more than 74,994 bytes, and
/// three bytes of text make four of it.
const MAX_COPIED: usize = (74_994 - 16) / 4 * 3;

/// The terminal while the live table has it.
pub struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    is_utf8: bool,
}

impl Live {
    /// Takes the terminal, which can show more than ASCII or cannot. On an error it is as it was.
    pub fn enter(is_utf8: bool) -> io::Result<Self> {
        HOOK.call_once(give_back_before_a_panic_is_printed);
        let terminal = take()?;
        Ok(Self { terminal, is_utf8 })
    }

    /// Gives the terminal back for a while, until [`Live::take_again`].
    pub fn lend(&mut self) {
        give_back();
    }

    /// Takes the terminal again, whatever was done to it, and forgets what was on it: the next
    /// [`Live::show`] draws all of it. In the background this stops us, until we are in front.
    pub fn take_again(&mut self) -> io::Result<()> {
        // We may have been stopped unasked: then it is a shell's, and still counts as raw. This comes
        // first: it is what stops us in the background, before anything is written.
        disable_raw_mode()?;
        self.terminal = take()?;
        Ok(())
    }

    /// Copies a text to the clipboard of the terminal that we are looked at with, if it lets us (OSC 52;
    /// none answers). What could act where it is pasted is escaped, as on the screen. False if it is too
    /// long for some.
    pub fn copy(&mut self, text: &str) -> io::Result<bool> {
        let text = harmless(text);
        if text.len() > MAX_COPIED {
            return Ok(false);
        }
        execute!(stdout(), CopyToClipboard::to_clipboard_from(text.as_bytes()))?;
        Ok(true)
    }

    /// Draws the snapshot, and returns the screen fitted to what there is to scroll.
    pub fn show(&mut self, snapshot: &Snapshot, screen: &Screen) -> io::Result<Screen> {
        self.terminal.autoresize()?;
        let size = self.terminal.size()?;
        let screen = screen.fit(snapshot, size.width, size.height);
        let is_utf8 = self.is_utf8;
        self.terminal.draw(|frame| {
            draw(frame, snapshot, &screen);
            if !is_utf8 {
                in_ascii(frame.buffer_mut());
            }
        })?;
        Ok(screen)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    TAKEN.store(true, Ordering::SeqCst);
    // A screen that we already have is not cleared by entering it. `Terminal::clear` would ask where the
    // cursor is, and the reader of keys takes the answer.
    let clear = Clear(ClearType::All);
    let taken = enable_raw_mode()
        .and_then(|()| execute!(stdout(), EnterAlternateScreen, clear, Hide, Print(MOUSE)))
        .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
    taken.inspect_err(|_| give_back())
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Both are tried: a terminal that refuses one may take the other. There is nobody left to
        // tell of a failure.
        let _ = execute!(stdout(), DisableMouseCapture, Show, LeaveAlternateScreen);
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
