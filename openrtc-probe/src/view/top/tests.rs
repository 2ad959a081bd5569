//! Frames worth seeing, kept as they are in `snapshots/`: each state at each size.

mod docs;
mod panes;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, CellWidth};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::model::Snapshot;
use crate::view::harmless;
use crate::view::order::{Order, StatusFilter};
use crate::view::samples;

const SIZES: [(u16, u16); 3] = [(120, 30), (80, 24), (40, 20)];
/// Where all columns and tall charts have room.
const LARGE: (u16, u16) = (200, 50);

fn screen() -> Screen {
    Screen::new(Order::default(), Palette::new(true), 1.0)
}

fn buffer(snapshot: &Snapshot, screen: &Screen, (columns, lines): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    let screen = screen.fit(snapshot, columns, lines);
    terminal.draw(|frame| draw(frame, snapshot, &screen)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of a frame; those of a wide character's second half are skipped, as a terminal does.
fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width).map(|cells| {
        let (mut line, mut skip) = (String::new(), 0);
        for cell in cells {
            if skip == 0 {
                line.push_str(cell.symbol());
            }
            skip =
                if skip == 0 { harmless::width(cell.symbol()).saturating_sub(1) } else { skip - 1 };
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn keep(name: &str, snapshot: &Snapshot, screen: &Screen) {
    keep_at(name, snapshot, screen, &SIZES);
}

fn keep_at(name: &str, snapshot: &Snapshot, screen: &Screen, sizes: &[(u16, u16)]) {
    for size in sizes {
        let name = format!("{name}_{}x{}", size.0, size.1);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text(&buffer(snapshot, screen, *size)));
        });
    }
}

#[test]
fn empty_worker() {
    keep("empty", &samples::empty(), &screen());
}

#[test]
fn three_sessions_one_slow_and_stalling() {
    keep("three", &samples::three(), &screen());
}

#[test]
fn hostile_ids() {
    keep("hostile", &samples::hostile(), &screen());
}

#[test]
fn what_the_verdict_tells_apart() {
    let states = [
        ("hot", samples::hot()),
        ("wedged", samples::wedged()),
        ("starved", samples::starved()),
        ("memory", samples::memory()),
        ("overloaded", samples::overloaded()),
        ("twelve", samples::twelve()),
    ];
    for (name, snapshot) in states {
        keep_at(name, &snapshot, &screen(), &[(80, 24)]);
    }
}

#[test]
fn polls_that_are_sampled() {
    keep("sampled", &samples::sampled(), &screen());
    keep_at(
        "sampled_details",
        &samples::sampled(),
        &after(&samples::sampled(), &[Key::Enter]),
        &[(80, 24)],
    );
}

#[test]
fn much_room() {
    keep_at("three", &samples::three(), &screen(), &[LARGE]);
    keep_at("five_hundred", &samples::five_hundred(), &screen(), &[LARGE, (40, 20)]);
}

/// The screen after these keys, each drawn.
fn after(snapshot: &Snapshot, keys: &[Key]) -> Screen {
    keys.iter().fold(screen().fit(snapshot, 80, 24), |screen, key| {
        press(&screen, snapshot, Press::Key(*key)).0.fit(snapshot, 80, 24)
    })
}

#[test]
fn what_keys_open() {
    let three = samples::three();
    let typed = [Key::Char('/'), Key::Char('a'), Key::Char('J'), Key::Char('_'), Key::Char('7')];
    for (name, keys) in [
        ("selected", &[Key::Down, Key::Down][..]),
        ("typing", &typed),
        ("details_open", &[Key::Down, Key::Down, Key::Enter]),
        ("stalls_open", &[Key::Tab, Key::Down]),
        ("said", &[Key::Char('+')]),
    ] {
        keep_at(name, &three, &after(&three, keys), &[(80, 24), (40, 20)]);
    }
    let mut one = samples::three();
    one.sessions.truncate(1);
    keep_at("one", &one, &screen(), &[(80, 24)]);
}

#[test]
fn ended_sessions_stay() {
    keep_at("ended", &samples::ended(), &screen(), &[LARGE, (80, 24), (40, 20)]);
}

#[test]
fn losses() {
    keep("lost", &samples::lost(), &screen());
}

#[test]
fn tag_not_found() {
    keep("tag_not_found", &samples::tag_not_found(), &screen());
}

#[test]
fn several_workers_in_one_table() {
    let mut fleet = samples::fleet();
    fleet.notes.push("process 4242 runs no event loop".into());
    keep("fleet", &fleet, &screen());
}

#[test]
fn more_sessions_than_lines_scrolled_to_the_end() {
    let end = press(
        &screen().fit(&samples::many(200), 80, 24),
        &samples::many(200),
        Press::Key(Key::Char('G')),
    )
    .0;
    keep("many_end", &samples::many(200), &end);
}

#[test]
fn help_over_the_table_while_paused_and_filtered() {
    let mut screen = screen();
    screen.order.agent = Some("booking".into());
    screen.order.status = StatusFilter::Errored;
    screen.paused = true;
    keep("filtered", &samples::three(), &screen);
    keep(
        "help",
        &samples::three(),
        &press(&screen, &samples::three(), Press::Key(Key::Char('?'))).0,
    );
}

#[test]
fn every_size_can_be_drawn() {
    let all = [
        samples::empty(),
        samples::three(),
        samples::hostile(),
        samples::tag_not_found(),
        samples::fleet(),
    ];
    let help = press(&screen(), &samples::three(), Press::Key(Key::Char('?'))).0;
    for snapshot in all {
        for columns in (1..60).step_by(4) {
            for lines in 1..16 {
                buffer(&snapshot, &screen(), (columns, lines));
                buffer(&snapshot, &help, (columns, lines));
            }
        }
    }
}

#[test]
fn without_colour_there_is_none_and_the_words_are_the_same() {
    let plain = Screen::new(screen().order, Palette::new(false), 1.0);
    let (with, without) = (
        buffer(&samples::three(), &screen(), (80, 24)),
        buffer(&samples::three(), &plain, (80, 24)),
    );
    assert!(with.content.iter().any(|cell| cell.fg == Color::Red));
    assert!(without.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
    assert_eq!(text(&with), text(&without));
    assert!(without.content.iter().any(|cell| cell.modifier.contains(Modifier::BOLD)));
}

#[test]
fn ratatui_counts_widths_as_we_do() {
    for c in (0x20..=u32::from(char::MAX)).step_by(3).filter_map(char::from_u32) {
        let shown = harmless::harmless(&format!("a{c}b")).into_owned();
        for cluster in unicode_segmentation::UnicodeSegmentation::graphemes(shown.as_str(), true) {
            assert_eq!(usize::from(cluster.cell_width()), harmless::width(cluster), "{shown:?}");
        }
    }
}
