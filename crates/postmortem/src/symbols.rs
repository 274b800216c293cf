//! kallsyms: the names and addresses that the kernel keeps of its own symbols.
//!
//! `scripts/kallsyms.c` writes them as tables. Names are compressed: each byte stands for a token of a table of 256. Addresses are
//! words of 32 bits, counted from a base or from where they lie; which of these a kernel does is found out by symbols whose addresses
//! VMCOREINFO gives too. From Linux 6.0 on, VMCOREINFO also says where the tables are.

use std::cell::RefCell;
use std::collections::HashMap;

use machine::OldMemory;
use vmcore::VmcoreInfo;

use crate::view::View;

/// Most symbols of a kernel; Debian's have 170,000.
const MOST: u32 = 2 << 20;
/// Most bytes of compressed names, and of names.
const MOST_NAMES: usize = 32 << 20;
/// The longest name, in bytes (`KSYM_NAME_LEN`).
const LONGEST: usize = 512;
/// Bytes of names that are read at a time.
const PIECE: u64 = 64 << 10;
/// A symbol that lies further before an address than this is not what is there.
const FARTHEST: u64 = 16 << 20;
/// Symbols whose addresses VMCOREINFO gives besides, and kallsyms must give too.
const ANCHORS: [&str; 4] = ["_stext", "init_uts_ns", "swapper_pg_dir", "init_top_pgt"];

/// The kernel's own symbols, by name and by address.
pub(crate) struct Symbols {
    /// All names, one after the other.
    names: String,
    /// Where each name ends in `names`, in the kernel's order.
    ends: Vec<u32>,
    /// The address of each.
    addresses: Vec<u64>,
    /// Their numbers in ascending order of addresses; of equal ones, in the kernel's order.
    by_address: Vec<u32>,
    /// The addresses of names that were looked for.
    looked_up: RefCell<HashMap<&'static str, Option<u64>>>,
}

impl Symbols {
    /// Reads the tables that VMCOREINFO names; otherwise says what is missing.
    pub(crate) fn read<M: OldMemory>(view: &View<'_, M>, info: VmcoreInfo<'_>) -> Result<Self, &'static str> {
        let place = |name| info.symbol(name).map(u64::from);
        let unnamed =
            "VMCOREINFO does not say where kallsyms are (Linux before 6.0, or CONFIG_KALLSYMS is off)";
        let names = place("kallsyms_names").ok_or(unnamed)?;
        let count = place("kallsyms_num_syms").ok_or(unnamed)?;
        let count =
            view.u32(count).filter(|&count| count <= MOST).ok_or("the number of symbols makes no sense")?;
        let tokens = place("kallsyms_token_table").zip(place("kallsyms_token_index")).ok_or(unnamed)?;
        let tokens = Tokens::read(view, tokens).ok_or("the tokens of kallsyms cannot be read")?;
        let (names, ends) = expand(view, names, count, &tokens);
        let mut symbols = Self {
            names,
            ends,
            addresses: Vec::new(),
            by_address: Vec::new(),
            looked_up: RefCell::default(),
        };
        symbols.locate(view, info).ok_or("no way of reading the addresses of kallsyms fits VMCOREINFO")?;
        Ok(symbols)
    }

    /// The address of the first symbol of this name.
    pub(crate) fn address(&self, name: &'static str) -> Option<u64> {
        let find = || self.addresses.get(self.find(name)?).copied();
        *self.looked_up.borrow_mut().entry(name).or_insert_with(find)
    }

    /// The symbol that an address belongs to, and the distance from its start.
    pub(crate) fn at(&self, address: u64) -> Option<(&str, u64)> {
        let start = |at: &u32| self.addresses.get(*at as usize).copied().unwrap_or(u64::MAX);
        let after = self.by_address.partition_point(|at| start(at) <= address);
        let nearest = start(self.by_address.get(after.checked_sub(1)?)?);
        // Of several names of one address, the kernel shows the first.
        let first = self.by_address.partition_point(|at| start(at) < nearest);
        let offset = Some(address - nearest).filter(|&offset| offset <= FARTHEST)?;
        Some((self.name(*self.by_address.get(first)? as usize)?, offset))
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    fn find(&self, name: &str) -> Option<usize> {
        (0..self.ends.len()).find(|&at| self.name(at) == Some(name))
    }

    fn name(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.names.get(start as usize..*self.ends.get(at)? as usize)
    }

    /// Finds the addresses in the way that gives the anchors what VMCOREINFO says of them.
    fn locate<M: OldMemory>(&mut self, view: &View<'_, M>, info: VmcoreInfo<'_>) -> Option<()> {
        let known = |name: &&str| Some((self.find(name)?, info.symbol(name)?.get()));
        let anchors: Vec<(usize, u64)> = ANCHORS.iter().filter_map(known).collect();
        let count = self.ends.len() as u64;
        let table = info.symbol("kallsyms_offsets").or_else(|| info.symbol("kallsyms_addresses"))?.get();
        let base = info.symbol("kallsyms_relative_base").and_then(|base| view.u64(base.get()));
        let bytes = view.bytes(table, count * 8, 8 * u64::from(MOST));
        let bytes = bytes.or_else(|| view.bytes(table, count * 4, 4 * u64::from(MOST)))?;
        let ways = [
            Way::MinusFromBase(base.unwrap_or_default()),
            Way::FromBase(base.unwrap_or_default()),
            Way::FromPlace(table),
            Way::FromBase(Way::base_by(&bytes, *anchors.first()?).unwrap_or_default()),
            Way::Absolute,
        ];
        let fits = |way: &Way| {
            anchors.len() > 1 && anchors.iter().all(|&(at, address)| way.address(&bytes, at) == Some(address))
        };
        let way = ways.into_iter().find(fits)?;
        self.addresses = (0..self.ends.len()).map_while(|at| way.address(&bytes, at)).collect();
        self.by_address = (0..self.addresses.len() as u32).collect();
        self.by_address.sort_by_key(|at| self.addresses.get(*at as usize));
        Some(())
    }
}

/// How a kernel stores the addresses.
#[derive(Clone, Copy)]
enum Way {
    /// Whole (without `CONFIG_KALLSYMS_BASE_RELATIVE`).
    Absolute,
    /// Negative ones below a base, less one; others are offsets in each processor's data (x86 up to 6.14).
    MinusFromBase(u64),
    /// Above a base.
    FromBase(u64),
    /// From where they lie in the table, which is here.
    FromPlace(u64),
}

impl Way {
    /// The base from which an anchor has its address.
    fn base_by(bytes: &[u8], (at, address): (usize, u64)) -> Option<u64> {
        word(bytes, at).map(|offset| address.wrapping_sub(offset.into()))
    }

    fn address(self, bytes: &[u8], at: usize) -> Option<u64> {
        let offset = word(bytes, at);
        let signed = offset.map(|offset| i64::from(offset.cast_signed()));
        Some(match self {
            Self::Absolute => u64::from_le_bytes(*bytes.get(at * 8..)?.first_chunk()?),
            Self::MinusFromBase(base) => match signed? {
                offset @ 0.. => offset.cast_unsigned(),
                offset => base.wrapping_sub(1).wrapping_sub(offset.cast_unsigned()),
            },
            Self::FromBase(base) => base.wrapping_add(offset?.into()),
            Self::FromPlace(table) => table.wrapping_add(at as u64 * 4).wrapping_add(signed?.cast_unsigned()),
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at * 4..)?.first_chunk()?))
}

/// What each byte of a compressed name stands for: 256 texts, none longer than a name may be.
struct Tokens(Vec<Vec<u8>>);

impl Tokens {
    fn read<M: OldMemory>(view: &View<'_, M>, (table, index): (u64, u64)) -> Option<Self> {
        let starts: [u8; 512] = view.array(index)?;
        let last = u64::from(u16::from_le_bytes(*starts.last_chunk()?));
        let table = view.bytes(table, last + LONGEST as u64, u64::MAX)?;
        let token = |start: usize| {
            let rest = table.get(start..).unwrap_or_default();
            let longest = rest.get(..LONGEST).unwrap_or(rest);
            longest.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
        };
        let starts = starts.as_chunks().0.iter();
        Some(Self(starts.map(|start| token(u16::from_le_bytes(*start).into())).collect()))
    }

    fn of(&self, byte: u8) -> &[u8] {
        self.0.get(usize::from(byte)).map_or(&[], Vec::as_slice)
    }
}

/// Decompresses up to `count` names; returns them and where each ends. Ends early where something makes no sense.
fn expand<M: OldMemory>(view: &View<'_, M>, start: u64, count: u32, tokens: &Tokens) -> (String, Vec<u32>) {
    let mut stream = Stream { view, next: start, bytes: Vec::new(), at: 0, left: MOST_NAMES };
    let (mut names, mut ends) = (String::new(), Vec::new());
    for _ in 0..count {
        let Some(name) = stream.name(tokens) else { break };
        if names.len() + name.len() > MOST_NAMES {
            break;
        }
        names.push_str(&name);
        ends.push(names.len() as u32);
    }
    (names, ends)
}

/// The compressed names, read as they are needed: nothing says how long they are.
struct Stream<'a, 'm, M> {
    view: &'a View<'m, M>,
    next: u64,
    bytes: Vec<u8>,
    at: usize,
    left: usize,
}

impl<M: OldMemory> Stream<'_, '_, M> {
    fn byte(&mut self) -> Option<u8> {
        if self.at == self.bytes.len() {
            let to_boundary = PIECE - self.next % PIECE;
            self.bytes = self.view.bytes(self.next, to_boundary, PIECE)?;
            self.next = self.next.checked_add(to_boundary)?;
            self.at = 0;
        }
        self.left = self.left.checked_sub(1)?;
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    /// The next name, without the letter that says what kind of symbol it is; `None` also if its length makes no sense.
    fn name(&mut self, tokens: &Tokens) -> Option<String> {
        let low = usize::from(self.byte()?);
        // Lengths of 128 and more take two bytes, the lower seven bits first (since 6.1; before there were none).
        let len = if low < 0x80 { low } else { low & 0x7F | usize::from(self.byte()?) << 7 };
        // Each byte stands for at least one of the name's.
        if len > LONGEST {
            return None;
        }
        let mut name = Vec::new();
        for _ in 0..len {
            let token = tokens.of(self.byte()?);
            let room = (LONGEST + 1).saturating_sub(name.len());
            name.extend_from_slice(token.get(..room).unwrap_or(token));
        }
        Some(crate::view::printable(name.get(1..).unwrap_or_default()))
    }
}
