//! The picture of `--once`: header, tables and check line as plain text, the same in a pipe and on a
//! terminal.

use crate::model::Snapshot;
use crate::view::columns::{Column, Row, rows_below};
use crate::view::columns_of;
use crate::view::grid::Grid;
use crate::view::header;
use crate::view::order::Order;
use crate::view::stalls::listed;

/// Stalls listed.
const STALLS_LISTED: usize = 10;
/// Where the facts wrap when there is no terminal to fit.
const PIPE_WIDTH: usize = 120;

/// The whole picture, each line with its newline. `columns` is the terminal's width; without one
/// nothing is cut, every column is there, and two spaces or more end a column.
pub fn render(snapshot: &Snapshot, order: &Order, columns: Option<usize>) -> String {
    let facts_width = columns.unwrap_or(PIPE_WIDTH);
    let sessions = order.rows(snapshot);
    let mut lines = header::in_full(snapshot, facts_width);
    lines.extend(header::notes(snapshot, facts_width));
    if let Some(notice) = header::tag_notice(&snapshot.worker) {
        lines.extend(header::wrap_words(&notice, facts_width));
    }
    lines.push(String::new());
    lines.extend(header::wrap(&header::selection(snapshot, order, sessions.len()), facts_width));
    let slots = sessions.len();
    let rows = sessions.iter().zip(1..).map(|(session, slot)| Row::Session(slot, session));
    let rows: Vec<_> = rows.chain(rows_below(snapshot, order)).collect();
    let mut table = table(&columns_of::sessions(snapshot), &rows, columns, slots);
    if slots == 0 {
        table.splice(1..1, header::why_empty(snapshot, order, facts_width));
    }
    lines.append(&mut table);
    lines.push(String::new());
    lines.extend(stalls(snapshot, order, columns));
    lines.push(String::new());
    lines.extend(header::wrap(&[header::check(snapshot), header::losses(snapshot)], facts_width));
    lines.push(String::new());
    lines.join("\n")
}

fn stalls(snapshot: &Snapshot, order: &Order, columns: Option<usize>) -> Vec<String> {
    let rows: Vec<_> = listed(snapshot, order, STALLS_LISTED)
        .into_iter()
        .map(|stall| Row::Stall(stall, snapshot.at_unix_ns))
        .collect();
    if rows.is_empty() {
        vec!["no stalls".into()]
    } else {
        table(&columns_of::stalls(snapshot), &rows, columns, 0)
    }
}

fn table(
    table: &[&'static Column],
    rows: &[Row<'_>],
    columns: Option<usize>,
    slots: usize,
) -> Vec<String> {
    let grid = match columns {
        Some(columns) => Grid::fit(table, columns, slots),
        None => Grid::wide(table, rows),
    };
    let titles: String = grid.titles().map(|(_, title)| title).collect();
    let lines = rows.iter().map(|row| grid.line(row));
    std::iter::once(titles.trim_end().to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::columns::SESSIONS;
    use crate::view::harmless::{is_harmful, width};
    use crate::view::samples;

    fn keep(name: &str, text: &str) {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    }

    #[test]
    fn pictures() {
        let keep_at = |name, snapshot: &Snapshot, columns| {
            keep(name, &render(snapshot, &Order::default(), columns));
        };
        keep_at("once_three_80", &samples::three(), Some(80));
        keep_at("once_three_120", &samples::three(), Some(120));
        keep_at("once_three_pipe", &samples::three(), None);
        keep_at("once_tag_not_found_80", &samples::tag_not_found(), Some(80));
        keep_at("once_odd_tags_80", &samples::odd_tags(), Some(80));
        keep_at("once_odd_tags_pipe", &samples::odd_tags(), None);
        keep_at("once_hostile_80", &samples::hostile(), Some(80));
        keep_at("once_lost_40", &samples::lost(), Some(40));
        keep_at("once_lost_pipe", &samples::lost(), None);
        keep_at("once_fleet_80", &samples::fleet(), Some(80));
        keep_at("once_fleet_pipe", &samples::fleet(), None);
        keep_at("once_sampled_120", &samples::sampled(), Some(120));
    }

    #[test]
    fn no_line_is_too_wide_and_no_character_harmful() {
        for columns in [20, 40, 80, 200] {
            for line in [samples::hostile(), samples::fleet()]
                .map(|it| render(&it, &Order::default(), Some(columns)))
                .concat()
                .lines()
            {
                assert!(width(line) <= columns, "{line}");
                assert!(!line.chars().any(is_harmful), "{line}");
                assert!(!line.ends_with(' '), "{line:?}");
            }
        }
    }

    #[test]
    fn two_spaces_end_a_column_in_a_pipe() {
        let text = render(&samples::hostile(), &Order::default(), None);
        let table: Vec<_> = text.lines().skip_while(|line| !line.contains("CPU%")).collect();
        for line in table.iter().take_while(|line| !line.is_empty()) {
            let fields = line.split("  ").filter(|field| !field.trim().is_empty()).count();
            assert_eq!(fields, SESSIONS.len() - 1, "all but the picture: {line}");
        }
    }
}
