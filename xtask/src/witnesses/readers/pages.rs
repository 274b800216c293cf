//! Compares the pages that readers return of a dump with the machine's memory.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use machine::PAGE_SIZE;

use super::super::memory::kept_frames;
use super::{Dump, LIMIT, Readings};
use crate::machines::ram::Ram;
use crate::process;

/// One page in so many is read: each is compressed by itself, and Holdover's own reader has compared them all.
const STEP: usize = 16;
/// `crash` needs a command for each page, so it reads fewer.
const CRASH_STEP: usize = 20 * STEP;

/// Pages of a dump, and the memory that they are of.
pub(crate) struct Sample<'a> {
    dump: Dump<'a>,
    memory: &'a Ram,
    frames: Vec<u64>,
}

impl<'a> Sample<'a> {
    /// Chooses pages of a dump, but none that may differ from memory.
    pub(crate) fn of(dump: Dump<'a>, memory: &'a Ram, may_differ: impl Fn(u64) -> bool) -> Result<Self> {
        let frames = kept_frames(dump.path)?.into_iter().filter(|&frame| !may_differ(frame));
        Ok(Self { dump, memory, frames: frames.step_by(STEP).collect() })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Has every program read them that can be asked for pages.
    pub(crate) fn read(&self, readings: &mut Readings) {
        self.read_with_kdumpfile(readings);
        self.read_with_drgn(readings);
        if let Some(kernel) = self.dump.kernel
            && self.dump.programs.crash().is_some()
        {
            self.read_with_crash(kernel, readings);
        }
    }

    /// Has libkdumpfile read them.
    pub(crate) fn read_with_kdumpfile(&self, readings: &mut Readings) {
        let script = self.dump.script("kdumpfile_pages.py", include_str!("kdumpfile_pages.py"));
        let read = script
            .and_then(|script| self.run(Command::new("/usr/bin/python3").arg(script).arg(self.dump.path)));
        self.check("libkdumpfile", &self.frames, read, readings);
    }

    /// Has drgn read them, which needs no kernel for that.
    fn read_with_drgn(&self, readings: &mut Readings) {
        let read = self.dump.script("drgn_pages.py", include_str!("drgn_pages.py")).and_then(|script| {
            let mut drgn = self.dump.programs.drgn();
            self.run(drgn.args(["-q", "--no-default-symbols", "-c"]).arg(self.dump.path).arg(script))
        });
        self.check("drgn", &self.frames, read, readings);
    }

    /// Runs a script that reads page frame numbers, one per line, and writes the pages' content into a file.
    fn run(&self, reader: &mut Command) -> Result<Vec<u8>> {
        let returned = self.dump.files.scratch("returned");
        let frames: Vec<_> = self.frames.iter().map(ToString::to_string).collect();
        process::stdout_within(reader.arg(&returned), &frames.join("\n"), LIMIT)?;
        Ok(fs::read(returned)?)
    }

    /// Has `crash` read some of them.
    fn read_with_crash(&self, kernel: &Path, readings: &mut Readings) {
        let frames: Vec<_> = self.frames.iter().copied().step_by(CRASH_STEP / STEP).collect();
        self.check("crash", &frames, self.run_crash(kernel, &frames), readings);
    }

    /// `crash` writes memory to files, and each anew.
    fn run_crash(&self, kernel: &Path, frames: &[u64]) -> Result<Vec<u8>> {
        let file = |frame: u64| self.dump.files.scratch(&format!("page-{frame:x}"));
        let mut commands = String::new();
        for &frame in frames {
            let _ =
                writeln!(commands, "rd -p -r {} {:x} {PAGE_SIZE}", file(frame).display(), frame * PAGE_SIZE);
        }
        self.dump.crash(kernel, &commands)?;
        let mut returned = Vec::new();
        for &frame in frames {
            returned.extend(fs::read(file(frame))?);
            fs::remove_file(file(frame))?;
        }
        Ok(returned)
    }

    /// Compares the pages that a reader returned with memory.
    fn check(
        &self,
        reader: &'static str,
        frames: &[u64],
        returned: Result<Vec<u8>>,
        readings: &mut Readings,
    ) {
        let same = returned.and_then(|returned| self.compare(frames, &returned));
        if let Some(()) = readings.take(reader, same) {
            *readings.pages_returned.entry(reader).or_default() += frames.len();
        }
    }

    fn compare(&self, frames: &[u64], returned: &[u8]) -> Result<()> {
        ensure!(!frames.is_empty(), "the dump has no pages to compare");
        let (pages, rest) = returned.as_chunks::<{ PAGE_SIZE as usize }>();
        ensure!(
            pages.len() == frames.len() && rest.is_empty(),
            "{} bytes came of {} pages",
            returned.len(),
            frames.len()
        );
        for (page, frame) in pages.iter().zip(frames) {
            let address = frame * PAGE_SIZE;
            ensure!(*page == self.memory.page(address)?, "page {address:#x} is not what was in memory");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reader::Readers;
    use super::super::super::tables::made::with_ram;
    use super::*;
    use crate::machines::files::Files;

    /// What is said of a reader that returns this of the first and the third page of memory.
    fn problems(returned: &[u8]) -> Vec<String> {
        with_ram(3 * PAGE_SIZE, [(0, 1), (2 * PAGE_SIZE, 3)], |memory| {
            let files = &Files::new("readers-test").unwrap();
            let dump = Dump { path: Path::new(""), programs: &Readers::Installed, kernel: None, files };
            let mut readings = Readings::default();
            let sample = Sample { dump, memory, frames: vec![0, 2] };
            sample.check("drgn", &sample.frames, Ok(returned.to_vec()), &mut readings);
            readings.problems
        })
    }

    #[test]
    fn a_page_that_is_not_what_was_in_memory_is_a_problem() {
        let mut pages = vec![0; 2 * PAGE_SIZE as usize];
        (pages[0], pages[PAGE_SIZE as usize]) = (1, 3);
        assert!(problems(&pages).is_empty());
        pages[PAGE_SIZE as usize] = 2;
        assert_eq!(problems(&pages), ["drgn: page 0x2000 is not what was in memory"]);
        assert_eq!(problems(&pages[1..]), ["drgn: 8191 bytes came of 2 pages"]);
    }
}
