//! Classes of lengths of time: so many to each doubling, found without a division.
//!
//! The first class holds whatever is shorter than [`LEAST_NS`], the last one whatever is longer than all
//! others. In between each octave (from a power of two to the next) is cut into equal parts, a power of
//! two of them.

use bytemuck::{Pod, Zeroable};

/// The exponent of [`LEAST_NS`].
const LEAST_EXP: u32 = 11;
/// What is shorter is not told apart: 2 us.
pub const LEAST_NS: u64 = 1 << LEAST_EXP;

/// How finely lengths are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Parts of an octave: two to this power.
    part_bits: u32,
    /// Octaves above [`LEAST_NS`].
    octaves: u32,
}

/// For each session: octaves, from 2 us to 8.6 s and over.
pub const COARSE: Resolution = Resolution { part_bits: 0, octaves: 22 };
/// For the worker as a whole: eighths of octaves, from 2 us to 69 s and over.
pub const FINE: Resolution = Resolution { part_bits: 3, octaves: 25 };

/// Classes of [`COARSE`].
pub const COARSE_LEN: usize = COARSE.classes();
/// Classes of [`FINE`].
pub const FINE_LEN: usize = FINE.classes();

/// Room for the classes of [`COARSE`]: a power of two, so that the verifier is shown by a mask that an index
/// is inside.
pub const COARSE_ROOM: usize = COARSE_LEN.next_power_of_two();
/// The same for [`FINE`].
pub const FINE_ROOM: usize = FINE_LEN.next_power_of_two();

/// How long polls of one session took. A count begins anew after four billion polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Lengths {
    /// Its polls on loop threads by wall time, in the classes of [`COARSE`].
    pub polls: [u32; COARSE_ROOM],
    /// Those of them that slept, by how long they did in all.
    pub off_cpu: [u32; COARSE_ROOM],
}

/// The class of [`COARSE`] that a length is in which is in this class of [`FINE`]: to find one anew takes
/// many times as long.
#[inline(always)]
pub const fn coarse_of(fine: u32) -> u32 {
    const LAST: u32 = COARSE_LEN as u32 - 1;
    if fine == 0 {
        return 0;
    }
    let octave = 1 + ((fine - 1) >> FINE.part_bits);
    if octave > LAST { LAST } else { octave }
}

impl Resolution {
    /// How many classes there are.
    pub const fn classes(self) -> usize {
        (self.octaves as usize) * (1 << self.part_bits) + 2
    }

    /// The class of a length; below [`Self::classes`].
    #[inline(always)]
    pub const fn class(self, ns: u64) -> u32 {
        let last = self.classes() as u32 - 1;
        if ns < LEAST_NS {
            return 0;
        }
        if ns >> (LEAST_EXP + self.octaves) != 0 {
            return last;
        }
        let exp = ns.ilog2();
        let part = (ns >> (exp - self.part_bits)) as u32 & ((1 << self.part_bits) - 1);
        1 + ((exp - LEAST_EXP) << self.part_bits) + part
    }

    /// From how long on a length is in this class.
    pub const fn least_ns(self, class: u32) -> u64 {
        if class == 0 {
            return 0;
        }
        let above = class - 1;
        let exp = LEAST_EXP + (above >> self.part_bits);
        let part = (above & ((1 << self.part_bits) - 1)) as u64;
        (1 << exp) + (part << (exp - self.part_bits))
    }

    /// From how long on it is in the next one; `None` of the last.
    pub const fn below_ns(self, class: u32) -> Option<u64> {
        if class + 1 < self.classes() as u32 { Some(self.least_ns(class + 1)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_in_its_class() {
        for resolution in [COARSE, FINE] {
            let last = resolution.classes() as u32 - 1;
            for class in 0..=last {
                let least_ns = resolution.least_ns(class);
                let below_ns = resolution.below_ns(class).unwrap_or(u64::MAX);
                assert!(least_ns < below_ns);
                for ns in [least_ns, u64::midpoint(least_ns, below_ns), below_ns - 1] {
                    assert_eq!(resolution.class(ns), class, "{resolution:?} {ns}");
                    assert_eq!(coarse_of(FINE.class(ns)), COARSE.class(ns), "{ns}");
                }
            }
            assert_eq!((resolution.class(0), resolution.class(u64::MAX)), (0, last));
        }
    }

    #[test]
    fn classes_are_as_fine_as_promised() {
        assert_eq!((COARSE_LEN, FINE_LEN), (24, 202));
        assert_eq!(COARSE.least_ns(23), 1 << 33, "8.6 s and over");
        assert_eq!(FINE.least_ns(201), 1 << 36);
        for class in 1..FINE_LEN as u32 - 1 {
            let (least, below) = (FINE.least_ns(class), FINE.below_ns(class).unwrap());
            let width = below as f64 / least as f64;
            assert!(width > 1.066 && width <= 1.125, "{class}: {width}");
        }
    }
}
