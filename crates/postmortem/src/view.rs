//! The dead kernel's virtual memory, in pieces that are bounded.

use machine::OldMemory;
use vmcore::AddressSpace;

/// Bytes that are read at a time while the length of a text is not known.
const PIECE: usize = 64;

/// Virtual memory of the dead kernel. What is not in the dump reads as `None`.
pub(crate) struct View<'a, M> {
    memory: &'a M,
    space: &'a AddressSpace,
}

impl<M> Clone for View<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for View<'_, M> {}

impl<'a, M: OldMemory> View<'a, M> {
    pub(crate) fn new(memory: &'a M, space: &'a AddressSpace) -> Self {
        Self { memory, space }
    }

    /// Copies bytes from virtual memory.
    pub(crate) fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        address.checked_add(into.len() as u64)?;
        self.space.read(self.memory, address.into(), into).ok()
    }

    /// Copies `len` bytes, unless they are more than `most` or one of them is missing.
    pub(crate) fn bytes(&self, address: u64, len: u64, most: u64) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|&len| len as u64 <= most)?;
        let mut bytes = Vec::new();
        // Grows as far as there is memory behind the addresses: a length alone takes nothing.
        for at in (0..len).step_by(1 << 20) {
            let end = len.min(at + (1 << 20));
            bytes.try_reserve(end - at).ok()?;
            bytes.resize(end, 0);
            self.read(address.checked_add(at as u64)?, &mut bytes[at..])?;
        }
        Some(bytes)
    }

    pub(crate) fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    pub(crate) fn u64(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_le_bytes)
    }

    pub(crate) fn u32(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_le_bytes)
    }

    /// Reads a text up to its zero byte, or up to `most` bytes; what cannot be printed is escaped.
    pub(crate) fn text(&self, address: u64, most: usize) -> Option<String> {
        let mut bytes = Vec::new();
        while bytes.len() < most {
            // Within an aligned piece, so that no page is touched that the text does not reach.
            let at = address.checked_add(bytes.len() as u64)?;
            let len = (PIECE - at as usize % PIECE).min(most - bytes.len());
            let mut piece = [0; PIECE];
            self.read(at, &mut piece[..len])?;
            let end = piece[..len].iter().position(|&byte| byte == 0);
            bytes.extend_from_slice(&piece[..end.unwrap_or(len)]);
            if end.is_some() {
                break;
            }
        }
        Some(printable(&bytes))
    }
}

/// The text up to the first zero byte; what is no printable ASCII is escaped as `\x1b`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let is_plain = |byte| matches!(byte, b' '..=b'~');
    let escaped =
        |&byte: &u8| if is_plain(byte) { char::from(byte).into() } else { format!("\\x{byte:02x}") };
    text.iter().map(escaped).collect()
}
