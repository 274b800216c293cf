//! Registers that command a unit: global command and status, root table address, register-based invalidation,
//! protected memory, interrupt remapping table address (11.4.4–11.4.6, 11.4.8, 11.4.10).

use machine::PhysicalAddress;

use bitfield_struct::bitfield;

/// GSTS: the features that are on (11.4.4). Its bits are those of [`GlobalCommand`].
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GlobalStatus {
    #[bits(23)]
    __: u32,
    /// CFIS: compatibility-format interrupts pass.
    pub cfis: bool,
    /// IRTPS: the interrupt remapping table pointer was taken.
    pub irtps: bool,
    /// IRES: interrupt remapping is on.
    pub ires: bool,
    /// QIES: queued invalidation is on.
    pub qies: bool,
    /// WBFS: a write-buffer flush is under way.
    pub wbfs: bool,
    /// AFLS: advanced fault logging is on.
    pub afls: bool,
    /// FLS: the fault log pointer was taken.
    pub fls: bool,
    /// RTPS: the root table pointer was taken.
    pub rtps: bool,
    /// TES: translation is on.
    pub tes: bool,
}

impl GlobalStatus {
    /// Bits that a command must repeat to keep features on; the others start one-shot commands (11.4.4).
    ///
    /// The one-shot bits SRTP, SFL, WBF and SIRTP are left out.
    pub const STICKY: u32 = 0x96FF_FFFF;

    /// The command that changes nothing: everything that is on stays on.
    pub const fn keep(self) -> GlobalCommand {
        GlobalCommand::from_bits(self.into_bits() & Self::STICKY)
    }
}

/// GCMD: turns features on and off, or starts one-shot commands; one change per write (11.4.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GlobalCommand {
    /// Reserved bits, which a command carries over from the status unchanged.
    #[bits(23)]
    reserved: u32,
    /// CFI: let compatibility-format interrupts pass.
    pub cfi: bool,
    /// SIRTP: take the interrupt remapping table pointer (one-shot).
    pub sirtp: bool,
    /// IRE: interrupt remapping on.
    pub ire: bool,
    /// QIE: queued invalidation on.
    pub qie: bool,
    /// WBF: flush the write buffer (one-shot).
    pub wbf: bool,
    /// EAFL: advanced fault logging on.
    pub eafl: bool,
    /// SFL: take the fault log pointer (one-shot).
    pub sfl: bool,
    /// SRTP: take the root table pointer (one-shot).
    pub srtp: bool,
    /// TE: translation on.
    pub te: bool,
}

/// Translation table mode: the format of the tables under RTADDR (11.4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableMode(pub u8);

impl TableMode {
    /// Root entries name context tables of 256 legacy entries.
    pub const LEGACY: Self = Self(0);
    /// Root entries name two context tables of 128 scalable entries.
    pub const SCALABLE: Self = Self(1);
    /// Every request is blocked.
    pub const ABORT_DMA: Self = Self(3);
}

machine::code!(TableMode);

/// RTADDR: the address and the mode of the root table (11.4.5).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RootTableAddress {
    #[bits(10)]
    __: u16,
    /// TTM: the mode.
    #[bits(2)]
    pub mode: TableMode,
    /// RTA: page frame number of the root table.
    #[bits(52)]
    pub frame: u64,
}

impl RootTableAddress {
    /// Physical address of the root table.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << 12)
    }
}

/// The granularity of an invalidation. Context-cache and IOTLB commands share the codes (6.5.1, 6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granularity(pub u8);

impl Granularity {
    /// A reserved code in a request; in a result, nothing was done.
    pub const RESERVED: Self = Self(0);
    /// Everything.
    pub const GLOBAL: Self = Self(1);
    /// Everything of one domain-id.
    pub const DOMAIN: Self = Self(2);
    /// One device (context-cache) or a naturally aligned group of pages (IOTLB).
    pub const SELECTIVE: Self = Self(3);
}

machine::code!(Granularity);

/// CCMD: register-based invalidation of the context cache; the unit refuses it while the queue is on (11.4.6).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextCommand {
    /// DID: domain-id.
    pub domain: u16,
    /// SID: source-id.
    pub source: u16,
    /// FM: how many low bits of the function number are ignored.
    #[bits(2)]
    pub function_mask: u8,
    #[bits(25)]
    __: u32,
    /// CAIG: the actual granularity (read only).
    #[bits(2)]
    pub done: Granularity,
    /// CIRG: the requested granularity.
    #[bits(2)]
    pub request: Granularity,
    /// ICC: set to start; the unit clears it when it is done.
    pub invalidate: bool,
}

/// IOTLB: register-based invalidation of cached translations; the unit refuses it while the queue is on (11.4.6).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IotlbCommand {
    #[bits(32)]
    __: u32,
    /// DID: domain-id.
    pub domain: u16,
    /// DW: drain writes.
    pub drain_writes: bool,
    /// DR: drain reads.
    pub drain_reads: bool,
    #[bits(7)]
    __: u8,
    /// IAIG: the actual granularity (read only).
    #[bits(2)]
    pub done: Granularity,
    __: bool,
    /// IIRG: the requested granularity.
    #[bits(2)]
    pub request: Granularity,
    __: bool,
    /// IVT: set to start; the unit clears it when it is done.
    pub invalidate: bool,
}

/// IVA: the pages of a page-selective [`IotlbCommand`]; software writes it first (11.4.6).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InvalidateAddress {
    /// AM: `2^AM` pages, naturally aligned.
    #[bits(6)]
    pub address_mask: u8,
    /// IH: only leaf entries changed.
    pub leaf_only: bool,
    #[bits(5)]
    __: u8,
    /// ADDR: page frame number of the I/O address.
    #[bits(52)]
    pub frame: u64,
}

/// PMEN: protected memory regions (11.4.8).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ProtectedMemory {
    /// PRS: the regions are protected.
    pub active: bool,
    #[bits(30)]
    __: u32,
    /// EPM: protect them.
    pub enable: bool,
}

/// IRTA: where the interrupt remapping table is (11.4.10).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptTableAddress {
    /// S: the table has `2^(S + 1)` entries.
    #[bits(4)]
    pub size: u8,
    #[bits(7)]
    __: u8,
    /// EIME: destinations are x2APIC ids.
    pub extended: bool,
    /// IRTA: page frame number of the table.
    #[bits(52)]
    pub frame: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `DMA_GCMD_*` and `DMA_GSTS_*` of Linux.
    #[test]
    fn command_bits_are_linuxs() {
        assert_eq!(GlobalCommand::new().with_te(true).into_bits(), 1 << 31);
        assert_eq!(GlobalCommand::new().with_srtp(true).into_bits(), 1 << 30);
        assert_eq!(GlobalCommand::new().with_wbf(true).into_bits(), 1 << 27);
        assert_eq!(GlobalCommand::new().with_qie(true).into_bits(), 1 << 26);
        assert_eq!(GlobalCommand::new().with_ire(true).into_bits(), 1 << 25);
        assert_eq!(GlobalCommand::new().with_sirtp(true).into_bits(), 1 << 24);
        assert!(GlobalStatus::from_bits(1 << 31).tes());
        assert!(GlobalStatus::from_bits(1 << 30).rtps());
        assert!(GlobalStatus::from_bits(1 << 26).qies());
        assert!(GlobalStatus::from_bits(1 << 27).wbfs());
    }

    /// 0xC700_0000 is what a dead Linux leaves on QEMU: TE, RTPS, QIE, IRE, IRTPS.
    #[test]
    fn the_keeping_command_repeats_what_is_on_and_starts_nothing() {
        let keep = GlobalStatus::from_bits(0xC700_0000).keep();
        assert!(keep.te() && keep.qie() && keep.ire());
        assert!(!keep.srtp() && !keep.sirtp());
        assert_eq!(keep.into_bits(), 0x8600_0000);
    }

    /// `DMA_RTADDR_SMT` of Linux, `VTD_RTADDR_SMT` of QEMU: bit 10.
    #[test]
    fn scalable_mode_is_bit_ten_of_the_root_table_address() {
        let rtaddr = RootTableAddress::from_bits(0x1_2345_6000 | 1 << 10);
        assert_eq!(rtaddr.mode(), TableMode::SCALABLE);
        assert_eq!(rtaddr.address(), PhysicalAddress::new(0x1_2345_6000));
    }

    /// `DMA_CCMD_*` and `DMA_TLB_*` of Linux, `VTD_*_A` of QEMU.
    #[test]
    fn register_based_invalidation_bits_are_linuxs() {
        let context = ContextCommand::new().with_invalidate(true).with_request(Granularity::GLOBAL);
        assert_eq!(context.into_bits(), 1 << 63 | 1 << 61);
        assert_eq!(ContextCommand::from_bits(3 << 59).done(), Granularity::SELECTIVE);
        assert_eq!(ContextCommand::from_bits(0x1234_5678).source(), 0x1234);
        let iotlb = IotlbCommand::new()
            .with_invalidate(true)
            .with_request(Granularity::GLOBAL)
            .with_drain_reads(true)
            .with_drain_writes(true);
        assert_eq!(iotlb.into_bits(), 1 << 63 | 1 << 60 | 1 << 49 | 1 << 48);
        assert_eq!(IotlbCommand::from_bits(2 << 57).done(), Granularity::DOMAIN);
        assert_eq!(IotlbCommand::from_bits(0xABCD << 32).domain(), 0xABCD);
        assert_eq!(InvalidateAddress::from_bits(0x7F).address_mask(), 0x3F);
    }
}
