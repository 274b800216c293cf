//! VMCOREINFO: what the dead kernel says of its own layout.
//!
//! Lines of text, `KEY=value`, described in `Documentation/admin-guide/kdump/vmcoreinfo.rst`. Symbols are hexadecimal
//! without a prefix, all other numbers decimal.

use machine::VirtualAddress;

/// The text of VMCOREINFO; a lookup finds the key's first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmcoreInfo<'a> {
    text: &'a [u8],
}

impl<'a> VmcoreInfo<'a> {
    /// Takes any bytes; those that are no lines of VMCOREINFO are never found.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    /// The text itself.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// Where a symbol is: `SYMBOL(name)`.
    pub fn symbol(self, name: &str) -> Option<VirtualAddress> {
        hexadecimal(self.entry("SYMBOL", name)?).map(VirtualAddress::new)
    }

    /// Offset of a field in bytes: `OFFSET(struct.field)`.
    pub fn offset(self, field: &str) -> Option<usize> {
        decimal(self.entry("OFFSET", field)?)
    }

    /// Size of a structure in bytes: `SIZE(struct)`.
    pub fn size(self, structure: &str) -> Option<usize> {
        decimal(self.entry("SIZE", structure)?)
    }

    /// Number of elements of an array: `LENGTH(array)`.
    pub fn length(self, array: &str) -> Option<u64> {
        decimal(self.entry("LENGTH", array)?)
    }

    /// A constant: `NUMBER(name)`.
    pub fn number(self, name: &str) -> Option<i64> {
        decimal(self.entry("NUMBER", name)?)
    }

    /// The kernel's release, as `uname -r` gives it.
    pub fn os_release(self) -> Option<&'a str> {
        self.value("OSRELEASE").and_then(text)
    }

    /// Bytes in a page.
    pub fn page_size(self) -> Option<u64> {
        decimal(self.value("PAGESIZE")?)
    }

    /// How far address space randomization moved the kernel image.
    pub fn kernel_offset(self) -> Option<u64> {
        hexadecimal(self.value("KERNELOFFSET")?)
    }

    /// When the kernel died, in seconds since 1970.
    pub fn crash_time(self) -> Option<i64> {
        decimal(self.value("CRASHTIME")?)
    }

    /// The value of a line `key=value`.
    pub fn value(self, key: &str) -> Option<&'a [u8]> {
        self.lines().find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }

    /// The value of a line `kind(name)=value`.
    fn entry(self, kind: &str, name: &str) -> Option<&'a [u8]> {
        self.lines().find_map(|line| {
            let rest = line.strip_prefix(kind.as_bytes())?.strip_prefix(b"(")?;
            rest.strip_prefix(name.as_bytes())?.strip_prefix(b")=")
        })
    }

    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split(|&byte| byte == b'\n')
    }
}

fn text(value: &[u8]) -> Option<&str> {
    core::str::from_utf8(value).ok()
}

fn decimal<T: core::str::FromStr>(value: &[u8]) -> Option<T> {
    text(value)?.parse().ok()
}

fn hexadecimal(value: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(value)?, 16).ok()
}
