//! A sequence: some literals and the repetition after them, in the format's numbers.

use crate::bits::Bits;
use crate::repeats::Repeat;

/// The shortest repetition that the format knows (section 3.1.1.3.2.1.1).
const SHORTEST: usize = 3;

/// How the page goes on.
#[derive(Clone, Copy, Default)]
pub(super) struct Sequence {
    /// How many literals come.
    literals: u16,
    /// Bytes of the repetition behind them, less those of the shortest.
    len: u16,
    /// Which distance it has (`Offset_Value`).
    distance: u16,
}

/// The three numbers of a sequence.
pub(super) struct Numbers {
    pub(super) literals: Number,
    pub(super) len: Number,
    pub(super) distance: Number,
}

/// A number: a symbol of a code, and the bits that tell it from other numbers with that symbol.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) symbol: u8,
    pub(super) rest: Bits,
}

impl Sequence {
    #[inline]
    pub(super) fn new(
        literals: usize,
        Repeat { distance, len, .. }: Repeat,
        distances: &mut Distances,
    ) -> Self {
        let distance = distances.value(distance as u16, literals > 0);
        Self { literals: literals as u16, len: (len - SHORTEST) as u16, distance }
    }

    #[inline]
    pub(super) fn numbers(self) -> Numbers {
        Numbers {
            literals: number(self.literals, &FEW_LITERALS, 19),
            len: number(self.len, &SHORT_LENS, 36),
            distance: number(self.distance, &[], 0),
        }
    }
}

/// Of numbers that are not `small`, there is a symbol for each power of two, counted from `base` on.
#[inline]
fn number(number: u16, small: &[(u8, u8)], base: u8) -> Number {
    let large = || {
        let power = number.checked_ilog2().unwrap_or(0) as u8;
        (base + power, power)
    };
    let (symbol, len) = small.get(usize::from(number)).copied().unwrap_or_else(large);
    Number { symbol, rest: Bits::lowest(len.into(), number.into()) }
}

/// Symbols of small numbers, and how many bits follow.
static FEW_LITERALS: [(u8, u8); 64] = small(16, &[1, 1, 1, 1, 2, 2, 3, 3, 4]);
static SHORT_LENS: [(u8, u8); 128] = small(32, &[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5]);

/// First so many symbols of one number, then those that so many bits follow.
const fn small<const N: usize>(single: usize, lens: &[u8]) -> [(u8, u8); N] {
    let mut table = [(0, 0); N];
    let (mut number, mut symbol) = (0, 0);
    while number < N {
        let len = if symbol < single { 0 } else { lens[symbol - single] };
        let next = number + (1 << len);
        while number < next {
            table[number] = (symbol as u8, len);
            number += 1;
        }
        symbol += 1;
    }
    table
}

/// The last three distances, of which the format has short names (section 3.1.1.5).
pub(super) struct Distances([u16; 3]);

impl Distances {
    /// Those of every block's beginning.
    pub(super) fn new() -> Self {
        Self([1, 4, 8])
    }

    /// The `Offset_Value` of the next distance.
    #[inline]
    fn value(&mut self, distance: u16, has_literals: bool) -> u16 {
        let [last, second, third] = self.0;
        if has_literals && distance == last {
            return 1;
        }
        // Right behind a repetition the last distance has no name, and those of the others are lower.
        let names = u16::from(has_literals);
        if distance == second {
            self.0 = [second, last, third];
            return 1 + names;
        }
        self.0 = [distance, last, second];
        if distance == third { 2 + names } else { 3 + distance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(Number { symbol, rest }: Number) -> (u8, u32, u32) {
        (symbol, rest.bits, rest.len)
    }

    fn symbols(literals: u16, len: u16, distance: u16) -> [(u8, u32, u32); 3] {
        let Numbers { literals, len, distance } = Sequence { literals, len: len - 3, distance }.numbers();
        [literals, len, distance].map(parts)
    }

    /// By the tables of section 3.1.1.3.2.1.1.
    #[test]
    fn numbers_have_the_symbols_of_the_tables() {
        assert_eq!(symbols(0, 3, 1), [(0, 0, 0); 3]);
        assert_eq!(symbols(15, 34, 2), [(15, 0, 0), (31, 0, 0), (1, 0, 1)]);
        assert_eq!(symbols(17, 36, 3), [(16, 1, 1), (32, 1, 1), (1, 1, 1)]);
        assert_eq!(symbols(31, 50, 7), [(21, 3, 2), (37, 3, 2), (2, 3, 2)]);
        assert_eq!(symbols(63, 130, 4095 + 3), [(24, 15, 4), (42, 31, 5), (12, 2, 12)]);
        assert_eq!(symbols(64, 131, 9), [(25, 0, 6), (43, 0, 7), (3, 1, 3)]);
        assert_eq!(symbols(4090, 4094, 8), [(30, 2042, 11), (47, 2043, 11), (3, 0, 3)]);
    }

    /// By section 3.1.1.5.
    #[test]
    fn distances_that_come_again_have_short_names() {
        let mut distances = Distances::new();
        assert_eq!(distances.value(8, true), 3);
        assert_eq!(distances.0, [8, 1, 4]);
        assert_eq!(distances.value(8, true), 1);
        assert_eq!(distances.value(1, true), 2);
        assert_eq!(distances.0, [1, 8, 4]);
        assert_eq!(distances.value(100, true), 103);
        assert_eq!(distances.0, [100, 1, 8]);
        assert_eq!(distances.value(1, false), 1);
        assert_eq!(distances.value(8, false), 2);
        assert_eq!(distances.0, [8, 1, 100]);
        assert_eq!(distances.value(8, false), 11);
        assert_eq!(distances.0, [8, 8, 1]);
    }
}
