//! What a look at one session's tasks found.

use crate::dump::Session;
use crate::model::{self, IdType, Status};
use crate::view::dump::{tasks, within};
use crate::view::harmless::harmless;
use crate::view::top::palette::Palette;
use crate::view::top::text::Text;
use crate::view::units::{UNKNOWN, rough};

/// Lines of tasks that are shown: `dump` shows all.
const MAX_LINES: usize = 300;

/// What a look at the tasks of one session found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// The worker.
    pub pid: u32,
    /// The session's id.
    pub session_id: String,
    /// Sessions of this id: one as a rule, several where an id is cut, none where no task holds it.
    /// Or why memory could not be read.
    pub found: Result<Vec<Session>, String>,
    /// Tasks that may be of it: they moved while they were read.
    pub unread: usize,
    /// When it was looked at, nanoseconds since the Unix epoch; `None` where that failed.
    pub at_unix_ns: Option<i128>,
}

impl Tasks {
    /// Whether it is of this session.
    fn is_of(&self, session: &model::Session) -> bool {
        self.pid == session.pid && self.session_id == *session.session_id
    }
}

/// Adds the section of a session's tasks, at the time of a picture.
pub(super) fn section(
    text: &mut Text,
    session: &model::Session,
    looked: Option<&Tasks>,
    at_unix_ns: i128,
) {
    let Some(looked) = looked.filter(|looked| looked.is_of(session)) else {
        text.section("tasks");
        // Nobody reads those of a session that has none.
        let is_over = session.status == Status::Ended;
        text.styled(if is_over { "  it has ended" } else { "  being read …" }, Palette::PAST);
        return;
    };
    let found = match &looked.found {
        Ok(found) => found,
        Err(why) => {
            text.section("tasks");
            text.say(&format!("  tasks cannot be read: {}", harmless(why)));
            return;
        }
    };
    let found: Vec<&Session> = found.iter().filter(|one| is_same(one, session)).collect();
    let count = tasks(found.iter().map(|one| one.tasks.len()).sum());
    text.section(&format!("{count}, {}", age(looked.at_unix_ns, at_unix_ns)));
    if found.len() > 1 {
        let what = "have an id that begins so: it is longer than what is kept";
        text.say(&format!("  {} sessions {what}", found.len()));
    }
    let lines: Vec<String> = found.into_iter().flat_map(within).collect();
    if lines.is_empty() {
        text.say("  no task holds its id, and no thread runs in it");
    }
    if looked.unread > 0 {
        text.say(&format!("  {} may be of it too: not read, they moved", tasks(looked.unread)));
    }
    text.all(lines.get(..MAX_LINES).unwrap_or(&lines));
    if lines.len() > MAX_LINES {
        let (more, pid) = (lines.len() - MAX_LINES, session.pid);
        text.say(&format!("  … {more} more lines: openrtc-probe dump --pid {pid}"));
    }
}

/// Whether the text of the id means the same: that of a type is also the text of some id.
fn is_same(found: &Session, session: &model::Session) -> bool {
    let is_text = |id_type: &IdType| *id_type == IdType::Text;
    is_text(&found.id_type) == is_text(&session.id_type) && found.id_is_cut == session.id_is_cut
}

/// How old a look is.
fn age(looked_ns: Option<i128>, at_unix_ns: i128) -> String {
    let Some(looked_ns) = looked_ns else { return format!("as of {UNKNOWN}") };
    let ago = at_unix_ns.saturating_sub(looked_ns).max(0);
    match u64::try_from(ago).unwrap_or(u64::MAX) {
        ..1_000_000_000 => "as of now".into(),
        ago => format!("as of {} ago", rough(ago)),
    }
}
