//! The matrix as text: one line each.

use super::judge::{Accuracy, Figures};

/// What became of one line.
#[derive(Debug, Clone)]
pub enum Line {
    /// It was run.
    Ran(Box<Figures>),
    /// It could not be run to its end.
    Broken(String),
    /// It is not here.
    NotRun(String),
}

impl Line {
    /// Whether it passes only because time was stolen from the machine.
    pub fn is_excused(&self) -> bool {
        matches!(self, Self::Ran(figures) if figures.accuracy == Accuracy::NearButForStolen)
    }

    /// Whether it was run, or should have been, and is not as it should be.
    pub fn failed(&self) -> bool {
        match self {
            Self::Ran(figures) => !figures.passed(),
            Self::Broken(_) => true,
            Self::NotRun(_) => false,
        }
    }
}

/// Above the lines.
pub fn head() -> String {
    format!(
        "{}  {:<30}  {:<30}  {}\n",
        cells("interpreter", "python", "loop"),
        "accuracy: all, worst of n",
        "stalls: found, right, invented",
        "sessions at attach"
    )
}

/// Below the lines, where one is excused.
pub const STOLEN: &str = "\
* met but for so much time that was taken from the machine while the probe looked: on-CPU to the probe,
  nothing to the worker's clock; run twice, the run with less is shown
";

/// One line.
pub fn render(name: &str, version: &str, event_loop: &str, line: &Line) -> String {
    let start = cells(name, version, event_loop);
    match line {
        Line::Ran(figures) => {
            let [accuracy, stalls, sessions] = parts(figures);
            let stolen = match figures.accuracy {
                Accuracy::NearButForStolen => format!("  *{:.2} s", figures.stolen_s),
                Accuracy::Near | Accuracy::Off => String::new(),
            };
            format!("{start}  {accuracy:<30}  {stalls:<30}  {sessions}{stolen}\n")
        }
        Line::Broken(why) => format!("{start}  FAIL  {why}\n"),
        Line::NotRun(why) => format!("{start}  not run: {why}\n"),
    }
}

fn cells(name: &str, version: &str, event_loop: &str) -> String {
    format!("{name:<22}{version:<9}{event_loop:<7}")
}

fn parts(figures: &Figures) -> [String; 3] {
    let Figures { total_error, worst_error, counted, stalls, found, there, idle, .. } = figures;
    [
        format!(
            "{}  {}, {} of {counted}",
            word(figures.accuracy != Accuracy::Off),
            percent(*total_error),
            percent(*worst_error),
        ),
        format!(
            "{}  {} of {}, {}, {}",
            word(figures.is_named),
            stalls.found,
            stalls.real,
            stalls.right,
            stalls.invented
        ),
        format!("{}  {found} of {there} ({idle} idle)", word(figures.is_complete)),
    ]
}

fn word(pass: bool) -> &'static str {
    if pass { "PASS" } else { "FAIL" }
}

fn percent(ratio: f64) -> String {
    format!("{:+.2} %", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::stalls::Tally;

    #[test]
    fn each_demand_has_its_word_and_its_figures() {
        let stalls = Tally { real: 6, found: 5, right: 5, ..Tally::default() };
        let figures = Figures {
            total_error: 0.0021,
            worst_error: -0.0134,
            counted: 4,
            stalls,
            found: 14,
            there: 14,
            idle: 6,
            accuracy: Accuracy::Near,
            is_complete: true,
            ..Figures::default()
        };
        let line = Line::Ran(Box::new(figures));
        assert!(line.failed());
        let text = render("debian-bullseye-3.9", "3.9.2", "uvloop", &line);
        let parts =
            ["PASS  +0.21 %, -1.34 % of 4 ", "FAIL  5 of 6, 5, 0 ", "PASS  14 of 14 (6 idle)"];
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.starts_with("debian-bullseye-3.9   3.9.2    uvloop   PASS"), "{text}");
    }

    #[test]
    fn an_excuse_is_shown() {
        let figures =
            Figures { accuracy: Accuracy::NearButForStolen, stolen_s: 0.21, ..Figures::default() };
        let line = Line::Ran(Box::new(figures));
        assert!(render("x", "3.9.2", "uvloop", &line).ends_with("  *0.21 s\n"));
    }

    #[test]
    fn what_was_not_run_neither_passes_nor_fails() {
        let line = Line::NotRun("the suite has no package python3.15".to_owned());
        let text = render("debian-sid-3.15", "", "", &line);
        assert!(text.contains("not run: the suite") && !text.contains("PASS"), "{text}");
        assert!(!line.failed() && Line::Broken(String::new()).failed());
    }
}
