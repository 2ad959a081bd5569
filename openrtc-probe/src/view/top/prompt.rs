//! A line that is typed at the foot of the screen.

use crate::view::top::keys::Key;

/// Longer texts are of no use in a filter.
const MAX_CHARS: usize = 64;

/// What is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What for.
    pub asks: Asks,
    /// What stands there so far.
    pub text: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// What sessions have in their names.
    Filter,
    /// A stall threshold in milliseconds.
    Threshold,
}

impl Asks {
    /// What stands before the typed text.
    pub(super) fn label(self) -> &'static str {
        match self {
            Asks::Filter => "filter (session, agent, tenant): ",
            Asks::Threshold => "a poll is a stall from (ms): ",
        }
    }

    fn takes(self, c: char) -> bool {
        match self {
            Asks::Filter => !c.is_control(),
            Asks::Threshold => c.is_ascii_digit(),
        }
    }
}

/// What a key has made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes on.
    More(Prompt),
    /// It is done, with this text.
    Done(String),
    /// It was left.
    Left,
    /// The key means nothing here.
    Nothing,
}

impl Prompt {
    /// An empty one.
    pub(super) fn new(asks: Asks, text: String) -> Self {
        Self { asks, text }
    }

    pub(super) fn press(&self, key: Key) -> Typed {
        let mut text = self.text.clone();
        match key {
            Key::Enter => return Typed::Done(text),
            Key::Esc => return Typed::Left,
            Key::Backspace if text.pop().is_none() => return Typed::Left,
            Key::Backspace => {}
            Key::Char(c) if self.asks.takes(c) && text.chars().count() < MAX_CHARS => text.push(c),
            _ => return Typed::Nothing,
        }
        Typed::More(Self { asks: self.asks, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(asks: Asks, keys: &[Key]) -> Typed {
        let empty = Typed::More(Prompt::new(asks, String::new()));
        keys.iter().fold(empty, |typed, key| match typed {
            Typed::More(prompt) => match prompt.press(*key) {
                Typed::Nothing => Typed::More(prompt),
                typed => typed,
            },
            typed => typed,
        })
    }

    #[test]
    fn what_is_typed_stands_there_and_can_be_taken_back() {
        let keys = [Key::Char('A'), Key::Char('é'), Key::Char('x'), Key::Backspace, Key::Enter];
        assert_eq!(type_in(Asks::Filter, &keys), Typed::Done("Aé".into()));
        assert_eq!(type_in(Asks::Filter, &[Key::Char('A'), Key::Esc]), Typed::Left);
        assert_eq!(type_in(Asks::Filter, &[Key::Backspace]), Typed::Left);
    }

    #[test]
    fn a_threshold_is_digits_and_a_filter_ends_somewhere() {
        let keys = [Key::Char('2'), Key::Char('q'), Key::Up, Key::Char('0'), Key::Enter];
        assert_eq!(type_in(Asks::Threshold, &keys), Typed::Done("20".into()));
        let many = [[Key::Char('a'); 100].as_slice(), &[Key::Enter]].concat();
        assert_eq!(type_in(Asks::Filter, &many), Typed::Done("a".repeat(MAX_CHARS)));
    }
}
