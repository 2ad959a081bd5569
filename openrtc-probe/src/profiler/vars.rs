//! Which context variables say who a poll is for.
//!
//! A name need not be unique: a module that is imported twice, or loaded anew, makes a second variable
//! of it. The programs in the kernel follow one tag variable, so which one is decided by facts, and
//! where several are in use it is said. The names of a session are read in whichever variable holds one.

use super::{Now, Profiler, Tag};
use crate::{cpython::VarAt, model::Fact};

/// While no task holds a tag, variables are looked for anew this often: the followed one may be dead.
const LOOK_UNUSED_NS: u64 = 5_000_000_000;
/// And this often while tasks do: another one of the name may have come into use.
const LOOK_USED_NS: u64 = 30_000_000_000;

/// The variables, as they were found last.
#[derive(Clone, Debug, Default)]
pub(super) struct Vars {
    /// The tag variable that is followed.
    pub(super) tag: Option<VarAt>,
    /// Others of its name.
    pub(super) others: Vec<VarAt>,
    /// Those of the agent's name.
    pub(super) agents: Vec<VarAt>,
    /// Those of the tenant's.
    pub(super) tenants: Vec<VarAt>,
    /// When they are to be looked for again.
    look_at_ns: u64,
}

impl Vars {
    /// Whether it is time to look for them, if so many tasks hold a tag.
    pub(super) fn are_due(&self, now: Now, tagged_tasks: usize) -> bool {
        let early_ns = if tagged_tasks == 0 { LOOK_USED_NS - LOOK_UNUSED_NS } else { 0 };
        now.monotonic_ns + early_ns >= self.look_at_ns
    }
}

/// The variable to follow, of those found with the number of tasks that hold a tag in each. As long as
/// any task holds one in `followed`, it stays: what was shown must not change its meaning.
fn choose(followed: Option<VarAt>, found: &[(VarAt, usize)]) -> Option<VarAt> {
    let held = |var| found.iter().any(|(one, tasks)| *one == var && *tasks > 0);
    if followed.is_some_and(held) {
        return followed;
    }
    let most = found.iter().map(|(_, tasks)| *tasks).max().unwrap_or(0);
    let first = found.iter().find(|(_, tasks)| *tasks == most).map(|(var, _)| *var);
    // None of them is in use: no reason to change.
    if most == 0 { followed.or(first) } else { first }
}

impl Profiler {
    /// Looks for the variables, and tells the programs which one is the tag's.
    pub(super) fn find_vars(&mut self, now: Now) {
        let target = &self.target;
        let names = [&*target.session_var, &*target.agent_var, &*target.tenant_var];
        let Ok(found) = self.python.find_vars(&names) else { return };
        let Ok([tags, agents, tenants]) = <[_; 3]>::try_from(found) else { return };
        let followed = self.vars.tag;
        let tag = match &tags[..] {
            _ if self.target.tag == Tag::TaskName => None,
            [one] if followed.is_none_or(|followed| followed == *one) => Some(*one),
            several => choose(followed, &self.held(several)),
        };
        let look_at_ns = now.monotonic_ns + LOOK_USED_NS;
        let others = tags.into_iter().filter(|var| tag.is_some_and(|tag| tag != *var)).collect();
        self.vars = Vars { tag, others, agents, tenants, look_at_ns };
        let Some(var) = tag.filter(|_| tag != followed) else { return };
        // Of another variable.
        self.seen.clear();
        self.settings.tag_var = var.addr.0;
        self.settings.tag_var_hash = u64::from(var.hash);
        self.settings.forgotten += 1;
        self.kernel.set(&self.settings);
        self.ledger.take(Fact::TagFound);
    }

    /// How many tasks hold a tag in each of these.
    fn held(&self, vars: &[VarAt]) -> Vec<(VarAt, usize)> {
        vars.iter().map(|var| (*var, self.count_held(*var))).collect()
    }

    /// Tells the model of tag variables that are not followed.
    pub(super) fn tell_others(&mut self) {
        let elsewhere = self.held(&self.vars.others).iter().map(|(_, tasks)| tasks).sum();
        let count = self.vars.others.len() + usize::from(self.vars.tag.is_some());
        self.ledger.take(Fact::TagVars { count, elsewhere });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::memory::RemoteAddr;

    fn var(addr: u64) -> VarAt {
        VarAt { addr: RemoteAddr(addr), hash: 7 }
    }

    #[test]
    fn the_one_that_most_tasks_hold_is_followed() {
        let (a, b, c) = (var(1), var(2), var(3));
        assert_eq!(choose(None, &[]), None);
        assert_eq!(choose(None, &[(a, 0), (b, 0)]), Some(a));
        assert_eq!(choose(None, &[(a, 0), (b, 2), (c, 5)]), Some(c));
        assert_eq!(choose(None, &[(a, 2), (b, 2)]), Some(a));
    }

    #[test]
    fn it_is_followed_as_long_as_any_task_holds_it() {
        let (a, b) = (var(1), var(2));
        assert_eq!(choose(Some(a), &[(a, 1), (b, 90)]), Some(a));
        assert_eq!(choose(Some(a), &[(a, 0), (b, 1)]), Some(b));
        assert_eq!(choose(Some(b), &[(a, 0), (b, 0)]), Some(b));
        assert_eq!(choose(Some(a), &[(b, 3)]), Some(b), "it is gone");
        assert_eq!(choose(Some(a), &[]), Some(a));
    }

    #[test]
    fn they_are_looked_for_earlier_while_none_is_in_use() {
        let vars = Vars { look_at_ns: LOOK_USED_NS, ..Vars::default() };
        let at = |ns| Now { monotonic_ns: ns, boottime_ns: ns, unix_ns: 0 };
        assert!(!vars.are_due(at(LOOK_UNUSED_NS), 1) && vars.are_due(at(LOOK_USED_NS), 1));
        assert!(!vars.are_due(at(1), 0) && vars.are_due(at(LOOK_UNUSED_NS), 0));
    }
}
