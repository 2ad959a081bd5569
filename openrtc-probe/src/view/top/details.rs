//! The pane of one session: what it is, what it used, what it does, when it stalled.

use ratatui::style::Style;
use ratatui::text::Line;

use crate::model::{Focus, IdType, Session, SmolStr, Snapshot, Stall, Status, Worker};
use crate::view::dump::known;
use crate::view::grid::Grid;
use crate::view::order::Order;
use crate::view::stalls::listed;
use crate::view::top::charts;
use crate::view::top::palette::Palette;
use crate::view::top::stall::{FILLS, bar_with_legend, stall_details};
use crate::view::top::stalls_pane::{row, table_of_session, titles};
use crate::view::top::tasks::{self, Tasks};
use crate::view::top::text::Text;
use crate::view::units::{Number, UNKNOWN, clock, megabytes, percent, rough, span, with_unit};

/// Its last stalls that are listed; the pane of stalls has all.
const STALLS_LISTED: usize = 5;
/// How far what belongs to a heading stands in.
const INDENT: usize = 2;

/// The pane of `session`, for the caller to scroll. `tasks` is what the last look at its tasks found.
pub(super) fn lines(
    snapshot: &Snapshot,
    session: &Session,
    tasks: Option<&Tasks>,
    palette: Palette,
    columns: u16,
) -> Vec<Line<'static>> {
    let mut text = Text::new(columns);
    head(&mut text, snapshot, session, palette);
    ledger(&mut text, snapshot, session);
    let ratios: Vec<f64> = session.cpu_history.ratios().collect();
    charts::history(&mut text, &ratios);
    stalls(&mut text, snapshot, session, palette);
    tasks::section(&mut text, session, tasks, snapshot.at_unix_ns);
    polls(&mut text, snapshot, session);
    text.into_lines()
}

/// Who it is and how it is.
fn head(text: &mut Text, snapshot: &Snapshot, session: &Session, palette: Palette) {
    let cut = if session.id_is_cut { "…" } else { "" };
    text.styled(&format!("{}{cut}", known(&session.session_id)), Palette::HEADING);
    if session.id_is_cut {
        text.say("  the id is longer than what is kept");
    }
    if session.id_type != IdType::Text {
        text.say("  the id is no text: all values of this type are one session here");
    }
    let name = |name: &Option<SmolStr>| {
        name.as_deref().map_or(UNKNOWN.to_owned(), |name| known(name).into_owned())
    };
    let bound = if session.duration_is_lower_bound { "≥" } else { "" };
    let mut who = vec![
        format!("agent {}", name(&session.agent_name)),
        format!("tenant {}", name(&session.tenant)),
        format!("age {bound}{}", clock(session.duration_ns)),
    ];
    if snapshot.fleet.is_some() {
        who.push(format!("pid {}", session.pid));
    }
    text.facts(INDENT, &who);
    let is_slow = session.status == Status::Slow;
    let style = if is_slow { palette.alarm() } else { Style::new() };
    let doing = format!("  status {}  {}", session.status.as_str(), idle(session));
    text.styled(&doing, style);
    text.facts(INDENT, &figures(session));
}

/// When it last ran.
fn idle(session: &Session) -> String {
    // It was idle for so long at least where it was not seen to run.
    let bound = match session.cpu_se_ns {
        Some(_) => "~",
        None if session.usage.polls == 0 => "≥",
        None => "",
    };
    match session.idle_ns {
        0 if session.status == Status::Ended => "last ran –".into(),
        0 => "runs now".into(),
        ns @ ..1_000_000_000 => format!("last ran {bound}{} ago", span(ns)),
        ns => format!("last ran {bound}{} ago", rough(ns)),
    }
}

fn figures(session: &Session) -> Vec<String> {
    let cpu = session.cpu_ratio.map(|ratio| Number::new(percent(ratio), 1));
    let memory = |bytes: Option<u64>| {
        let about = |bytes| Number::new(megabytes(bytes), 1).about(!session.mem_is_own);
        with_unit(bytes.map(about), "MB")
    };
    let polls = session.polls_per_s.map(|polls| Number::new(polls, 1));
    let usage = &session.usage;
    let is_sampled = session.cpu_se_ns.is_some();
    let about = if is_sampled { "~" } else { "" };
    let count = match usage.polls {
        0 if is_sampled => UNKNOWN.into(),
        polls => Number::count(polls).at_least(is_sampled).full(),
    };
    vec![
        format!("cpu {}", with_unit(cpu, "%")),
        format!("memory {} (peak {})", memory(session.mem_bytes), memory(session.peak_bytes)),
        format!("polls {} ({}/s)", count, polls.map_or(UNKNOWN.into(), Number::full)),
        format!("longest poll {about}{}", span(usage.longest_poll_ns)),
    ]
}

/// Where its time and the worker's CPU went since attach.
fn ledger(text: &mut Text, snapshot: &Snapshot, session: &Session) {
    let usage = &session.usage;
    let ns = [usage.loop_cpu_ns, usage.run_queue_ns, usage.off_cpu_ns];
    let wall_ns = ns.iter().fold(0_u64, |sum, ns| sum.saturating_add(*ns));
    text.section(&format!("time in polls since attach: {}", span(wall_ns)));
    let parts = FILLS.iter().zip(ns).map(|((fill, name), ns)| (*fill, *name, ns));
    bar_with_legend(text, &parts.collect::<Vec<_>>());
    if let Some(se_ns) = session.cpu_se_ns {
        let error = span(2 * se_ns);
        text.styled(&format!("  on-cpu by samples, ± {error} (95 %)"), Palette::PAST);
    }
    if usage.polls == 0 && wall_ns == 0 {
        text.styled("  it has run no poll since then", Palette::PAST);
    }

    let worker_ns = worker_of(snapshot, session).map_or(0, |worker| worker.cpu_ns);
    let share = usage.cpu_ns() as f64 / worker_ns as f64;
    let share = (worker_ns > 0).then(|| Number::new(percent(share.min(1.0)), 1));
    let (share, cpu) = (with_unit(share, "%"), span(usage.cpu_ns()));
    text.section(&format!("CPU since attach: {cpu}, {share} of the worker's {}", span(worker_ns)));
    let rest_ns = worker_ns.saturating_sub(usage.cpu_ns());
    if worker_ns > 0 {
        bar_with_legend(
            text,
            &[
                ('█', "on the loop", usage.loop_cpu_ns),
                ('▓', "offloaded to threads", usage.offloaded_cpu_ns),
                ('·', "all else in the worker", rest_ns),
            ],
        );
    }
}

/// The worker that it runs in.
fn worker_of<'a>(snapshot: &'a Snapshot, session: &Session) -> Option<&'a Worker> {
    match &snapshot.fleet {
        None => Some(&snapshot.worker),
        Some(fleet) => fleet.iter().map(|one| &one.worker).find(|worker| worker.pid == session.pid),
    }
}

/// Its last stalls, and the first of them in full.
fn stalls(text: &mut Text, snapshot: &Snapshot, session: &Session, palette: Palette) {
    let is_its = |stall: &&Stall| {
        stall.session_id.as_ref() == Some(&session.session_id)
            && stall.pid == session.pid
            && stall.id_is_cut == session.id_is_cut
            && stall.id_type == session.id_type
    };
    let all = listed(snapshot, &Order::default(), usize::MAX);
    let all: Vec<&Stall> = all.into_iter().filter(is_its).collect();
    let (count, last) = (session.usage.stalls, session.stalls_last_minute);
    text.section(&format!("stalls since attach: {count}, in the last minute: {last}"));
    let Some(first) = all.first() else {
        let why = if count == 0 { "none" } else { "none of them is among the last that are kept" };
        text.styled(&format!("  {why}"), Palette::PAST);
        return;
    };
    let columns = text.columns();
    let grid = Grid::fit(&table_of_session(snapshot), columns, 0);
    let rows = all.iter().take(STALLS_LISTED);
    let rows = rows.map(|stall| row(&grid, stall, snapshot.at_unix_ns, palette));
    text.append(std::iter::once(titles(&grid)).chain(rows).collect());
    if all.len() > STALLS_LISTED {
        text.say(&format!("  and {} more", all.len() - STALLS_LISTED));
    }
    text.say("");
    let columns = u16::try_from(columns).unwrap_or(u16::MAX);
    text.append(stall_details(first, palette, columns));
}

/// How long its polls take, and how long they sleep.
fn polls(text: &mut Text, snapshot: &Snapshot, session: &Session) {
    let is_its =
        |focus: &&Focus| focus.session_id == session.session_id && focus.pid == session.pid;
    let Some(focus) = snapshot.focus.as_ref().filter(is_its) else {
        text.section("how long its polls take");
        let is_over = session.status == Status::Ended;
        let why = if is_over { "not read before it ended" } else { "not read yet" };
        text.styled(&format!("  {why}"), Palette::PAST);
        return;
    };
    let accounting = &snapshot.accounting;
    if accounting.was_sampled() {
        let sampled = span(accounting.sampled_ns);
        let why = format!("  {sampled} of {} were sampled: no lengths", span(snapshot.elapsed_ns));
        text.styled(&why, Palette::PAST);
    }
    charts::side_by_side(
        text,
        [
            ("polls by how long they took", &focus.polls),
            ("polls by how long they slept in all", &focus.off_cpu),
        ],
    );
}
