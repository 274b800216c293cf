//! Takes machines over, and judges what came of it.

use model::Machine;
use model::damage::Harm;
use takeover::Failure;
use verdict::{Verdict, accounted, bounded, isolation, limits, misused, told};

/// Most words of tables that are changed.
const WORDS: usize = 64;

/// What the fuzzer asks for.
pub struct Asked<'b> {
    /// Which machine.
    pub seed: u64,
    /// How many frames there are for the takeover.
    pub budget: usize,
    words: &'b [[u8; 11]],
}

/// A word of a table, and how it changes.
pub struct Change {
    /// Which kind of table, of four.
    pub kind: usize,
    /// Which table of that kind.
    pub which: usize,
    /// Which word of it.
    pub word: usize,
    /// What becomes of it.
    pub harm: Harm,
}

impl<'b> Asked<'b> {
    /// Reads what the fuzzer's bytes ask for: the first two select the machine and the frames, and each eleven after them change a word.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let (&[seed, frames], words) = bytes.split_first_chunk()?;
        Some(Self { seed: seed.into(), budget: usize::from(frames) * 4, words: words.as_chunks().0 })
    }

    /// The words to change, 64 at most.
    pub fn changes(&self) -> impl Iterator<Item = Change> + use<'b> {
        self.words.iter().take(WORDS).map(|[kind, which, word, value @ ..]| Change {
            kind: usize::from(kind % 4),
            which: usize::from(*which),
            word: usize::from(*word),
            harm: harm(kind >> 4, u64::from_le_bytes(*value)),
        })
    }
}

/// How a word changes: to a given value, in a bit, or so that it points at another table or at memory at which no table should
/// point.
fn harm(kind: u8, value: u64) -> Harm {
    match kind & 3 {
        0 => Harm::Overwrite(value),
        1 => Harm::PointAtTable(value as usize),
        2 => Harm::PointAtForbidden(value as usize),
        _ => Harm::Flip(value as u32 % 64),
    }
}

/// Takes a machine with damaged tables over, and checks the invariants that hold whatever tables say.
pub fn judge(machine: &Machine, budget: usize) -> Verdict {
    // Where frames are short, a device table of AMD's is changed where it is.
    let reused = machine.reusable(0);
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let taken = verdict::take_over(machine, 0, &mut frames, &clock, &limits());
    bounded::check_damaged(machine, 0, budget)?;
    machine.guard(Vec::new());
    let is_reused = |page| reused.iter().any(|memory| memory.contains(page));
    if !machine.old_pages_changed().into_iter().all(is_reused) || misused(machine) {
        return Err(format!("old memory or the rules: {}", told(machine)));
    }
    match taken {
        Ok(taken) => {
            isolation::check(machine, 0)?;
            accounted::check(machine, 0, taken.report())
        }
        Err(Failure { .. }) => Ok(()),
    }
}
