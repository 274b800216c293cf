//! Where the fields of a kernel's set-up header are, in its image and in `boot_params`, and what some of their bits mean (Linux,
//! Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").

/// Sectors before the program, without the first; 0 means 4.
pub const SETUP_SECTS: usize = 0x1F1;
/// Sixteenths of the program's bytes.
pub const SYSSIZE: usize = 0x1F4;
/// AA55h.
pub const BOOT_FLAG: usize = 0x1FE;
/// A jump over the header.
pub const JUMP: usize = 0x200;
/// How far it jumps: so the header's length counts from [`SIGNATURE`].
pub const HEADER_LENGTH: usize = 0x201;
/// "HdrS".
pub const SIGNATURE: usize = 0x202;
/// The protocol's version.
pub const VERSION: usize = 0x206;
/// Counted from 200h: the kernel's version as text.
pub const KERNEL_VERSION: usize = 0x20E;
/// [`LOADED_HIGH`], and others.
pub const LOADFLAGS: usize = 0x211;
/// The 32-bit entry.
pub const CODE32_START: usize = 0x214;
/// The highest address of an initramfs.
pub const INITRD_ADDR_MAX: usize = 0x22C;
/// What the program's address must be a multiple of.
pub const KERNEL_ALIGNMENT: usize = 0x230;
/// 1 if it runs at any such address.
pub const RELOCATABLE_KERNEL: usize = 0x234;
/// Binary logarithm of the least alignment.
pub const MIN_ALIGNMENT: usize = 0x235;
/// [`KERNEL_64`], [`CAN_BE_LOADED_ABOVE_4G`], [`FIVE_LEVEL`], and others.
pub const XLOADFLAGS: usize = 0x236;
/// Bytes of the longest command line, without its zero.
pub const CMDLINE_SIZE: usize = 0x238;
/// Where it would best be loaded.
pub const PREF_ADDRESS: usize = 0x258;
/// Bytes of memory that the program needs.
pub const INIT_SIZE: usize = 0x260;

/// Of [`LOADFLAGS`]: the program is loaded above 1 MiB.
pub const LOADED_HIGH: u8 = 1 << 0;
/// Of [`XLOADFLAGS`]: it has a 64-bit entry.
pub const KERNEL_64: u16 = 1 << 0;
/// Of [`XLOADFLAGS`]: it may be loaded above 4 GiB.
pub const CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// Of [`XLOADFLAGS`]: it can be entered while paging has five levels.
pub const FIVE_LEVEL: u16 = 1 << 5;
/// Of [`XLOADFLAGS`]: it uses them if it is.
pub const FIVE_LEVEL_USED: u16 = 1 << 6;

/// Where the 64-bit entry is in the program ("64-bit Boot Protocol").
pub const ENTRY_64: u64 = 0x200;
/// Bytes in a sector.
pub const SECTOR: usize = 512;
