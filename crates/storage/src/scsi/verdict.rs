//! What is to be done about the answer to a command.

use machine::BlockError;

use super::adapter::{Data, Outcome};
use super::cache::Cache;
use super::command::status;
use super::sense::Sense;
use crate::disk::SHORT;

/// Mark of error codes that are made of a host's own code and a status.
pub(crate) const MARK: u32 = 0x0100_0000;

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It asks the unit something. The answer may be shorter than its place.
    Question,
    /// It reads the disk; all of the data is wanted.
    Read,
    /// It writes the disk, all of the data.
    Write,
    /// It empties the disk's cache. A disk without a cache need not know it.
    Flush,
}

/// What is to be done about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The command has ended.
    Ended(Result<(), BlockError>),
    /// It is given to the unit again.
    Again,
    /// It is given to the unit again, a few times; then it has failed.
    Retry(BlockError),
}

/// Decides about the answer to a command with this purpose and data.
pub(super) fn judge(outcome: Outcome, purpose: Purpose, data: Option<Data>, cache: &mut Cache) -> Verdict {
    match outcome {
        Outcome::Busy => Verdict::Again,
        Outcome::NoTarget => failed(BlockError::Gone),
        Outcome::Interrupted(code) => Verdict::Retry(BlockError::Device(MARK | code << 8)),
        Outcome::Failed(code) => failed(BlockError::Device(MARK | code << 8)),
        Outcome::Answered { status, sense, missing } => {
            let done = |cache| Verdict::Ended(done(purpose, missing, data, cache));
            match status {
                status::GOOD => done(cache),
                status::CHECK_CONDITION if sense.is_some_and(Sense::is_success) => done(cache),
                status::CHECK_CONDITION => judge_sense(sense, purpose, cache),
                status::BUSY | status::TASK_SET_FULL => Verdict::Again,
                status::RESERVATION_CONFLICT => failed(BlockError::Reserved),
                _ => failed(BlockError::Device(MARK | u32::from(status))),
            }
        }
    }
}

/// The result of a command of which the unit says that it is done.
fn done(purpose: Purpose, missing: u32, data: Option<Data>, cache: &mut Cache) -> Result<(), BlockError> {
    let may_lack = match (purpose, data) {
        // A question must be answered with something.
        (Purpose::Question, Some(data)) => data.len - 1,
        _ => 0,
    };
    if missing > may_lack {
        return Err(BlockError::Device(SHORT));
    }
    match purpose {
        Purpose::Write => cache.unflushed.note_write(),
        Purpose::Flush => return cache.unflushed.note_flush(),
        Purpose::Question | Purpose::Read => {}
    }
    Ok(())
}

/// Decides about a command that was not done.
fn judge_sense(sense: Option<Sense>, purpose: Purpose, cache: &mut Cache) -> Verdict {
    // A disk that gives no reason may give one next time.
    let Some(sense) = sense else {
        return Verdict::Retry(BlockError::Device(MARK | u32::from(status::CHECK_CONDITION)));
    };
    cache.note(sense);
    let error = BlockError::Device(sense.number());
    if sense.is_unknown_command() && purpose == Purpose::Flush && cache.may_be_absent() {
        Verdict::Ended(cache.unflushed.note_flush())
    } else if sense.is_becoming_ready() {
        Verdict::Again
    } else if sense.is_passing() {
        Verdict::Retry(error)
    } else if sense.is_write_protected() {
        failed(BlockError::WriteProtected)
    } else {
        failed(error)
    }
}

fn failed(error: BlockError) -> Verdict {
    Verdict::Ended(Err(error))
}
