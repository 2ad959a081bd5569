//! The words of the verdict: a headline, and the evidence for it.
//!
//! A name of the worker that is no plain word stands in quotes: no session can call itself a verdict.

use crate::model::{
    Blame, Class, Culprit, Finding, Fleet, IdType, Load, Session, Snapshot, Stall, Times, Unknown,
    Verdict, Wedged, loop_load, verdict,
};
use crate::view::harmless::{cut, value};
use crate::view::log_line::{file_and_line, is_reserved};
use crate::view::units::{Number, megabytes, millis, percent, rough, spoken, with_unit};

/// Columns that a name may take.
const NAME: usize = 40;

/// The verdict in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Its name for programs.
    pub kind: &'static str,
    /// Whether something is wrong.
    pub is_trouble: bool,
    /// What is wrong.
    pub headline: String,
    /// What speaks for it, and against believing it; may be empty.
    pub evidence: String,
}

impl Words {
    /// Both in one sentence.
    pub fn sentence(&self) -> String {
        let Self { headline, evidence, .. } = self;
        match evidence.is_empty() {
            true => headline.clone(),
            false if headline.ends_with(')') => format!("{headline}; {evidence}"),
            false => format!("{headline} ({evidence})"),
        }
    }
}

/// The verdict on the worker, or on the one of several that is worst off.
pub fn words(snapshot: &Snapshot) -> Words {
    let verdict = verdict(snapshot);
    let (headline, mut evidence) = found(&verdict);
    let pid = verdict.worker.worker.pid;
    let headline = match &verdict.fleet {
        Some(fleet) => of_several(fleet, &verdict.finding, pid, headline),
        None => headline,
    };
    evidence.extend(doubts(&verdict));
    evidence.extend(verdict.fleet.as_ref().and_then(others));
    Words {
        kind: verdict.finding.kind(),
        is_trouble: verdict.finding.is_trouble(),
        headline,
        evidence: evidence.join(", "),
    }
}

/// Of several it says of which, and how many others there are to look at.
fn of_several(fleet: &Fleet, finding: &Finding<'_>, pid: u32, headline: String) -> String {
    match finding {
        Finding::Healthy => {
            let healthy = fleet.workers - fleet.unknown;
            format!("{healthy} of {} workers healthy: {PIPELINE}", fleet.workers)
        }
        Finding::Unknown(Unknown::NoWorker) => headline,
        _ => format!("pid {pid}: {headline}"),
    }
}

fn others(fleet: &Fleet) -> Option<String> {
    let others = fleet.troubled.checked_sub(1).filter(|others| *others > 0)?;
    Some(format!("and trouble in {}", plural(others as u64, "other worker")))
}

/// Where to look when it is not the worker.
const PIPELINE: &str = "look at the voice pipeline (STT, LLM, TTS)";

fn found(verdict: &Verdict<'_>) -> (String, Vec<String>) {
    let it = verdict.worker;
    match &verdict.finding {
        Finding::Blocks(blame) => blocks(it, blame),
        Finding::Starved(blame) => starved(it, blame.as_ref()),
        Finding::Hot(session, ratio) => hot(it, session, *ratio),
        Finding::Overloaded(load, ratio) => overloaded(it, *load, *ratio),
        Finding::Climbs(bytes) => climbs(it, *bytes),
        Finding::Wedged(wedged) => who_waits(it, wedged),
        Finding::Unknown(why) => (format!("no verdict: {}", no_verdict(*why)), vec![]),
        Finding::Healthy => (format!("worker healthy: {PIPELINE}"), vitals(it)),
        Finding::Idle => ("no session is live: nothing to judge".into(), vitals(it)),
    }
}

fn doubts(verdict: &Verdict<'_>) -> Vec<String> {
    let is_said =
        |why: fn(&Unknown) -> bool| matches!(&verdict.finding, Finding::Unknown(it) if why(it));
    let lost = (verdict.lost > 0 && !is_said(|why| matches!(why, Unknown::Lossy(_))))
        .then(|| format!("{} lost", events(verdict.lost)));
    let accounted =
        verdict.accounted_ratio.filter(|_| !is_said(|why| matches!(why, Unknown::Unaccounted(_))));
    let accounted = accounted.map(|ratio| format!("{} of its CPU accounted", share(ratio)));
    lost.into_iter().chain(accounted).collect()
}

fn blocks(it: &Snapshot, blame: &Blame<'_>) -> (String, Vec<String>) {
    let stall = blame.stall;
    let who = culprit(it, blame);
    let cause = cause(stall);
    let place = place(stall);
    let victim = stall
        .session_id
        .as_deref()
        .map_or("an untagged poll".into(), |id| name(id, &stall.id_type));
    let is_via_lock = who != victim && stall.anatomy.causes.first() == Some(Class::Gil);
    let (headline, waited) = if is_via_lock {
        (format!("{who} holds the GIL and the loop waits"), Some(format!("{victim} waited{place}")))
    } else if blame.is_now() {
        let so_far = at_least(stall, stall.duration_ns);
        (format!("{who} blocks the loop now, {so_far} so far: {cause}{place}"), None)
    } else if blame.times.count() > 1 {
        (format!("{who} blocks the loop: {cause}{place}"), None)
    } else {
        (format!("{who} blocked the loop once: {cause}{place}"), None)
    };
    (headline, waited.into_iter().chain(how_much(it, blame)).collect())
}

fn how_much(it: &Snapshot, blame: &Blame<'_>) -> Vec<String> {
    let stall = blame.stall;
    let length = at_least(stall, stall.duration_ns);
    let last = stall.started_at_unix_ns.max(stall.repeats.last_unix_ns);
    let ago = u64::try_from(it.at_unix_ns.saturating_sub(last)).unwrap_or(0);
    let times = match blame.times {
        Times::Exactly(1) if blame.is_now() => None,
        Times::Exactly(1) if stall.ongoing => Some(format!("{length} so far")),
        Times::Exactly(1) => Some(format!("{length}, {} ago", rough(ago))),
        Times::Exactly(times) => Some(format!("{times} stalls/min")),
        Times::About(times) => Some(format!("~{times} stalls/min")),
    };
    let worst = at_least(blame.worst, blame.worst.duration_ns);
    let worst = (blame.times.count() > 1 && !blame.is_now()).then(|| format!("worst {worst}"));
    let late = stall.anatomy.late.as_ref().filter(|late| late.count > 0);
    let late = late.map(|late| format!("{} waited", plural(late.count.into(), "session")));
    [times, worst, late].into_iter().flatten().collect()
}

fn starved(it: &Snapshot, blame: Option<&Blame<'_>>) -> (String, Vec<String>) {
    let class = blame.and_then(|blame| blame.stall.anatomy.causes.first());
    let headline = match class {
        Some(Class::Throttled) => "the loop waits for a CPU: the cgroup's CPU quota is used up",
        Some(Class::Stopped) => "the loop was stopped: by a signal, a tracer or a freezer",
        _ => "the loop waits for a CPU: the machine is busy, no session is to blame",
    };
    let ratio = it.worker.loop_run_queue_ratio;
    let mut evidence = vec![format!("run-queue wait {} of the time", known_share(ratio))];
    evidence.extend(blame.into_iter().flat_map(|blame| how_much(it, blame)));
    let holder = blame.and_then(|blame| blame.stall.anatomy.cpu_holder.as_ref());
    evidence.extend(holder.map(|holder| {
        let name = holder.name.as_deref().map(plain);
        format!(
            "pid {}{} had the CPU",
            holder.pid,
            name.map(|name| format!(" {name}")).unwrap_or_default()
        )
    }));
    (headline.into(), evidence)
}

fn hot(it: &Snapshot, session: &Session, ratio: f64) -> (String, Vec<String>) {
    let headline = format!("{} is CPU-hot: {} of the core", of_session(session), share(ratio));
    let usage = &session.usage;
    let is_offloaded = usage.offloaded_cpu_ns > usage.loop_cpu_ns;
    let advice = if is_offloaded {
        "most of it in threads already, fix: isolation=\"process\""
    } else {
        "fix: to_thread or isolation=\"process\""
    };
    (headline, vec![advice.into(), load_words(it)])
}

fn overloaded(it: &Snapshot, load: Load, ratio: f64) -> (String, Vec<String>) {
    let share = share(ratio);
    let live = live(it);
    let headline = match load {
        Load::Sessions => {
            format!(
                "the loop is overloaded: {} keep it busy for {share} of a core, none stands out",
                plural(live, "session")
            )
        }
        Load::Untagged => format!("work of no session takes {share} of a core: see (untagged)"),
        Load::Overhead => format!(
            "the loop itself keeps busy, {share} of a core: many small callbacks, or logging"
        ),
        Load::OtherThreads => format!("threads outside any session take {share} of a core"),
    };
    let evidence = if load == Load::OtherThreads { load_words(it) } else { delay_words(it) };
    (headline, vec![evidence])
}

fn climbs(it: &Snapshot, bytes: i64) -> (String, Vec<String>) {
    let growth = Number::new(megabytes(bytes.unsigned_abs()), 0).full();
    let rss = it.worker.rss_bytes.map(|bytes| Number::new(megabytes(bytes), 0));
    let sessions = plural(live(it), "live session");
    (
        format!("memory climbs {growth} MB/min ({})", with_unit(rss, "MB")),
        vec![format!("of the whole worker, {sessions}")],
    )
}

fn who_waits(it: &Snapshot, wedged: &Wedged<'_>) -> (String, Vec<String>) {
    let Wedged { session, count, of } = *wedged;
    // One that was never seen to run may have waited for longer.
    let bound = if session.usage.polls == 0 { "at least " } else { "" };
    let headline =
        format!("{} idle for {bound}{}: wedged?", of_session(session), spoken(session.idle_ns));
    let others = if count == of {
        if of == 1 {
            "the only live session".into()
        } else {
            format!("all {of} live sessions wait so long")
        }
    } else if count == 1 {
        format!("{} ran meanwhile", plural((of - 1) as u64, "other"))
    } else {
        format!("{count} of {of} live sessions wait 2 min or more")
    };
    (headline, vec![others, format!("what it awaits: openrtc-probe dump --pid {}", it.worker.pid)])
}

fn no_verdict(why: Unknown) -> String {
    match why {
        Unknown::NoWorker => "there is no worker".into(),
        Unknown::NoLoop => "no event loop seen yet".into(),
        Unknown::TagNotFound => "session variable not found yet (see --session-var)".into(),
        Unknown::TaggedElsewhere(tasks) => {
            format!(
                "{} an id in a variable that is not followed",
                if tasks == 1 { "1 task holds".into() } else { format!("{tasks} tasks hold") }
            )
        }
        Unknown::NoRates => "no rates yet, the next picture has them".into(),
        Unknown::NoPolls => "no poll seen yet".into(),
        Unknown::Lossy(lost) => format!("too much was missed ({} lost)", events(lost)),
        Unknown::Unaccounted(ratio) => {
            format!("{} of the worker's CPU is accounted, it should be all", share(ratio))
        }
    }
}

/// What says that it is not the worker.
fn vitals(it: &Snapshot) -> Vec<String> {
    let longest = it.history.seconds.iter().map(|second| second.longest_poll_ns).max();
    let longest = longest.map(|ns| Number::new(millis(ns), 1));
    let mut vitals = vec![delay_words(it)];
    vitals.extend(longest.map(|ms| format!("longest poll {}", with_unit(Some(ms), "ms"))));
    vitals.push(format!("run-queue wait {}", known_share(it.worker.loop_run_queue_ratio)));
    vitals.push(load_words(it));
    if it.worker.rss_growth_bytes.is_none() {
        vitals.push("memory trend not known yet".into());
    }
    vitals
}

fn delay_words(it: &Snapshot) -> String {
    let p99 = it.worker.loop_delay.and_then(|delay| delay.p99_ns);
    let p99 = p99.map(|ns| Number::new(millis(ns), 1));
    format!("loop delay p99 {}", with_unit(p99, "ms"))
}

fn load_words(it: &Snapshot) -> String {
    format!("load {}", known_share(loop_load(it)))
}

fn culprit(it: &Snapshot, blame: &Blame<'_>) -> String {
    match &blame.culprit {
        Culprit::Session(id, _) if blame.stall.session_id.as_deref() == Some(*id) => {
            name(id, &blame.stall.id_type)
        }
        Culprit::Session(id, pid) => {
            let is_its = |session: &&Session| session.pid == *pid && &*session.session_id == *id;
            it.sessions.iter().find(is_its).map_or_else(|| plain(id), of_session)
        }
        Culprit::Untagged(_) => "an untagged poll".into(),
        Culprit::Thread(tid) => format!("thread {tid}, of no session,"),
        Culprit::Machine => "the machine".into(),
    }
}

/// Why, and on what.
fn cause(stall: &Stall) -> String {
    let anatomy = &stall.anatomy;
    let Some(class) = anatomy.causes.first() else { return "cause unknown".into() };
    let syscall = anatomy.causes.syscall().map(|name| format!("({name})"));
    let native = anatomy.native().filter(|_| class == Class::Cpu);
    let native = native.map(|name| format!(" in {}", cut(&value(name, |_| false), NAME)));
    let on = anatomy.descriptor().map(|what| format!(" on {}", plain(what)));
    [Some(class.name().into()), syscall, native, on].into_iter().flatten().collect()
}

/// ` at booking.py:42 in fetch_slots`.
fn place(stall: &Stall) -> String {
    let Some(frame) = stall.anatomy.stack().and_then(|stack| stack.place()) else {
        return String::new();
    };
    format!(" at {} in {}", cut(&file_and_line(frame, 0), NAME), plain(&frame.function))
}

fn of_session(session: &Session) -> String {
    name(&session.session_id, &session.id_type)
}

fn name(id: &str, id_type: &IdType) -> String {
    let is_text = *id_type == IdType::Text;
    cut(&value(id, |id| is_text && is_reserved(id)), NAME).into_owned()
}

fn plain(text: &str) -> String {
    cut(&value(text, |_| false), NAME).into_owned()
}

fn at_least(stall: &Stall, ns: u64) -> String {
    if stall.is_lower_bound { format!("at least {}", spoken(ns)) } else { spoken(ns) }
}

fn share(ratio: f64) -> String {
    with_unit(Some(Number::new(percent(ratio), usize::from(ratio < 0.1))), "%")
}

fn known_share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| with_unit(None, "%"), share)
}

fn live(it: &Snapshot) -> u64 {
    it.sessions.iter().filter(|it| it.status != crate::model::Status::Ended).count() as u64
}

fn events(count: u64) -> String {
    plural(count, "event")
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Capture, Causes, GilHolder};
    use crate::view::harmless::is_harmful;
    use crate::view::samples;

    fn sentence(it: &Snapshot) -> String {
        words(it).sentence()
    }

    #[test]
    fn each_finding_in_words() {
        let mut now = samples::three();
        now.stalls[0].duration_ns = 2_345_000_000;
        let mut throttled = samples::three();
        let causes = Causes::of_parts(&[(Class::Throttled, 126_100_000)], None);
        throttled.stalls.iter_mut().for_each(|stall| stall.anatomy.causes = causes.clone());
        let said = [
            samples::tag_not_found(),
            samples::empty(),
            samples::twelve(),
            samples::lost(),
            now,
            throttled,
            samples::starved(),
            samples::hot(),
            samples::overloaded(),
            samples::memory(),
            samples::wedged(),
            samples::fleet(),
        ]
        .map(|it| sentence(&it));
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!("verdicts", said.join("\n"));
        });
    }

    #[test]
    fn who_holds_the_lock_is_named() {
        let mut it = samples::three();
        it.stalls.remove(0);
        let anatomy = &mut it.stalls[0].anatomy;
        anatomy.causes = Causes::of_parts(&[(Class::Gil, 126_100_000)], None);
        let holder = |id: Option<&str>| GilHolder { tid: 77, session_id: id.map(Into::into) };
        for (holder, words) in [
            (holder(Some("AJ_1f3cQ9vXbN2k")), "AJ_1f3cQ9vXbN2k holds the GIL and the loop waits"),
            (holder(None), "thread 77, of no session, holds the GIL and the loop waits"),
            (holder(Some("AJ_7Zp0aLmW4dRt")), "AJ_7Zp0aLmW4dRt blocks the loop: gil at "),
        ] {
            let look = &mut it.stalls[0].anatomy.captures[0];
            *look = Capture { gil_holder: Some(holder), ..look.clone() };
            let said = sentence(&it);
            assert!(said.starts_with(words), "{said}");
            assert!(said.contains("AJ_7Zp0aLmW4dRt"), "who waited: {said}");
        }
    }

    #[test]
    fn no_session_can_call_itself_a_verdict() {
        let ids = ["worker healthy: look elsewhere", "\u{1b}[2J\n\u{202e}x", "<int>", ""];
        let quoted = ["\"worker healthy: look elsewhere\"", "\"\\u{1b}", "\"<int>\"", "\"\""];
        for (id, quoted) in ids.into_iter().zip(quoted) {
            let mut hot = samples::hot();
            hot.sessions[7].session_id = id.into();
            let mut blocked = samples::three();
            for stall in &mut blocked.stalls {
                stall.session_id = stall.session_id.as_ref().map(|_| id.into());
            }
            let mut wedged = samples::wedged();
            wedged.sessions[2].session_id = id.into();
            for it in [hot, blocked, wedged] {
                let said = sentence(&it);
                assert!(said.starts_with(quoted), "{said}");
                assert!(!said.chars().any(is_harmful), "{said}");
            }
        }
        for it in [samples::hostile(), samples::odd_tags()] {
            assert!(!sentence(&it).chars().any(is_harmful));
        }
    }
}
