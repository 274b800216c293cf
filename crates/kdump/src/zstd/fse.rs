//! Finite state entropy: the codes of sequences (section 4.1).
//!
//! A decoder is always in one of 2^n states. Each state belongs to a symbol; a frequent symbol has several states. The state
//! names the symbol, and bits of the stream select the next state. An encoder runs backwards, from the last symbol to the
//! first: among the states of a symbol it takes the one from which the decoder can reach the state that comes after it, and writes
//! the bits that select this state.

use crate::bits::Bits;

/// Most symbols of a code, rounded up to a power of two so that an index needs no check.
const SYMBOLS: usize = 64;
/// Most states of a code.
const STATES: usize = 128;
/// Most bytes that describe a code.
const DESCRIPTION: usize = 40;

/// A code, made for encoders.
pub(super) struct Code {
    symbols: [Symbol; SYMBOLS],
    /// The states of the first symbol, of the second, and so on; each symbol's ascend.
    states: [u8; STATES],
    /// How many states there are. They are also counted from this number on.
    count: u32,
    description: Description,
}

/// How to come to a symbol's states.
#[derive(Clone, Copy)]
struct Symbol {
    /// So many of the present state's bits are written, or one less if it is below `limit`.
    len: u8,
    limit: u8,
    /// Added (modulo 256) to the bits that are left of it, this is the place of the new one among all symbols' states.
    place: u8,
}

impl Code {
    /// A code for symbols of these frequencies, whose sum is the number of states; -1 stands for less than 1, and takes
    /// a state as well.
    pub(super) const fn new(frequencies: &[i8]) -> Self {
        let (count, owners) = (sum(frequencies), owners(frequencies));
        let mut symbols = [Symbol { len: 0, limit: 0, place: 0 }; SYMBOLS];
        let mut states = [0; STATES];
        let (mut symbol, mut place) = (0, 0);
        while symbol < frequencies.len() {
            let first = place;
            let mut state = 0;
            while state < count {
                if owners[state] as usize == symbol {
                    states[place] = (count + state) as u8;
                    place += 1;
                }
                state += 1;
            }
            let own = place - first;
            // What is left of a state is a number from `own` to twice that.
            if let Some(most) = (2 * count - 1).checked_div(own) {
                let len = most.ilog2();
                let limit = (own << len) as u8;
                symbols[symbol] =
                    Symbol { len: len as u8, limit, place: (first as u8).wrapping_sub(own as u8) };
            }
            symbol += 1;
        }
        Self { symbols, states, count: count as u32, description: Description::new(frequencies, count) }
    }

    /// How a block describes it.
    pub(super) fn description(&self) -> &[u8] {
        &self.description.bytes[..self.description.bits.div_ceil(8)]
    }

    /// Takes the last symbol.
    #[inline]
    pub(super) fn end(&self, symbol: u8) -> Encoder<'_> {
        let mut encoder = Encoder { code: self, state: self.count };
        // Any of the symbol's states will do, so it does not matter which was before, and no decoder needs to know.
        encoder.put(symbol);
        encoder
    }
}

/// Symbols on their way to a decoder, the last one first.
pub(super) struct Encoder<'c> {
    code: &'c Code,
    state: u32,
}

impl Encoder<'_> {
    /// Takes the symbol before those that it has; gives the bits to be written for it.
    #[inline]
    pub(super) fn put(&mut self, symbol: u8) -> Bits {
        let Symbol { len, limit, place } = self.code.symbols[usize::from(symbol) % SYMBOLS];
        let len = u32::from(len) - u32::from(self.state < u32::from(limit));
        let bits = Bits::lowest(len, self.state);
        let place = place.wrapping_add((self.state >> len) as u8);
        self.state = self.code.states[usize::from(place) % STATES].into();
        bits
    }

    /// Where a decoder begins.
    #[inline]
    pub(super) fn begin(&self) -> Bits {
        Bits::lowest(self.code.count.ilog2(), self.state)
    }
}

/// Which symbol each state belongs to: those of a symbol lie apart, the rarest are the last (section 4.1.1).
const fn owners(frequencies: &[i8]) -> [u8; STATES] {
    let mut owners = [0; STATES];
    let count = sum(frequencies);
    let mut end = count;
    let mut symbol = 0;
    while symbol < frequencies.len() {
        if frequencies[symbol] < 0 {
            end -= 1;
            owners[end] = symbol as u8;
        }
        symbol += 1;
    }
    let (mut symbol, mut state) = (0, 0);
    while symbol < frequencies.len() {
        let mut left = frequencies[symbol];
        while left > 0 {
            owners[state] = symbol as u8;
            state = next(state, count);
            while state >= end {
                state = next(state, count);
            }
            left -= 1;
        }
        symbol += 1;
    }
    owners
}

const fn next(state: usize, count: usize) -> usize {
    (state + count / 2 + count / 8 + 3) % count
}

const fn sum(frequencies: &[i8]) -> usize {
    let (mut sum, mut symbol) = (0, 0);
    while symbol < frequencies.len() {
        sum += frequencies[symbol].unsigned_abs() as usize;
        symbol += 1;
    }
    sum
}

/// Frequencies, as a block has them (section 4.1.1).
struct Description {
    bytes: [u8; DESCRIPTION],
    bits: usize,
}

impl Description {
    const fn new(frequencies: &[i8], count: usize) -> Self {
        let mut description = Self { bytes: [0; DESCRIPTION], bits: 0 };
        description.add(count.ilog2() as usize - 5, 4);
        // One more than the states of the symbols that follow.
        let (mut left, mut symbol) = (count + 1, 0);
        while left > 1 {
            let frequency = frequencies[symbol];
            description.add_frequency(frequency, left);
            left -= frequency.unsigned_abs() as usize;
            symbol += 1;
            if frequency == 0 {
                let first = symbol;
                while frequencies[symbol] == 0 {
                    symbol += 1;
                }
                description.add_zeros(symbol - first);
            }
        }
        description
    }

    /// One more than the frequency is a number up to `left`. Not all numbers of as many bits occur, so the lowest take one less.
    const fn add_frequency(&mut self, frequency: i8, left: usize) {
        let number = (frequency + 1).cast_unsigned() as usize;
        let most = left.ilog2() as usize;
        let spare = (2 << most) - 1 - left;
        if number < spare {
            self.add(number, most);
        } else if number < 1 << most {
            self.add(number, most + 1);
        } else {
            self.add(number + spare, most + 1);
        }
    }

    /// Adds how many zeros follow the first: in pairs of bits, all of them three except the last.
    const fn add_zeros(&mut self, mut zeros: usize) {
        while zeros >= 3 {
            self.add(3, 2);
            zeros -= 3;
        }
        self.add(zeros, 2);
    }

    const fn add(&mut self, bits: usize, len: usize) {
        let mut bit = 0;
        while bit < len {
            self.bytes[self.bits / 8] |= ((bits >> bit & 1) << (self.bits % 8)) as u8;
            self.bits += 1;
            bit += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of distances that RFC 8878 predefines, by its appendix A.
    #[test]
    fn states_are_those_of_the_predefined_code() {
        let frequencies =
            [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];
        let owners = owners(&frequencies);
        assert_eq!(owners[..8], [0, 6, 9, 15, 21, 3, 7, 12]);
        assert_eq!(owners[27..32], [28, 27, 26, 25, 24]);
        let code = Code::new(&frequencies);
        // Symbol 6 has the states 1, from which a decoder comes to the states up to 15, and 24, from which it comes to the others.
        let states = [5, 21].map(|next| {
            let mut encoder = Encoder { code: &code, state: 32 + next };
            (encoder.put(6), encoder.begin())
        });
        let bits = |bits, len| Bits { bits, len };
        assert_eq!(states, [(bits(5, 4), bits(1, 5)), (bits(5, 4), bits(24, 5))]);
    }
}
