//! Checks domains: their mappings are whole pages within the domain's width, do not overlap, and are few enough to draw.

use std::collections::BTreeSet;

use machine::{INTERRUPT_WINDOW, IoAddress, Level, PAGE_SIZE, Permission, Range};
use model::scenario;
use toml::Spanned;
use vtd::paging::AddressWidth;

use super::{Check, HOST_ADDRESS_BITS};
use crate::file::{Domain, Error, File, Mapping, Mode, Rights};

/// The most pages that all domains map together.
const PAGES: u64 = 1 << 16;

impl Check<'_> {
    /// The domains, if the tables for them fit into `old` bytes of memory.
    pub(super) fn domains(self, file: &File, old: u64) -> Result<Vec<scenario::Domain>, Error> {
        let (mut ids, mut pages) = (BTreeSet::new(), 0);
        let mut domains = Vec::new();
        for domain in &file.domains {
            let id = *domain.id.get_ref();
            let new = id != 0 && ids.insert(id);
            self.ensure(&domain.id, new, format!("domain-id {id} is taken; zero always is"))?;
            self.ensure(&domain.id, ids.len() <= super::MOST, "too many domains")?;
            domains.push(self.one_domain(domain, &mut pages)?);
        }
        let upper = match file.mode {
            Mode::Legacy | Mode::Scalable => 4 * file.devices.len() as u64,
            Mode::AmdVi => super::amdvi::table_pages(file) + file.devices.len() as u64,
        };
        let needed = (tables(&domains) + 16 + upper) * PAGE_SIZE;
        let what = format!("the old kernel's tables take {needed} bytes, more than half of its memory");
        self.ensure(&file.memory, needed <= old / 2, what)?;
        Ok(domains)
    }

    fn one_domain(self, domain: &Domain, pages: &mut u64) -> Result<scenario::Domain, Error> {
        let width = match domain.width.get_ref() {
            39 => AddressWidth::BITS_39,
            48 => AddressWidth::BITS_48,
            57 => AddressWidth::BITS_57,
            other => return Err(self.refuse(&domain.width, format!("{other} is no width: 39, 48 or 57 is"))),
        };
        let mut taken: Vec<Range<IoAddress>> = Vec::new();
        let mut mappings = Vec::new();
        for mapping in &domain.map {
            let range = self.range(mapping, *domain.width.get_ref())?;
            let free = !taken.iter().any(|other| other.overlaps(range));
            self.ensure(mapping, free, format!("{range} is mapped twice"))?;
            taken.push(range);
            *pages += range.len() / mapping.get_ref().page;
            self.ensure(mapping, *pages <= PAGES, format!("more than {PAGES} pages are mapped"))?;
            mappings.extend(self::pages(mapping.get_ref()));
        }
        Ok(scenario::Domain { id: *domain.id.get_ref(), width, mappings, ..scenario::Domain::default() })
    }

    /// The I/O addresses of a mapping, if it is possible.
    fn range(self, place: &Spanned<Mapping>, width: u32) -> Result<Range<IoAddress>, Error> {
        let mapping = place.get_ref();
        let aligned =
            [mapping.iova, mapping.size, mapping.memory].iter().all(|it| it.is_multiple_of(mapping.page));
        self.ensure(
            place,
            aligned,
            format!("addresses and sizes are multiples of {:#x} here", mapping.page),
        )?;
        self.ensure(place, mapping.size > 0, "a mapping of nothing")?;
        let inside = |start, bits: u32| {
            let range = Range::sized(IoAddress::new(start), mapping.size)?;
            Some(range).filter(|range| range.end.get() <= 1 << bits)
        };
        let memory = inside(mapping.memory, HOST_ADDRESS_BITS);
        self.ensure(place, memory.is_some(), format!("memory has addresses of {HOST_ADDRESS_BITS} bits"))?;
        let (first, last) = (INTERRUPT_WINDOW.start, INTERRUPT_WINDOW.end.get() - 1);
        let range = inside(mapping.iova, width).filter(|range| !range.overlaps(INTERRUPT_WINDOW));
        let what = format!("the domain has addresses of {width} bits, without {first:#x} to {last:#x}");
        range.ok_or_else(|| self.refuse(place, what))
    }
}

/// The pages of a mapping.
fn pages(mapping: &Mapping) -> impl Iterator<Item = scenario::Mapping> + use<> {
    let Mapping { iova, size, memory, page, .. } = *mapping;
    let level = match page {
        0x1000 => Level::ONE,
        0x20_0000 => Level::TWO,
        _ => Level::THREE,
    };
    let permission = match mapping.rights {
        Rights::Read => Permission::Read,
        Rights::Write => Permission::Write,
        Rights::ReadWrite => Permission::ReadWrite,
    };
    (0..size).step_by(page as usize).map(move |offset| scenario::Mapping {
        iova: (iova + offset).into(),
        memory: (memory + offset).into(),
        level,
        permission,
    })
}

/// How many page tables the domains need.
pub(crate) fn tables(domains: &[scenario::Domain]) -> u64 {
    domains.iter().map(tables_of).sum()
}

/// How many page tables a domain needs: at each level, one for each group of mappings that share a table.
pub(crate) fn tables_of(domain: &scenario::Domain) -> u64 {
    let Some(top) = domain.width.top() else { return 0 };
    let levels = (1..=top.number()).filter_map(Level::new);
    let tables = |level: Level| {
        let below = domain.mappings.iter().filter(|mapping| mapping.level <= level);
        below.map(|mapping| mapping.iova.get() >> level.width()).collect::<BTreeSet<_>>().len()
    };
    levels.map(|level| tables(level).max(usize::from(level == top)) as u64).sum()
}
