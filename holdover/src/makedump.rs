//! `holdover makedump`: makes a small dump of an ELF core or of a larger dump, and says what is in it.

use std::num::NonZero;
use std::path::PathBuf;

use anyhow::Result;
use host::makedump::{self, DumpForm, MadeDump, MadeLack, MakedumpError, MakedumpRequest};
use host::{Bytes, Codec, IfExists, Level};
use serde_json::{Map, Value, json};

use crate::codec;
use crate::progress::Bar;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which pages to leave out, in makedumpfile's numbering: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long, default_value = "31", value_parser = parse_level)]
    level: Level,
    /// How to compress pages: none, zlib, lzo, snappy or zstd
    ///
    /// Every reader understands none, zlib and lzo. crash 8 and drgn (by libkdumpfile) also understand snappy and zstd;
    /// Debian's makedumpfile knows no snappy, and zstd since Debian 13. lzo and snappy are the fastest, zstd makes the
    /// smallest dumps.
    #[arg(long, default_value = "zlib", value_parser = codec::any)]
    codec: Codec,
    /// Write an ELF core, which is not compressed
    #[arg(long, conflicts_with = "codec")]
    elf: bool,
    /// How many processors read and compress, 32 at most [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Replace a file of the name OUT
    #[arg(long)]
    force: bool,
    /// An ELF core, such as /proc/vmcore, or a kdump-compressed dump, of which more is to be left out
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The dump to make; it appears under this name only when it is whole
    out: PathBuf,
}

fn parse_level(text: &str) -> Result<Level, String> {
    let level = text.parse().ok().and_then(Level::new);
    level.ok_or_else(|| "levels go from 0 to 31".to_owned())
}

/// Makes the dump.
pub(crate) fn run(arguments: &Arguments) -> Result<MadeDump, MakedumpError> {
    let request = MakedumpRequest {
        input: arguments.input.clone(),
        out: arguments.out.clone(),
        if_exists: if arguments.force { IfExists::Replace } else { IfExists::Refuse },
        level: arguments.level,
        form: if arguments.elf { DumpForm::Elf } else { DumpForm::Compressed(arguments.codec) },
        threads: arguments.threads,
    };
    makedump::makedump(&request, &Bar::of_pages())
}

fn state(made: &MadeDump) -> String {
    if made.is_complete() {
        return "complete".to_owned();
    }
    let lacks: Vec<_> = made.lacks.iter().map(MadeLack::to_string).collect();
    format!("partial: {}", lacks.join(", "))
}

/// Why pages were left out, and how many.
fn reasons(made: &MadeDump) -> [(&'static str, u64); 6] {
    let counts = &made.counts;
    [
        ("free", counts.free),
        ("cache", counts.cache),
        ("private_cache", counts.private_cache),
        ("user", counts.user),
        ("poisoned", counts.poisoned),
        ("offline", counts.offline),
    ]
}

impl Report for MadeDump {
    fn rows(&self) -> Vec<Vec<String>> {
        let (pages, zero) = (self.written.pages, self.written.zero);
        let reasons = reasons(self).map(|(reason, pages)| format!("{} {pages}", reason.replace('_', " ")));
        let mut rows = vec![
            row("dump", self.out.display().to_string()),
            row("state", state(self)),
            row("size", Bytes(self.written.file_bytes).to_string()),
            row("kernel", self.release.clone()),
            row("pages", format!("{pages} of {}, {zero} of them zeros", self.counts.ram)),
            row("left out", reasons.join(", ")),
            row("time", format!("{:.2} s, {} MB/s", self.took.as_secs_f64(), self.rate())),
        ];
        rows.extend(self.kept_more.iter().map(|why| row("kept more", format!("because {why}"))));
        rows
    }

    fn json(&self) -> Result<Value> {
        let reasons = reasons(self).map(|(reason, pages)| (reason.to_owned(), json!(pages)));
        let kept_more: Vec<_> = self.kept_more.iter().map(ToString::to_string).collect();
        Ok(json!({
            "path": self.out,
            "complete": self.is_complete(),
            "state": state(self),
            "bytes": self.written.file_bytes,
            "kernel": self.release,
            "pages": self.written.pages,
            "zero": self.written.zero,
            "missing": self.written.missing,
            "ram": self.counts.ram,
            "left_out": Map::from_iter(reasons),
            "unknown": self.counts.unknown,
            "unknown_facts": kept_more,
            "choosing_seconds": self.choosing.as_secs_f64(),
            "seconds": self.took.as_secs_f64(),
        }))
    }

    fn is_whole(&self) -> bool {
        self.is_complete()
    }
}
