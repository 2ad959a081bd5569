//! A list that is longer than its room: what is selected in it, and which part is seen.

/// The state of a list whose items are known by `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T> {
    /// What is selected, and at which place it was last.
    selected: Option<(T, usize)>,
    /// The first item seen.
    pub(super) scroll: usize,
    /// Whether the selected item is to be seen, wherever it goes.
    follows: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { selected: None, scroll: 0, follows: false }
    }
}

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// So many items down, or up where it is negative.
    By(isize),
    /// To this place; the last, if there are not so many.
    To(usize),
}

/// What is in a list: as many as there are, and how one and its place lead to each other.
pub(super) trait Items<T> {
    /// How many there are.
    fn count(&self) -> usize;
    /// The one at a place.
    fn at(&self, place: usize) -> Option<T>;
    /// The place of one.
    fn place_of(&self, item: &T) -> Option<usize>;
}

impl<T: Clone + PartialEq> Items<T> for [T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, place: usize) -> Option<T> {
        self.get(place).cloned()
    }

    fn place_of(&self, item: &T) -> Option<usize> {
        self.iter().position(|one| one == item)
    }
}

impl<T: Clone> List<T> {
    /// What is selected.
    pub(super) fn selected(&self) -> Option<&T> {
        self.selected.as_ref().map(|(item, _)| item)
    }

    /// The same over `items` as they are now, `room` of which are seen: an item that has gone leaves the
    /// selection to the one at its place.
    #[must_use]
    pub(super) fn fit(&self, items: &(impl Items<T> + ?Sized), room: usize) -> Self {
        let (count, room) = (items.count(), room.max(1));
        let selected = self.selected.as_ref().and_then(|(item, was_at)| {
            let at = items.place_of(item).unwrap_or((*was_at).min(count.saturating_sub(1)));
            items.at(at).map(|item| (item, at))
        });
        let mut scroll = self.scroll.min(count.saturating_sub(room));
        if let Some((_, at)) = &selected
            && self.follows
        {
            scroll = scroll.clamp((at + 1).saturating_sub(room), *at);
        }
        Self { selected, scroll, follows: self.follows }
    }

    /// Selects another one of `items`; with none selected, the first one seen.
    #[must_use]
    pub(super) fn go(&self, items: &(impl Items<T> + ?Sized), to: Move) -> Self {
        let last = items.count().saturating_sub(1);
        let at = match (to, &self.selected) {
            (Move::To(at), _) => at.min(last),
            (Move::By(by), Some((_, at))) => at.saturating_add_signed(by).min(last),
            (Move::By(1..), None) => self.scroll.min(last),
            (Move::By(_), None) => return self.clone(),
        };
        let selected = items.at(at).map(|item| (item, at));
        Self { selected, scroll: self.scroll, follows: true }
    }

    /// Moves what is seen, and leaves the selection.
    #[must_use]
    pub(super) fn roll(&self, by: isize) -> Self {
        let scroll = self.scroll.saturating_add_signed(by);
        Self { scroll, follows: false, selected: self.selected.clone() }
    }

    /// Without a selection.
    #[must_use]
    pub(super) fn free(&self) -> Self {
        Self { selected: None, scroll: self.scroll, follows: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: &[char] = &['a', 'b', 'c', 'd', 'e', 'f'];

    fn at(list: &List<char>) -> (Option<char>, usize) {
        (list.selected().copied(), list.scroll)
    }

    #[test]
    fn the_selection_stays_on_its_item_and_in_sight() {
        let list = List::default().go(MANY, Move::By(1)).fit(MANY, 3);
        assert_eq!(at(&list), (Some('a'), 0), "the first one seen");
        let list = list.go(MANY, Move::By(4)).fit(MANY, 3);
        assert_eq!(at(&list), (Some('e'), 2));
        let turned: Vec<char> = MANY.iter().rev().copied().collect();
        assert_eq!(at(&list.fit(turned.as_slice(), 3)), (Some('e'), 1), "it is at place 1 now");
        assert_eq!(at(&list.go(MANY, Move::To(usize::MAX)).fit(MANY, 3)), (Some('f'), 3));
        assert_eq!(at(&list.go(MANY, Move::By(-9)).fit(MANY, 3)), (Some('a'), 0));
    }

    #[test]
    fn what_has_gone_leaves_its_place_to_the_next() {
        let list = List::default().go(MANY, Move::To(5)).fit(MANY, 3);
        assert_eq!(at(&list.fit(['a', 'b'].as_slice(), 3)), (Some('b'), 0));
        assert_eq!(at(&list.fit([].as_slice(), 3)), (None, 0));
        let list = List::default().go(MANY, Move::To(1));
        assert_eq!(list.fit(['a', 'c', 'd'].as_slice(), 3).selected(), Some(&'c'));
    }

    #[test]
    fn rolling_leaves_the_selection_out_of_sight() {
        let list = List::default().go(MANY, Move::To(0)).fit(MANY, 2);
        let list = list.roll(3).fit(MANY, 2);
        assert_eq!(at(&list), (Some('a'), 3));
        assert_eq!(at(&list.roll(9).fit(MANY, 2)), (Some('a'), 4));
        assert_eq!(at(&list.go(MANY, Move::By(1)).fit(MANY, 2)), (Some('b'), 1));
        assert_eq!(at(&list.free()), (None, 3));
    }
}
