//! The precomputed codes for sequences.

use super::fse::Code;

/// So many sequences are worth the 52 bytes that describe codes: by what they save on average, it is 51 in pages of
/// kernels, 109 in those of programs.
const WORTH_CODES: usize = 64;

/// A code for each part of a sequence.
pub(super) struct Codes {
    pub(super) literals: Code,
    pub(super) distances: Code,
    pub(super) lens: Code,
    /// Whether the block describes them (section 3.1.1.3.2.1).
    modes: u8,
}

impl Codes {
    /// The codes that take the fewest bits for so many sequences.
    pub(super) fn worthwhile(sequences: usize) -> &'static Self {
        if sequences < WORTH_CODES { &PREDEFINED } else { &FOR_KERNELS }
    }

    /// The descriptions of the codes in a block.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = &[u8]> {
        let tables = [&self.literals, &self.distances, &self.lens].map(Code::description);
        let tables = tables.into_iter().filter(|_| self.modes == DESCRIBED);
        core::iter::once(core::slice::from_ref(&self.modes)).chain(tables)
    }
}

/// `Predefined_Mode` and `FSE_Compressed_Mode` for all three.
const KNOWN: u8 = 0;
const DESCRIBED: u8 = 0b1010_1000;

/// The codes that decoders know (section 3.1.1.3.2.2).
static PREDEFINED: Codes = Codes {
    literals: Code::new(&[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
        -1, -1, -1,
    ]),
    distances: Code::new(&[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ]),
    lens: Code::new(&[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ]),
    modes: KNOWN,
};

/// Codes for what `Repeats` finds: frequencies in the memory of two kernels and in programs, libraries and texts, of equal
/// weight. Whatever a page may have is in them.
///
/// Two thirds of all repetitions have the distance of the one before, and as many follow one or two bytes that
/// differ. Sequences take 6.9 to 11.1 bits of them, where the predefined codes take 15.
static FOR_KERNELS: Codes = Codes {
    literals: Code::new(&[
        13, 52, 32, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    ]),
    distances: Code::new(&[41, 1, 1, 1, 2, 3, 3, 3, 3, 2, 2, 1, 1]),
    lens: Code::new(&[
        0, 0, 0, 24, 29, 5, 2, 2, 3, 1, 1, 4, 4, 1, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 17, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    ]),
    modes: DESCRIBED,
};
