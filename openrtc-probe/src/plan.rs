//! What a command line means: one [`Plan`], made of what was typed and of where we are. Pure.

use std::time::Duration;

use crate::cli::{Accounting, Cli, ModeChoice, TagSource, Usage};
use crate::model::{Choice, ModeWish};
use crate::view::order::Order;

/// Everything that `run.rs` needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The workers, each once; at least one.
    pub pids: Vec<u32>,
    /// Whether the processes below them are followed too.
    pub children: bool,
    /// What says who a poll is for.
    pub tag: TagSource,
    /// Names of the context variables that say who a poll is for.
    pub vars: Vars,
    /// How polls are accounted.
    pub accounting: ModeWish,
    /// The wall time of a poll above which it is a stall.
    pub stall_threshold_ns: u64,
    /// What is shown.
    pub view: View,
    /// From one picture to the next; with [`View::Once`] and [`View::JsonOnce`], to the only one.
    pub interval: Duration,
    /// After which it ends by itself.
    pub duration: Option<Duration>,
    /// Filters and order.
    pub order: Order,
    /// 0 warnings, 1 what is attached where, 2 everything.
    pub verbosity: u8,
    /// Whether the table has colours.
    pub colour: bool,
    /// Whether what is shown may hold more than ASCII.
    pub is_utf8: bool,
}

/// Names of context variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vars {
    /// The tag: which session.
    pub session: String,
    /// Which agent.
    pub agent: String,
    /// Which tenant.
    pub tenant: String,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A live table, refreshed in place.
    Table,
    /// A log line for each stall.
    Log,
    /// One picture as text.
    Once,
    /// JSON Lines: snapshots, and stalls as they happen.
    Json,
    /// One JSON object.
    JsonOnce,
}

/// Where we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// `TERM` is `dumb` or empty: it cannot draw in place.
    pub terminal_is_dumb: bool,
    /// What the environment says of colours. `NO_COLOR` is the wish of a person, `CLICOLOR_FORCE`
    /// that of a script: the person wins.
    pub colour: Option<bool>,
    /// Whether text is UTF-8 in the locale.
    pub is_utf8: bool,
}

impl Surroundings {
    /// Of an environment, looked up by name; `None` where a name is not set.
    pub fn new(stdout_is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name| env(name).unwrap_or_default();
        let forced = !matches!(value("CLICOLOR_FORCE").as_str(), "" | "0");
        let colour =
            if value("NO_COLOR").is_empty() { forced.then_some(true) } else { Some(false) };
        let terminal_is_dumb = matches!(value("TERM").as_str(), "" | "dumb");
        // The first that is not empty decides, as `setlocale` has it; without any it is `C`.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(value);
        let locale = locale.iter().find(|locale| !locale.is_empty());
        let is_utf8 = locale.is_some_and(|locale| is_utf8(locale));
        Self { stdout_is_terminal, terminal_is_dumb, colour, is_utf8 }
    }
}

/// Whether text is UTF-8 in a locale such as `de_DE.utf8@euro`, or `UTF-8` alone as macOS hands it on.
fn is_utf8(locale: &str) -> bool {
    let codeset = locale.split('@').next().and_then(|name| name.rsplit('.').next());
    codeset.is_some_and(|set| ["UTF-8", "UTF8"].iter().any(|it| set.eq_ignore_ascii_case(it)))
}

impl Plan {
    /// Whether there may be more than one worker.
    pub fn is_fleet(&self) -> bool {
        self.pids.len() > 1 || self.children
    }

    /// What `typed` means here.
    pub fn new(typed: Cli, here: Surroundings) -> Result<Self, Usage> {
        refuse_conflicts(&typed)?;
        let view = view(&typed, here);
        let seconds = match view {
            View::Once | View::JsonOnce => typed.interval.unwrap_or(1.0),
            View::Table | View::Log | View::Json => 1.0 / typed.refresh_rate,
        };
        Ok(Self {
            pids: typed.pid,
            children: typed.children,
            tag: typed.tag,
            vars: Vars {
                session: typed.vars.session_var,
                agent: typed.vars.agent_var,
                tenant: typed.vars.tenant_var,
            },
            accounting: wish(typed.accounting),
            stall_threshold_ns: typed.slow_session_threshold_ms.saturating_mul(1_000_000),
            view,
            interval: span(seconds)?,
            duration: typed.duration.map(span).transpose()?,
            order: Order {
                sort: typed.sort,
                status: typed.status,
                agent: typed.agent,
                tenant: typed.tenant,
                ..Order::default()
            },
            verbosity: typed.verbose,
            colour: here.colour.unwrap_or(here.stdout_is_terminal),
            // A log in a file is for programs too, and keeps what names hold.
            is_utf8: here.is_utf8 || (view == View::Log && !here.stdout_is_terminal),
        })
    }
}

fn wish(typed: Accounting) -> ModeWish {
    let usual = ModeWish::default();
    ModeWish {
        choice: match typed.mode {
            ModeChoice::Exact => Choice::Exact,
            ModeChoice::Sampled => Choice::Sampled,
            ModeChoice::Auto => Choice::Auto,
        },
        sample_rate_hz: typed.sample_rate.unwrap_or(usual.sample_rate_hz),
        max_overhead_ratio: typed
            .max_overhead
            .map_or(usual.max_overhead_ratio, |percent| percent / 100.0),
    }
}

fn view(typed: &Cli, here: Surroundings) -> View {
    match (typed.json, typed.once) {
        (true, true) => View::JsonOnce,
        (true, false) => View::Json,
        (false, true) => View::Once,
        (false, false) if here.stdout_is_terminal && !here.terminal_is_dumb => View::Table,
        (false, false) => View::Log,
    }
}

/// Workers that can be followed at once.
pub const MAX_WORKERS: usize = 64;

fn refuse_pids(pids: &[u32]) -> Result<(), Usage> {
    for (at, pid) in pids.iter().enumerate() {
        if pids[..at].contains(pid) {
            return Err(Usage::new(format!("--pid {pid} is given twice"), "name each worker once"));
        }
    }
    if pids.len() > MAX_WORKERS {
        let message = format!("{} workers are named, {MAX_WORKERS} can be followed", pids.len());
        return Err(Usage::new(message, "start another openrtc-probe for the rest"));
    }
    Ok(())
}

fn refuse_conflicts(typed: &Cli) -> Result<(), Usage> {
    refuse_pids(&typed.pid)?;
    typed.accounting.refuse_conflicts(typed.tag)?;
    if typed.interval.is_some() && !typed.once {
        let hint = "add --once, or use --refresh-rate HZ for pictures that go on";
        return Err(Usage::new("--interval needs --once", hint));
    }
    if typed.duration.is_some() && typed.once {
        let hint = "use --once --interval SECS to measure so long";
        return Err(Usage::new("--duration cannot be used with --once", hint));
    }
    let vars = [
        ("--session-var", &typed.vars.session_var),
        ("--agent-var", &typed.vars.agent_var),
        ("--tenant-var", &typed.vars.tenant_var),
    ];
    for (flag, name) in vars {
        if name.is_empty() {
            let hint = format!("{flag} takes the name given to ContextVar(...)");
            return Err(Usage::new(format!("{flag} is empty"), hint));
        }
    }
    Ok(())
}

fn span(seconds: f64) -> Result<Duration, Usage> {
    let out_of_range = |_| Usage::new(format!("{seconds} seconds is out of range"), "type less");
    Duration::try_from_secs_f64(seconds).map_err(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Typed, parse};
    use crate::view::order::{Sort, StatusFilter};

    const TERMINAL: Surroundings = Surroundings {
        stdout_is_terminal: true,
        terminal_is_dumb: false,
        colour: None,
        is_utf8: true,
    };
    const PIPE: Surroundings = Surroundings { stdout_is_terminal: false, ..TERMINAL };

    fn plan(line: &str, here: Surroundings) -> Result<Plan, Usage> {
        let words = ["openrtc-probe", "--pid", "42"].into_iter().chain(line.split_whitespace());
        match parse(words)? {
            Typed::Run(cli) => Plan::new(*cli, here),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_view_is_chosen_by_flags_then_by_the_terminal() {
        let dumb = Surroundings { terminal_is_dumb: true, ..TERMINAL };
        for (line, here, view) in [
            ("", TERMINAL, View::Table),
            ("", dumb, View::Log),
            ("", PIPE, View::Log),
            ("--once", TERMINAL, View::Once),
            ("--once", PIPE, View::Once),
            ("--json", TERMINAL, View::Json),
            ("--json", PIPE, View::Json),
            ("--json --once", TERMINAL, View::JsonOnce),
            ("--once --json", PIPE, View::JsonOnce),
        ] {
            assert_eq!(plan(line, here).map(|plan| plan.view), Ok(view), "{line}");
        }
    }

    #[test]
    fn lengths_of_time() {
        let ms = Duration::from_millis;
        for (line, interval, duration) in [
            ("", ms(1000), None),
            ("--refresh-rate 10", ms(100), None),
            ("--refresh-rate 0.5 --duration 1.5", ms(2000), Some(ms(1500))),
            ("--once", ms(1000), None),
            ("--once --interval 0.25 --refresh-rate 5", ms(250), None),
        ] {
            let plan = plan(line, PIPE).unwrap();
            assert_eq!((plan.interval, plan.duration), (interval, duration), "{line}");
        }
        let plan = plan("--slow-session-threshold-ms 20", PIPE).unwrap();
        assert_eq!(plan.stall_threshold_ns, 20_000_000);
    }

    #[test]
    fn filters_and_names_are_taken_as_typed() {
        let line = "--sort stalls --status ended --agent a --tenant t --session-var request_id -v";
        let plan = plan(line, PIPE).unwrap();
        let order = Order {
            sort: Sort::Stalls,
            status: StatusFilter::Ended,
            agent: Some("a".into()),
            tenant: Some("t".into()),
            ..Order::default()
        };
        assert_eq!(plan.order, order);
        assert_eq!((plan.pids, plan.verbosity), (vec![42], 1));
        assert_eq!((plan.vars.session.as_str(), plan.tag), ("request_id", TagSource::Contextvar));
        assert_eq!(plan.vars.agent, "openrtc_agent_name");
    }

    #[test]
    fn the_source_of_the_tag_is_taken_as_typed() {
        let tag = |line| plan(line, PIPE).unwrap().tag;
        assert_eq!(tag("--tag task-name"), TagSource::TaskName);
        assert_eq!(tag("--tag contextvar"), TagSource::Contextvar);
    }

    #[test]
    fn how_polls_are_accounted_is_taken_as_typed() {
        let wish = |line| plan(line, PIPE).unwrap().accounting;
        assert_eq!(wish(""), ModeWish::default());
        let typed = wish("--sample-rate 10000 --max-overhead 0.5%");
        assert_eq!((typed.choice, typed.sample_rate_hz), (Choice::Auto, 10_000));
        assert!((typed.max_overhead_ratio - 0.005).abs() < 1e-12);
        assert!(wish("--max-overhead 0").max_overhead_ratio.abs() < f64::EPSILON);
        assert_eq!(wish("--mode sampled").choice, Choice::Sampled);
        assert_eq!(wish("--mode exact").choice, Choice::Exact);
    }

    #[test]
    fn conflicts_are_refused_with_a_hint() {
        for (line, message) in [
            ("--interval 2", "--interval needs --once"),
            ("--once --duration 2", "--duration cannot be used with --once"),
            ("--session-var=", "--session-var is empty"),
            ("--pid 7 --pid 42", "--pid 42 is given twice"),
            (
                "--mode sampled --tag task-name",
                "--mode sampled cannot be used with --tag task-name",
            ),
            ("--mode exact --sample-rate 100", "--sample-rate cannot be used with --mode exact"),
            ("--mode sampled --max-overhead 2", "--max-overhead needs --mode auto"),
        ] {
            let refused = plan(line, PIPE).unwrap_err();
            assert_eq!(refused.message, message);
            assert!(!refused.hint.is_empty());
        }
    }

    #[test]
    fn colours() {
        let colour = |here| plan("", here).unwrap().colour;
        assert!(colour(TERMINAL));
        assert!(!colour(PIPE));
        assert!(colour(Surroundings { colour: Some(true), ..PIPE }));
        assert!(!colour(Surroundings { colour: Some(false), ..TERMINAL }));
    }

    #[test]
    fn surroundings_of_an_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        let xterm = env(&[("TERM", "xterm"), ("NO_COLOR", ""), ("LANG", "C.UTF-8")]);
        assert_eq!(Surroundings::new(true, xterm), TERMINAL);
        assert!(Surroundings::new(true, env(&[])).terminal_is_dumb);
        assert!(Surroundings::new(true, env(&[("TERM", "dumb")])).terminal_is_dumb);
        let colour = |pairs| Surroundings::new(true, env(pairs)).colour;
        assert_eq!(colour(&[("NO_COLOR", "1")]), Some(false));
        assert_eq!(colour(&[("CLICOLOR_FORCE", "0")]), None);
        assert_eq!(colour(&[("CLICOLOR_FORCE", "1")]), Some(true));
        assert_eq!(colour(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), Some(false));
    }
    #[test]
    fn the_locale_says_whether_there_is_more_than_ascii() {
        for (variables, expected) in [
            (&[][..], false),
            (&[("LANG", "C")], false),
            (&[("LANG", "en_US")], false),
            (&[("LANG", "de_DE.ISO-8859-15@euro")], false),
            (&[("LANG", "en_US.UTF-8")], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LANG", "ca_ES.UTF-8@valencia")], true),
            (&[("LC_CTYPE", "UTF-8")], true),
            // The first that is not empty, whatever the others say.
            (&[("LC_ALL", ""), ("LC_CTYPE", ""), ("LANG", "en_US.UTF-8")], true),
            (&[("LC_ALL", "C"), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C.UTF-8")], false),
            (&[("LC_CTYPE", "POSIX"), ("LANG", "C.UTF-8")], false),
            (&[("LC_ALL", "C.UTF-8"), ("LANG", "C")], true),
            // Languages, messages and times are other questions.
            (&[("LANGUAGE", "C.UTF-8"), ("LC_MESSAGES", "C.UTF-8")], false),
        ] {
            let env = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Surroundings::new(true, env).is_utf8, expected, "{variables:?}");
        }
    }

    #[test]
    fn a_log_that_no_person_reads_keeps_its_letters() {
        let c = |here| Surroundings { is_utf8: false, ..here };
        let is_utf8 = |line, here| plan(line, here).unwrap().is_utf8;
        assert!(!is_utf8("", c(TERMINAL)) && !is_utf8("--once", c(PIPE)));
        assert!(is_utf8("", c(PIPE)));
        let dumb = Surroundings { terminal_is_dumb: true, ..TERMINAL };
        assert!(!is_utf8("", c(dumb)) && is_utf8("", dumb));
    }
}
