//! What taints a kernel (`Documentation/admin-guide/tainted-kernels.rst`).

use serde::Serialize;

/// The kernel's or a module's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taint(pub(crate) u64);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TaintFlag {
    /// Its letter in the kernel's messages.
    pub letter: char,
    /// What it says.
    pub meaning: &'static str,
}

/// The letter and the meaning of each bit, from bit 0 on.
const FLAGS: [(char, &str); 20] = [
    ('P', "a proprietary module was loaded"),
    ('F', "a module was loaded by force"),
    ('S', "the kernel runs on a processor or system that is out of specification"),
    ('R', "a module was unloaded by force"),
    ('M', "a processor reported a machine check"),
    ('B', "a page was in a bad state"),
    ('U', "user space asked for the taint"),
    ('D', "the kernel had an oops or a BUG before"),
    ('A', "an ACPI table was overridden"),
    ('W', "the kernel issued a warning"),
    ('C', "a staging driver was loaded"),
    ('I', "a workaround for a firmware bug was applied"),
    ('O', "a module from outside the kernel's source was loaded"),
    ('E', "an unsigned module was loaded"),
    ('L', "a soft lockup happened"),
    ('K', "the kernel was live-patched"),
    ('X', "the distribution's own taint"),
    ('T', "the kernel was built with structure randomization"),
    ('N', "an in-kernel test was run"),
    ('J', "user space used a debug operation of fwctl"),
];

impl Taint {
    pub(crate) fn flags(self) -> Vec<TaintFlag> {
        let numbered = FLAGS.iter().enumerate();
        let set = numbered.filter(|(bit, _)| self.0 >> bit & 1 == 1);
        set.map(|(_, &(letter, meaning))| TaintFlag { letter, meaning }).collect()
    }

    pub(crate) fn letters(self) -> String {
        self.flags().iter().map(|flag| flag.letter).collect()
    }

    /// The bits of these letters; others mean nothing.
    pub(crate) fn of_letters(letters: &str) -> Self {
        let bit = |letter| FLAGS.iter().position(|(known, _)| *known == letter);
        Self(letters.chars().filter_map(bit).fold(0, |bits, bit| bits | 1 << bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_letters_mean_the_same() {
        assert_eq!(Taint(1 << 9 | 1 << 12).letters(), "WO");
        assert_eq!(Taint::of_letters("G        W  O      "), Taint(1 << 9 | 1 << 12));
    }
}
