//! What the reader has chosen to see.

use std::rc::Rc;

use crate::model::{Session, SmolStr, Snapshot, Stall};
use crate::view::header;
use crate::view::order::{Listing, Order};
use crate::view::stalls::listed;
use crate::view::top::draw::details_lines;
use crate::view::top::list::{Items, List};
use crate::view::top::page::{self, Page};
use crate::view::top::palette::Palette;
use crate::view::top::prompt::Prompt;
use crate::view::top::tasks::Tasks;

/// What stands between header and footer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    /// The table of sessions, and the last stalls below it.
    #[default]
    Sessions,
    /// All stalls that are known.
    Stalls,
    /// One session.
    Details,
}

/// What tells a session from all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Its process.
    pub pid: u32,
    /// Its id. Untrusted text.
    pub session_id: SmolStr,
}

impl Chosen {
    pub(super) fn of(session: &Session) -> Self {
        Self { pid: session.pid, session_id: session.session_id.clone() }
    }

    pub(super) fn of_stall(stall: &Stall) -> Option<Self> {
        Some(Self { pid: stall.pid, session_id: stall.session_id.clone()? })
    }

    pub(super) fn is(&self, session: &Session) -> bool {
        (self.pid, &self.session_id) == (session.pid, &session.session_id)
    }
}

/// The sessions of a picture in their order.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) listing: &'a Listing,
    pub(super) snapshot: &'a Snapshot,
}

impl Items<Chosen> for Rows<'_> {
    fn count(&self) -> usize {
        self.listing.len()
    }

    fn at(&self, place: usize) -> Option<Chosen> {
        self.listing.get(place, self.snapshot).map(Chosen::of)
    }

    fn place_of(&self, chosen: &Chosen) -> Option<usize> {
        self.listing.iter(self.snapshot).position(|session| chosen.is(session))
    }
}

/// Pictures a second that can be chosen.
pub(super) const RATES_HZ: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// What the reader has chosen to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Screen {
    /// Filters and order.
    pub order: Order,
    /// How things look.
    pub palette: Palette,
    /// Pictures a second.
    pub rate_hz: f64,
    /// Whether the picture is held: while it is, the caller gives the same snapshot again.
    pub paused: bool,
    /// Whether the help is open.
    pub help: bool,
    /// What is open.
    pub pane: Pane,
    /// What is being typed.
    pub prompt: Option<Prompt>,
    /// What is said at the foot until the next key.
    pub message: Option<String>,
    /// The tasks of the session whose details are open, once they were read.
    pub tasks: Option<Tasks>,
    pub(super) sessions: List<Chosen>,
    /// By their ids.
    pub(super) stalls: List<u64>,
    /// Whose details are open.
    pub(super) details_of: Option<Chosen>,
    /// The first line of the details that is seen, or of the help.
    pub(super) scroll: usize,
    /// Where the details were opened from.
    pub(super) opened_from: Pane,
    /// The sessions in their order, as of the last [`Screen::fit`].
    pub(super) listing: Rc<Listing>,
    /// The header, as of then: to find the verdict all sessions are looked at.
    pub(super) header: Rc<Vec<header::Line>>,
    /// What is where, as of then.
    pub(super) page: Page,
}

impl Screen {
    /// The first one.
    pub fn new(order: Order, palette: Palette, rate_hz: f64) -> Self {
        Self {
            order,
            palette,
            rate_hz,
            paused: false,
            help: false,
            pane: Pane::default(),
            prompt: None,
            message: None,
            tasks: None,
            sessions: List::default(),
            stalls: List::default(),
            details_of: None,
            scroll: 0,
            opened_from: Pane::default(),
            listing: Rc::default(),
            header: Rc::default(),
            page: Page::default(),
        }
    }

    /// The session whose details are open.
    pub fn focus(&self) -> Option<&Chosen> {
        self.details_of.as_ref().filter(|_| self.pane == Pane::Details)
    }

    /// The same within what there is to see on a terminal of this size. Sessions come and go, so this
    /// comes before each drawing.
    #[must_use]
    pub fn fit(&self, snapshot: &Snapshot, columns: u16, lines: u16) -> Self {
        let listing = match self.pane {
            Pane::Sessions => self.order.listing(snapshot),
            Pane::Stalls | Pane::Details => Listing::default(),
        };
        let (wide, high) = (usize::from(columns), usize::from(lines));
        let header = page::header(snapshot, self.pane, wide, high);
        let page = Page::new(snapshot, self, (listing.len(), header.len()), wide, high);
        let (listing, header) = (Rc::new(listing), Rc::new(header));
        let mut next = Self { listing, header, page, ..self.clone() };
        match self.pane {
            Pane::Sessions => {
                next.sessions = self.sessions.fit(&next.rows(snapshot), page.body.lines);
            }
            Pane::Stalls => {
                next.stalls = self.stalls.fit(&*self.stall_ids(snapshot), page.body.lines);
            }
            Pane::Details => {
                let count = details_lines(snapshot, self, columns).len();
                next.scroll = self.scroll.min(count.saturating_sub(page.body.lines));
                next.page.details = count;
            }
        }
        next
    }

    /// The sessions in their order, as of the last [`Screen::fit`].
    pub(super) fn rows<'a>(&'a self, snapshot: &'a Snapshot) -> Rows<'a> {
        Rows { listing: &self.listing, snapshot }
    }

    /// The stalls in their order.
    pub(super) fn stall_ids(&self, snapshot: &Snapshot) -> Vec<u64> {
        let stalls = listed(snapshot, &self.order, usize::MAX);
        stalls.into_iter().map(|stall| stall.stall_id).collect()
    }

    /// The selected stall.
    pub(super) fn stall<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Stall> {
        let id = self.stalls.selected()?;
        snapshot.stalls.iter().find(|stall| stall.stall_id == *id)
    }

    /// The session that a command is about.
    pub(super) fn about(&self, snapshot: &Snapshot) -> Option<Chosen> {
        match self.pane {
            Pane::Sessions => self.sessions.selected().cloned(),
            Pane::Stalls => self.stall(snapshot).and_then(Chosen::of_stall),
            Pane::Details => self.details_of.clone(),
        }
    }
}
