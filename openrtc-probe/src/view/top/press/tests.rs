//! What keys and the mouse make of a screen, each drawn before the next.

use super::*;
use crate::model::{Session, Stall};
use crate::view::order::{Order, StatusFilter};
use crate::view::samples;
use crate::view::top::palette::Palette;

const SIZE: (u16, u16) = (80, 24);

fn screen() -> Screen {
    Screen::new(Order::default(), Palette::new(false), 1.0)
}

fn key(key: Key) -> Press {
    Press::Key(key)
}

fn char(c: char) -> Press {
    key(Key::Char(c))
}

fn sessions(count: usize) -> Snapshot {
    let session = |i| Session { session_id: format!("AJ_{i:04}").into(), ..Session::default() };
    Snapshot { sessions: (0..count).map(session).collect(), ..Snapshot::default() }
}

/// After these presses, each drawn.
fn after(screen: &Screen, snapshot: &Snapshot, presses: &[Press]) -> Screen {
    presses.iter().fold(screen.fit(snapshot, SIZE.0, SIZE.1), |screen, one| {
        press(&screen, snapshot, *one).0.fit(snapshot, SIZE.0, SIZE.1)
    })
}

fn selected(screen: &Screen) -> &str {
    screen.sessions.selected().map_or("", |chosen| &chosen.session_id)
}

/// The session at this place of the first screen.
fn open_row(snapshot: &Snapshot, at: usize) -> Chosen {
    let screen = screen().fit(snapshot, SIZE.0, SIZE.1);
    screen.rows(snapshot).at(at).unwrap()
}

fn type_in(text: &str) -> Vec<Press> {
    text.chars().map(char).collect()
}

#[test]
fn the_keys_of_openrtc_mean_the_same() {
    let (screen, nobody) = (screen(), Snapshot::default());
    let pressed = |it| press(&screen, &nobody, it);
    assert_eq!(pressed(char('q')).1, Action::Quit);
    assert_eq!(pressed(key(Key::CtrlC)).1, Action::Quit);
    assert_eq!(pressed(char('r')), (screen.clone(), Action::Refresh));
    assert_eq!(pressed(char('s')).0.order.sort, Sort::DurationS);
    assert_eq!(pressed(char('f')).0.order.status, StatusFilter::Active);
}

#[test]
fn a_key_without_meaning_or_effect_is_ignored() {
    let screen = screen();
    for it in [char('x'), key(Key::Esc), key(Key::Up), key(Key::Backspace)] {
        assert_eq!(press(&screen, &Snapshot::default(), it), (screen.clone(), Action::Ignore));
    }
}

#[test]
fn toggles() {
    let (screen, nobody) = (screen(), Snapshot::default());
    for (it, is_on) in [
        ('?', (|s| s.help) as fn(&Screen) -> bool),
        (' ', |s| s.paused),
        ('S', |s| s.order.reverse),
        ('e', |s| s.order.show_ended),
    ] {
        let was_on = is_on(&screen);
        let (on, action) = press(&screen, &nobody, char(it));
        assert!(is_on(&on) != was_on && action == Action::Draw, "{it}");
        assert_eq!(is_on(&press(&on, &nobody, char(it)).0), was_on, "{it}");
    }
    let help = press(&screen, &nobody, char('?')).0;
    assert!(!press(&help, &nobody, key(Key::Esc)).0.help);
}

#[test]
fn the_selection_moves_within_the_list_and_is_seen() {
    let many = sessions(100);
    let at = |presses: &[Press]| {
        let screen = after(&screen(), &many, presses);
        let room = screen.page.body.lines;
        let at: usize = selected(&screen).trim_start_matches("AJ_").parse().unwrap();
        let scroll = screen.sessions.scroll;
        assert!((scroll..scroll + room).contains(&at), "{at} is out of sight");
        at
    };
    assert_eq!(at(&[char('j')]), 0);
    assert_eq!(at(&[char('j'), key(Key::Down), char('j'), char('k')]), 1);
    assert_eq!(at(&[char('G')]), 99);
    assert_eq!(at(&[key(Key::End), key(Key::Down), key(Key::Up)]), 98);
    assert_eq!(at(&[key(Key::End), key(Key::Home)]), 0);
    let room = screen().fit(&many, SIZE.0, SIZE.1).page.body.lines;
    assert_eq!(at(&[char('j'), key(Key::PageDown)]), room);
    assert_eq!(at(&[char('j'), key(Key::PageDown), key(Key::PageUp)]), 0);
}

#[test]
fn the_selection_stays_on_its_session_when_the_order_turns() {
    let ten = sessions(10);
    let screen = after(&screen(), &ten, &[char('s'), char('j'), char('j'), char('j')]);
    assert_eq!(selected(&screen), "AJ_0002");
    let turned = after(&screen, &ten, &[char('S')]);
    assert_eq!(selected(&turned), "AJ_0002");
    assert_eq!(selected(&after(&turned, &ten, &[key(Key::Esc)])), "");
    assert_eq!(selected(&after(&screen, &sessions(1), &[])), "AJ_0000");
    assert_eq!(selected(&after(&screen, &sessions(0), &[])), "");
}

#[test]
fn the_wheel_scrolls_without_selecting() {
    let many = sessions(100);
    let screen = after(&screen(), &many, &[Press::Wheel(1), Press::Wheel(1), Press::Wheel(-1)]);
    assert_eq!((screen.sessions.scroll, selected(&screen)), (3, ""));
    let top = after(&screen, &many, &[Press::Wheel(-1), Press::Wheel(-1)]);
    assert_eq!(top.sessions.scroll, 0);
}

#[test]
fn a_filter_works_as_it_is_typed_and_esc_takes_it_away() {
    let many = sessions(100);
    let typed = after(&screen(), &many, &[type_in("/"), type_in("aj_009q")].concat());
    assert_eq!(typed.order.filter, "aj_009q");
    let typed = after(&typed, &many, &[key(Key::Backspace), key(Key::Enter)]);
    assert_eq!((typed.order.filter.as_str(), &typed.prompt), ("aj_009", &None));
    assert_eq!(typed.listing.len(), 10);
    assert_eq!(after(&typed, &many, &[key(Key::Esc)]).order.filter, "");
    let left = after(&typed, &many, &[char('/'), char('x'), key(Key::Esc)]);
    assert_eq!((left.order.filter.as_str(), left.prompt), ("", None));
}

#[test]
fn a_threshold_is_taken_or_refused_with_what_to_type() {
    let nobody = Snapshot::default();
    let typed = |text: &str| {
        let typing = after(&screen(), &nobody, &type_in(text));
        press(&typing, &nobody, key(Key::Enter))
    };
    assert_eq!(typed("t20").1, Action::Threshold(20_000_000));
    for text in ["t", "t0", "t9999999"] {
        let (screen, action) = typed(text);
        assert_eq!(action, Action::Draw);
        assert!(screen.message.unwrap().contains("type 1 to 3600000"), "{text}");
    }
    let typing = after(&screen(), &nobody, &type_in("t2"));
    assert_eq!(press(&typing, &nobody, char('q')).1, Action::Ignore, "no digit, and no command");
    assert_eq!(press(&typing, &nobody, key(Key::CtrlC)).1, Action::Quit);
}

#[test]
fn the_rate_has_an_end_on_both_sides() {
    let nobody = Snapshot::default();
    let mut screen = screen();
    let mut rates = Vec::new();
    for it in "++++----+".chars() {
        let (next, action) = press(&screen, &nobody, char(it));
        rates.push(if let Action::Rate(hz) = action { hz } else { 0.0 });
        screen = next;
    }
    assert_eq!(rates, [2.0, 5.0, 10.0, 0.0, 5.0, 2.0, 1.0, 0.5, 1.0]);
    assert_eq!(screen.message.as_deref(), Some("1 pictures a second"));
    let odd = Screen { rate_hz: 3.0, ..screen };
    assert_eq!(press(&odd, &nobody, char('-')).1, Action::Rate(2.0));
}

#[test]
fn details_are_of_the_selected_session_and_go_back_to_where_they_came_from() {
    let three = samples::three();
    let open = after(&screen(), &three, &[char('j'), char('j'), key(Key::Enter)]);
    let second = open_row(&three, 1);
    assert_eq!((open.pane, open.focus()), (Pane::Details, Some(&second)));
    assert_eq!(press(&open, &three, char('y')).1, Action::Copy(second.session_id.to_string()));
    let back = after(&open, &three, &[key(Key::Esc)]);
    assert_eq!((back.pane, back.focus()), (Pane::Sessions, None));
    let first = after(&screen(), &three, &[key(Key::Enter)]);
    assert_eq!(first.focus(), Some(&open_row(&three, 0)), "nothing was selected");

    let stalls = after(&screen(), &three, &[key(Key::Tab), char('j'), key(Key::Enter)]);
    assert_eq!(stalls.pane, Pane::Details);
    assert_eq!(stalls.focus().map(|it| &*it.session_id), Some("AJ_7Zp0aLmW4dRt"));
    let back = after(&stalls, &three, &[key(Key::Esc)]);
    assert_eq!((back.pane, back.stalls.selected()), (Pane::Stalls, stalls.stalls.selected()));
    assert_eq!(after(&back, &three, &[key(Key::Tab)]).pane, Pane::Sessions);

    let nobody = Snapshot::default();
    let none = after(&screen(), &nobody, &[key(Key::Enter)]);
    assert_eq!((none.pane, none.message.is_some()), (Pane::Sessions, true));
}

#[test]
fn the_details_stay_with_a_session_that_has_gone() {
    let three = samples::three();
    let open = after(&screen(), &three, &[key(Key::Enter)]);
    let gone = open.fit(&Snapshot::default(), SIZE.0, SIZE.1);
    assert_eq!((gone.pane, gone.focus()), (Pane::Details, open.focus()));
}

#[test]
fn clicks_select_open_and_sort() {
    let many = sessions(100);
    let start = screen().fit(&many, SIZE.0, SIZE.1);
    let page = start.page;
    let line = |line: usize| u16::try_from(line).unwrap();
    let row = Press::Click { column: 9, line: line(page.body.at + 4) };
    let screen = after(&start, &many, &[Press::Wheel(1), row]);
    assert_eq!(selected(&screen), "AJ_0007");
    assert_eq!(after(&screen, &many, &[row]).pane, Pane::Details);

    let title = Press::Click { column: 6, line: line(page.titles_at) };
    let sorted = after(&start, &many, &[title]);
    assert_eq!((sorted.order.sort, sorted.order.reverse), (Sort::SessionId, false));
    assert!(after(&sorted, &many, &[title]).order.reverse);

    let three = samples::three();
    let start = start.fit(&three, SIZE.0, SIZE.1);
    let stalls = Press::Click { column: 0, line: line(start.page.stalls.at) };
    assert_eq!(after(&start, &three, &[stalls]).pane, Pane::Stalls);
    for line in 0..SIZE.1 {
        after(&start, &Snapshot::default(), &[Press::Click { column: 79, line }]);
    }
}

#[test]
fn a_stall_that_goes_on_is_followed_through_the_list() {
    let stall = |stall_id, ongoing| Stall { stall_id, ongoing, ..Stall::default() };
    let mut snapshot = Snapshot { stalls: vec![stall(1, false)], ..Snapshot::default() };
    let screen = after(&screen(), &snapshot, &[key(Key::Tab), char('j')]);
    snapshot.stalls = vec![stall(3, true), stall(2, false), stall(1, false)];
    let screen = screen.fit(&snapshot, SIZE.0, SIZE.1);
    assert_eq!(screen.stall(&snapshot).map(|stall| stall.stall_id), Some(1));
    let (screen, action) = press(&screen, &snapshot, char('y'));
    assert!(action == Action::Draw && screen.message.is_some(), "it is of no session");
}
