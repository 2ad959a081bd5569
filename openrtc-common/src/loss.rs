//! Everything that the kernel side can miss, by cause. What is lost is counted and shown, never
//! folded into a number as if it were zero.

/// A cause of loss; the discriminant indexes the `LOSSES` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Loss {
    /// The ring buffer was full: a stall's or a session's event was not delivered.
    RingFull = 0,
    /// No free session slot: the poll went to `untagged`.
    SessionsFull = 1,
    /// No free thread slot: the thread's time is not accounted.
    ThreadsFull = 2,
    /// A context, or a tag in it, could not be read (page not present): the poll went to `untagged`.
    TagUnreadable = 3,
    /// The context's variables did not form a map that we know: the poll went to `untagged`.
    ContextMalformed = 4,
    /// More nested `Context.run`s than we follow: their time went to the outer one's session.
    NestedTooDeep = 5,
    /// A context was left in another order than it was entered (greenlets): its frames were dropped.
    FramesUnwound = 6,
    /// The kernel told of no switch that must have been: when it was follows from its own account of the
    /// thread, which is behind by up to a tick. Nothing is missing, so that it is told apart from losses.
    SwitchUnheard = 7,
}

impl Loss {
    /// How many causes there are: the size of the `LOSSES` map.
    pub const COUNT: usize = 8;

    /// Those of which the figures were found in another way.
    pub const MENDED: [Loss; 1] = [Loss::SwitchUnheard];

    /// Every cause, in the order of the map, with the name that views give it.
    pub const NAMES: [(Loss, &'static str); Loss::COUNT] = [
        (Loss::RingFull, "ring_full"),
        (Loss::SessionsFull, "sessions_full"),
        (Loss::ThreadsFull, "threads_full"),
        (Loss::TagUnreadable, "tag_unreadable"),
        (Loss::ContextMalformed, "context_malformed"),
        (Loss::NestedTooDeep, "nested_too_deep"),
        (Loss::FramesUnwound, "frames_unwound"),
        (Loss::SwitchUnheard, "switch_unheard"),
    ];
}

#[cfg(test)]
mod tests {
    use super::Loss;

    #[test]
    fn names_stand_in_the_order_of_the_map() {
        for (index, (loss, _)) in Loss::NAMES.iter().enumerate() {
            assert_eq!(*loss as usize, index);
        }
    }
}
