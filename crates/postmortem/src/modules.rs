//! The loaded modules: from the kernel's own list, or from its log.

use std::cell::Cell;

use machine::OldMemory;
use serde::Serialize;

use crate::Address;
use crate::btf::Btf;
use crate::orc::Table;
use crate::symbols::Symbols;
use crate::taint::Taint;
use crate::view::View;

/// Most modules that are listed.
const MOST: usize = 1024;
/// The longest name (`MODULE_NAME_LEN`).
const LONGEST_NAME: usize = 64 - 8;
/// The longest name of a symbol (`KSYM_NAME_LEN`).
const LONGEST_SYMBOL: usize = 512;
/// Most kinds of memory of a module: `MOD_MEM_NUM_TYPES` is 7 in Linux 6.4 to 7.2.
const MOST_PARTS: u64 = 16;
/// Most bytes of a module's table of symbols.
const MOST_SYMBOLS: u64 = 8 << 20;
/// Most entries of a module's tables for unwinding.
const MOST_ENTRIES: u32 = 1 << 18;
/// Bytes of `Elf64_Sym`.
const SYMBOL: usize = 24;

/// A loaded module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Where its code begins, if that is known.
    pub base: Option<Address>,
    /// Bytes of memory that it takes, if that is known.
    pub bytes: Option<u64>,
    /// Letters of what it taints the kernel with.
    pub taints: String,
}

/// The loaded modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Modules {
    /// Where the list is from.
    pub source: &'static str,
    /// The first of them.
    pub listed: Vec<Module>,
    /// Whether there are more, or a part of the list cannot be read.
    pub cut: bool,
}

/// A module as the kernel keeps it.
pub(crate) struct Loaded {
    module: Module,
    /// Virtual addresses of its parts.
    parts: Vec<core::ops::Range<u64>>,
    /// `struct module`.
    at: u64,
}

/// A module's symbols.
pub(crate) struct Names {
    /// The address of each, in ascending order, and where its name is among the texts.
    symbols: Vec<(u64, u32)>,
    /// Virtual address of the texts.
    texts: u64,
}

/// All of them, and whether a part of the list is missing.
pub(crate) struct List {
    pub(crate) modules: Vec<Loaded>,
    pub(crate) cut: bool,
}

impl List {
    /// Walks the kernel's list.
    pub(crate) fn read<M: OldMemory>(view: &View<'_, M>, symbols: &Symbols, btf: &Btf) -> Option<Self> {
        let (head, link) = (symbols.address("modules")?, btf.offset("module", "list")?);
        let (mut modules, mut next) = (Vec::new(), view.u64(head)?);
        while next != head && modules.len() < MOST {
            let found = next.checked_sub(link).and_then(|at| Loaded::read(view, btf, at));
            let Some(module) = found else { return Some(Self { modules, cut: true }) };
            modules.push(module);
            let Some(after) = view.u64(next) else { return Some(Self { modules, cut: true }) };
            next = after;
        }
        Some(Self { modules, cut: next != head })
    }

    /// Which of them an address lies in.
    pub(crate) fn at(&self, address: u64) -> Option<usize> {
        self.modules.iter().position(|module| module.contains(address))
    }

    pub(crate) fn shown(&self) -> Modules {
        let listed = self.modules.iter().map(|loaded| loaded.module.clone()).collect();
        Modules { source: "the kernel's own list", listed, cut: self.cut }
    }
}

impl Loaded {
    fn read<M: OldMemory>(view: &View<'_, M>, btf: &Btf, at: u64) -> Option<Self> {
        let field = |name| at.checked_add(btf.offset("module", name)?);
        let name = view.text(field("name")?, LONGEST_NAME)?;
        let taints = field("taints").and_then(|taints| view.u64(taints)).unwrap_or_default();
        let parts = parts(view, btf, field);
        let bytes = parts.iter().map(|part| part.end - part.start).sum();
        let module = Module {
            name,
            base: parts.first().map(|part| Address(part.start)),
            bytes: (!parts.is_empty()).then_some(bytes),
            taints: Taint(taints).letters(),
        };
        Some(Self { module, parts, at })
    }

    fn contains(&self, address: u64) -> bool {
        self.parts.iter().any(|part| part.contains(&address))
    }

    pub(crate) fn name(&self) -> &str {
        &self.module.name
    }

    /// Its symbols (`struct mod_kallsyms`). Takes the bytes of the table that it reads from `budget`.
    pub(crate) fn names<M: OldMemory>(
        &self,
        view: &View<'_, M>,
        btf: &Btf,
        budget: &Cell<u64>,
    ) -> Option<Names> {
        let table = view.u64(self.at.checked_add(btf.offset("module", "kallsyms")?)?)?;
        let field = |name| table.checked_add(btf.offset("mod_kallsyms", name)?);
        let (start, texts) = (view.u64(field("symtab")?)?, view.u64(field("strtab")?)?);
        let len = u64::from(view.u32(field("num_symtab")?)?) * SYMBOL as u64;
        budget.set(budget.get().checked_sub(len)?);
        Some(Names::of(&view.bytes(start, len, MOST_SYMBOLS)?, texts))
    }

    /// Its tables for unwinding (`struct mod_arch_specific`).
    pub(crate) fn orc<M: OldMemory>(&self, view: &View<'_, M>, btf: &Btf) -> Option<Table> {
        let start = self.at.checked_add(btf.offset("module", "arch")?)?;
        let field = |name| start.checked_add(btf.offset("mod_arch_specific", name)?);
        let count = view.u32(field("num_orcs")?).filter(|&count| count <= MOST_ENTRIES)?;
        let (instructions, entries) = (view.u64(field("orc_unwind_ip")?)?, view.u64(field("orc_unwind")?)?);
        Table::read(view, instructions, entries, count.into())
    }
}

/// The memory that a module takes: several parts since Linux 6.4, one before.
fn parts<M: OldMemory>(
    view: &View<'_, M>,
    btf: &Btf,
    field: impl Fn(&'static str) -> Option<u64>,
) -> Vec<core::ops::Range<u64>> {
    let part = |at: u64, kind| {
        let base = view.u64(at.checked_add(btf.offset(kind, "base")?)?)?;
        let size = view.u32(at.checked_add(btf.offset(kind, "size")?)?)?;
        Some(base..base.checked_add(size.into())?)
    };
    let many = field("mem").zip(btf.size("module_memory")).map(|(start, size)| {
        let each = |number| part(start.checked_add(number * size)?, "module_memory");
        let parts = parts_of_module(btf, size);
        (0..parts).filter_map(each).filter(|part| !part.is_empty()).collect()
    });
    many.or_else(|| Some(part(field("core_layout")?, "module_layout").into_iter().collect()))
        .unwrap_or_default()
}

/// How many parts of this size a module has: up to the next member, `arch`.
fn parts_of_module(btf: &Btf, size: u64) -> u64 {
    let bounds = btf.offset("module", "mem").zip(btf.offset("module", "arch"));
    let len = bounds.and_then(|(start, end)| end.checked_sub(start)).unwrap_or_default();
    len.checked_div(size).unwrap_or_default().min(MOST_PARTS)
}

impl Names {
    fn of(symbols: &[u8], texts: u64) -> Self {
        let symbols = symbols.as_chunks::<SYMBOL>().0.iter().filter_map(|symbol| {
            let name = u32::from_le_bytes(*symbol.first_chunk()?);
            let section = u16::from_le_bytes([symbol[6], symbol[7]]);
            let value = u64::from_le_bytes(*symbol[8..].first_chunk()?);
            (name != 0 && section != 0).then_some((value, name))
        });
        let mut symbols: Vec<_> = symbols.collect();
        symbols.sort_by_key(|(value, _)| *value);
        Self { symbols, texts }
    }

    /// The symbol that starts nearest before an address, and the distance from its start.
    pub(crate) fn at<M: OldMemory>(&self, view: &View<'_, M>, address: u64) -> Option<(String, u64)> {
        let after = self.symbols.partition_point(|(value, _)| *value <= address);
        let (value, name) = self.symbols.get(after.checked_sub(1)?)?;
        let name = view.text(self.texts.checked_add((*name).into())?, LONGEST_SYMBOL)?;
        Some((name, address - value))
    }
}
