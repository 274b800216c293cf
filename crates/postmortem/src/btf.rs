//! BTF: the layout of the kernel's structures, which the kernel carries in its own memory for BPF programs.
//!
//! `Documentation/bpf/btf.rst`: a header, records of types, and strings. Only structures and their members are read.

use std::collections::BTreeMap;

use machine::OldMemory;

use crate::symbols::Symbols;
use crate::view::View;

/// Most bytes of BTF; Debian's kernels have 4 MiB to 6 MiB.
const MOST: u64 = 32 << 20;
/// Members that are looked at for one that is wanted, those within members without a name included.
const MOST_MEMBERS: u32 = 10_000;
/// How many structures deep that goes.
const DEEPEST: u32 = 8;
const MAGIC: u16 = 0xEB9F;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The kernel's types, as far as structures go.
pub(crate) struct Btf {
    bytes: Vec<u8>,
    /// Where the strings are in `bytes`.
    strings: usize,
    /// Where the record of each type is in `bytes`; the first is type 1.
    records: Vec<u32>,
    /// The first structure of each name that is asked for.
    structures: BTreeMap<&'static str, usize>,
}

/// Where a member is in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Bits from the structure's start.
    pub(crate) bits: u32,
    /// How many bits, if it is a bit field.
    pub(crate) width: u32,
    /// Its type.
    kind: u32,
}

/// Structures that are looked for.
const WANTED: [&str; 8] = [
    "task_struct",
    "module",
    "module_layout",
    "module_memory",
    "mod_kallsyms",
    "mod_arch_specific",
    "orc_entry",
    "cpuinfo_x86",
];

/// A record of a type: `struct btf_type`.
#[derive(Clone, Copy)]
struct Record {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    has_widths: bool,
    size: u32,
}

impl Btf {
    /// Reads what lies between the symbols `__start_BTF` and `__stop_BTF`.
    pub(crate) fn read<M: OldMemory>(view: &View<'_, M>, symbols: &Symbols) -> Result<Self, &'static str> {
        let bounds = symbols.address("__start_BTF").zip(symbols.address("__stop_BTF"));
        let (start, stop) = bounds.ok_or("the kernel carries no BTF")?;
        let bytes = stop.checked_sub(start).and_then(|len| view.bytes(start, len, MOST));
        Self::parse(bytes.ok_or("BTF cannot be read")?).ok_or("BTF is damaged")
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if u16::from_le_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let place = |at: usize| word(4)?.checked_add(word(at)?);
        let (types, strings) = (place(8)? as usize, place(16)? as usize);
        let end = types.checked_add(word(12)? as usize)?.min(bytes.len());
        let mut btf = Self { bytes, strings, records: Vec::new(), structures: BTreeMap::new() };
        btf.index(types, end);
        Some(btf)
    }

    /// Notes where each record is; ends at the first that makes no sense.
    fn index(&mut self, mut at: usize, end: usize) {
        while let Some(record) = self.record(at).filter(|_| at < end) {
            let Some(len) = record.len() else { break };
            self.records.push(at as u32);
            if record.kind == KIND_STRUCT {
                let name = self.string(record.name);
                if let Some(wanted) = WANTED.iter().find(|wanted| wanted.as_bytes() == name) {
                    self.structures.entry(wanted).or_insert(at);
                }
            }
            at += len;
        }
    }

    /// A member, by the names of structures and of members: `["module", "mem"]`.
    pub(crate) fn member(&self, structure: &str, member: &str) -> Option<Member> {
        let record = self.record(*self.structures.get(structure)?)?;
        self.member_of(record, member.as_bytes(), 0, &mut { MOST_MEMBERS })
    }

    /// The offset in bytes of a member.
    pub(crate) fn offset(&self, structure: &str, member: &str) -> Option<u64> {
        self.member(structure, member).map(|member| u64::from(member.bits / 8))
    }

    /// How many types there are.
    pub(crate) fn count(&self) -> usize {
        self.records.len()
    }

    /// The size in bytes of a structure.
    pub(crate) fn size(&self, structure: &str) -> Option<u64> {
        self.record(*self.structures.get(structure)?).map(|record| record.size.into())
    }

    /// Looks for a member, `depth` structures deep already.
    fn member_of(&self, record: Record, wanted: &[u8], depth: u32, left: &mut u32) -> Option<Member> {
        (0..record.members).find_map(|number| {
            *left = left.checked_sub(1)?;
            let (name, member) = self.nth(record, number)?;
            match self.string(name) {
                name if name == wanted => Some(member),
                b"" if depth < DEEPEST => {
                    let inner = self.type_record(member.kind).filter(Record::has_members)?;
                    let found = self.member_of(inner, wanted, depth + 1, left)?;
                    Some(Member { bits: found.bits.checked_add(member.bits)?, ..found })
                }
                _ => None,
            }
        })
    }

    /// A structure's member by its number, with its name: `struct btf_member`.
    fn nth(&self, record: Record, number: usize) -> Option<(u32, Member)> {
        let at = record.at + 12 + number * 12;
        let place = self.word(at + 8)?;
        let (bits, width) = if record.has_widths { (place & 0xFF_FFFF, place >> 24) } else { (place, 0) };
        Some((self.word(at)?, Member { bits, width, kind: self.word(at + 4)? }))
    }

    fn type_record(&self, kind: u32) -> Option<Record> {
        self.record(*self.records.get(kind.checked_sub(1)? as usize)? as usize)
    }

    fn record(&self, at: usize) -> Option<Record> {
        let info = self.word(at + 4)?;
        Some(Record {
            at,
            name: self.word(at)?,
            kind: info >> 24 & 0x1F,
            members: (info & 0xFFFF) as usize,
            has_widths: info >> 31 == 1,
            size: self.word(at + 8)?,
        })
    }

    fn string(&self, at: u32) -> &[u8] {
        let start = self.strings.saturating_add(at as usize);
        let rest = self.bytes.get(start..).unwrap_or_default();
        // No name that is looked for is longer.
        let name = rest.get(..64).unwrap_or(rest);
        name.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }
}

impl Record {
    fn has_members(&self) -> bool {
        matches!(self.kind, KIND_STRUCT | KIND_UNION)
    }

    /// Bytes of the record, with what follows its first twelve; `None` if its kind is not known.
    fn len(&self) -> Option<usize> {
        let each = match self.kind {
            // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
            2 | 7..=12 | 16 | 18 => return Some(12),
            // Integer, variable, declaration tag.
            1 | 14 | 17 => return Some(16),
            // Array.
            3 => return Some(24),
            // Structure, union, section, enumeration of 64 bits.
            KIND_STRUCT | KIND_UNION | 15 | 19 => 12,
            // Enumeration, prototype.
            6 | 13 => 8,
            _ => return None,
        };
        Some(12 + self.members * each)
    }
}
