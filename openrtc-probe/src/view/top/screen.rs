//! What the reader has chosen to see, and what a key makes of it.

use crate::model::Snapshot;
use crate::view::order::Order;
use crate::view::top::draw::Page;
use crate::view::top::keys::{Command, Key, command_of};
use crate::view::top::palette::Palette;

/// What the reader has chosen to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Screen {
    /// Filters and order.
    pub order: Order,
    /// How things look.
    pub palette: Palette,
    /// Whether the picture is held: while it is, the caller gives the same snapshot again.
    pub paused: bool,
    /// Whether the help is open.
    pub help: bool,
    /// The first session shown.
    pub(super) scroll: usize,
    /// Sessions that fit, as of the last [`Screen::fit`].
    pub(super) page: usize,
}

/// What the caller is to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw the new screen.
    Draw,
    /// Take a new picture now and draw it, also while paused.
    Refresh,
    /// End.
    Quit,
    /// Nothing has changed.
    Ignore,
}

impl Screen {
    /// The first one.
    pub fn new(order: Order, palette: Palette) -> Self {
        Self { order, palette, paused: false, help: false, scroll: 0, page: 1 }
    }

    /// The same within what there is to scroll on a terminal of this size. The list shrinks when
    /// sessions end, so this comes before each drawing.
    #[must_use]
    pub fn fit(&self, snapshot: &Snapshot, columns: u16, lines: u16) -> Self {
        let rows = self.order.count_rows(snapshot);
        let page = Page::new(snapshot, self, rows, columns, lines).body.max(1);
        let scroll = self.scroll.min(rows.saturating_sub(page));
        Self { scroll, page, ..self.clone() }
    }
}

/// The next screen after a key.
pub fn press(screen: &Screen, key: Key) -> (Screen, Action) {
    let mut next = screen.clone();
    let Some(command) = command_of(key) else { return (next, Action::Ignore) };
    match command {
        Command::Quit => return (next, Action::Quit),
        Command::Refresh => return (next, Action::Refresh),
        Command::Help => next.help = !screen.help,
        Command::Close => next.help = false,
        Command::Pause => next.paused = !screen.paused,
        Command::Sort => {
            next.order.sort = screen.order.sort.next();
            next.scroll = 0;
        }
        Command::Reverse => {
            next.order.reverse = !screen.order.reverse;
            next.scroll = 0;
        }
        Command::Status => {
            next.order.status = screen.order.status.next();
            next.scroll = 0;
        }
        Command::LineUp => next.scroll = screen.scroll.saturating_sub(1),
        Command::LineDown => next.scroll = screen.scroll.saturating_add(1),
        Command::PageUp => next.scroll = screen.scroll.saturating_sub(screen.page),
        Command::PageDown => next.scroll = screen.scroll.saturating_add(screen.page),
        Command::Top => next.scroll = 0,
        Command::Bottom => next.scroll = usize::MAX,
    }
    let action = if next == *screen { Action::Ignore } else { Action::Draw };
    (next, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Session;
    use crate::view::order::{Sort, StatusFilter};

    fn screen() -> Screen {
        Screen::new(Order::default(), Palette::new(false))
    }

    fn sessions(count: usize) -> Snapshot {
        let session = |i| Session { session_id: format!("AJ_{i:04}").into(), ..Session::default() };
        Snapshot { sessions: (0..count).map(session).collect(), ..Snapshot::default() }
    }

    fn type_in(screen: &Screen, snapshot: &Snapshot, keys: &[Key]) -> Screen {
        keys.iter().fold(screen.fit(snapshot, 80, 24), |screen, key| {
            press(&screen, *key).0.fit(snapshot, 80, 24)
        })
    }

    #[test]
    fn the_keys_of_openrtc_mean_the_same() {
        let screen = screen();
        assert_eq!(press(&screen, Key::Char('q')).1, Action::Quit);
        assert_eq!(press(&screen, Key::CtrlC).1, Action::Quit);
        assert_eq!(press(&screen, Key::Char('r')), (screen.clone(), Action::Refresh));
        assert_eq!(press(&screen, Key::Char('s')).0.order.sort, Sort::DurationS);
        assert_eq!(press(&screen, Key::Char('f')).0.order.status, StatusFilter::Active);
    }

    #[test]
    fn a_key_without_meaning_or_effect_is_ignored() {
        let screen = screen();
        for key in [Key::Char('x'), Key::Esc, Key::Up] {
            assert_eq!(press(&screen, key), (screen.clone(), Action::Ignore));
        }
    }

    #[test]
    fn toggles() {
        let screen = screen();
        for (key, is_on) in [
            (Key::Char('?'), (|s| s.help) as fn(&Screen) -> bool),
            (Key::Char(' '), |s| s.paused),
            (Key::Char('S'), |s| s.order.reverse),
        ] {
            let (on, action) = press(&screen, key);
            assert!(is_on(&on) && action == Action::Draw);
            assert!(!is_on(&press(&on, key).0));
        }
        let help = press(&screen, Key::Char('?')).0;
        assert!(!press(&help, Key::Esc).0.help);
    }

    #[test]
    fn scrolling_stays_within_the_list() {
        let many = sessions(100);
        let page = screen().fit(&many, 80, 24).page;
        let last = 100 - page;
        let at = |keys: &[Key]| type_in(&screen(), &many, keys).scroll;
        assert_eq!(at(&[Key::Char('j'), Key::Down]), 2);
        assert_eq!(at(&[Key::Char('j'), Key::Char('k'), Key::Up]), 0);
        assert_eq!(at(&[Key::PageDown]), page);
        assert_eq!(at(&[Key::Char('G')]), last);
        assert_eq!(at(&[Key::End, Key::Down, Key::Up]), last - 1);
        assert_eq!(at(&[Key::End, Key::Home]), 0);
        assert_eq!(at(&[Key::End, Key::Char('s')]), 0);
        let few = sessions(2);
        assert_eq!(type_in(&screen(), &few, &[Key::Char('G'), Key::Down]).scroll, 0);
        let shrunk = type_in(&screen(), &many, &[Key::End]).fit(&few, 80, 24);
        assert_eq!(shrunk.scroll, 0);
    }
}
