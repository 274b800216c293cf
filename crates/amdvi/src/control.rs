//! Registers that command a unit: base addresses, control and status, the exclusion range (3.4).

use core::time::Duration;

use bitfield_struct::bitfield;
use machine::{PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Range};

use crate::device_table::ENTRY_BYTES;

/// Device table base address (MMIO offset 0000h, and 0100h to 0130h for segments).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DeviceTableBase {
    /// Size: pages of the table, less one.
    #[bits(9)]
    pub size: u16,
    #[bits(3)]
    __: u8,
    /// Page frame number of the table.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}

impl DeviceTableBase {
    /// The memory of the table, 4 KiB to 2 MiB.
    pub const fn table(self) -> Range<PhysicalAddress> {
        let start = PhysicalAddress::new(self.frame() << PAGE_SHIFT);
        Range::new(start, start.saturating_add((self.size() as u64 + 1) * PAGE_SIZE))
    }

    /// How many devices the table has entries for; all others pass untranslated (2.2.2).
    pub const fn entries(self) -> usize {
        (self.size() as usize + 1) * (PAGE_SIZE as usize / ENTRY_BYTES)
    }
}

/// Base address and length of the command buffer or of a log (MMIO offsets 0008h, 0010h, 0038h, 00E0h, 00F0h, 00F8h).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct BufferBase {
    #[bits(12)]
    __: u16,
    /// Page frame number of the buffer.
    #[bits(40)]
    pub frame: u64,
    #[bits(4)]
    __: u8,
    /// Length: the buffer has `2^length` entries; below [`SHORTEST`](Self::SHORTEST) it is reserved.
    #[bits(4)]
    pub length: u8,
    #[bits(4)]
    __: u8,
}

impl BufferBase {
    /// The shortest length: 256 entries, which fill a page.
    pub const SHORTEST: u8 = 8;

    /// How many entries the buffer has; `None` if the length is reserved.
    pub const fn entries(self) -> Option<usize> {
        if self.length() < Self::SHORTEST { None } else { Some(1 << self.length()) }
    }

    /// Physical address of the buffer.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << PAGE_SHIFT)
    }
}

/// Head and tail of the command buffer and of logs: bytes from the start of the buffer are in bits 18:4 (MMIO offsets from
/// 2000h).
pub const BUFFER_OFFSET: u64 = 0x7_FFF0;

/// InvTimeOut: how long a unit waits for a device to answer an invalidation before it gives the device up, logs that, and goes on
/// (2.4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvalidationTimeout(pub u8);

impl InvalidationTimeout {
    /// It waits for ever, and executes no other command.
    pub const NONE: Self = Self(0);
    /// A millisecond. Each further code stands for ten times as long.
    pub const SHORTEST: Self = Self(1);
    /// 100 seconds.
    pub const LONGEST: Self = Self(6);

    /// How long that is; `None` if it is for ever, and for the reserved code 7.
    pub const fn time(self) -> Option<Duration> {
        match self.0 {
            1..=6 => Some(Duration::from_millis(10_u64.pow(self.0 as u32 - 1))),
            _ => None,
        }
    }
}

machine::code!(InvalidationTimeout);

/// Control (MMIO offset 0018h).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Control {
    /// IommuEn: the unit translates.
    pub enabled: bool,
    /// HtTunEn: traffic of a HyperTransport tunnel is translated.
    pub ht_tunnel: bool,
    /// EventLogEn: events are logged.
    pub event_log: bool,
    /// EventIntEn: an interrupt for each event.
    pub event_interrupt: bool,
    /// ComWaitIntEn: interrupts of completion waits.
    pub completion_interrupt: bool,
    /// InvTimeOut: how long a device may take to answer an invalidation, as a [code](InvalidationTimeout).
    #[bits(3)]
    pub invalidation_timeout: InvalidationTimeout,
    /// PassPW: posted writes may be passed.
    pub pass_posted: bool,
    /// ResPassPW: responses may pass posted writes.
    pub response_pass_posted: bool,
    /// Coherent: reads of the unit snoop the processors' caches.
    pub coherent: bool,
    /// Isoc: reads of the unit are isochronous.
    pub isochronous: bool,
    /// CmdBufEn: the unit fetches commands.
    pub command_buffer: bool,
    /// PPRLogEn: page requests are logged.
    pub ppr_log: bool,
    /// PPRIntEn: an interrupt for each page request.
    pub ppr_interrupt: bool,
    /// PPREn: page requests are processed.
    pub ppr: bool,
    /// GTEn: guest translation.
    pub guest_translation: bool,
    /// GAEn: guest virtual APIC.
    pub ga: bool,
    /// CRW: for future use.
    #[bits(4)]
    pub crw: u8,
    /// SmiFEn: filter of system management interrupts.
    pub smi_filter: bool,
    /// SlfWBDis: the unit does not write back what it cached.
    pub self_write_back_disable: bool,
    /// SmiFLogEn: log of that filter.
    pub smi_filter_log: bool,
    /// GAMEn: guest virtual APIC mode.
    #[bits(3)]
    pub ga_mode: u8,
    /// GALogEn: guest virtual APIC log.
    pub ga_log: bool,
    /// GAIntEn: interrupts of that log.
    pub ga_interrupt: bool,
    /// DualPprLogEn: second page request log.
    #[bits(2)]
    pub dual_ppr_log: u8,
    /// DualEventLogEn: second event log.
    #[bits(2)]
    pub dual_event_log: u8,
    /// DevTblSegEn: binary logarithm of the number of device table segments.
    #[bits(3)]
    pub device_table_segments: u8,
    /// PrivAbrtEn: privileged requests are aborted.
    #[bits(2)]
    pub privilege_abort: u8,
    /// PprAutoRspEn: page requests are answered where the log is full.
    pub ppr_auto_response: bool,
    /// MarcEn: relocated apertures.
    pub marc: bool,
    /// BlkStopMrkEn: StopMark messages are blocked.
    pub block_stop_mark: bool,
    /// PprAutoRspAon: page requests are always answered.
    pub ppr_auto_response_always: bool,
    /// NumIntRemapMode: interrupts of a device.
    #[bits(2)]
    pub interrupts: u8,
    /// EPHEn: enhanced handling of page requests.
    pub enhanced_ppr: bool,
    /// HADUpdate: accessed and dirty bits are set in host tables.
    #[bits(2)]
    pub host_accessed_dirty: u8,
    /// GDUpdateDis: dirty bits are not set in guest tables.
    pub guest_dirty_disable: bool,
    __: bool,
    /// XTEn: x2APIC.
    pub xt: bool,
    /// IntCapXTEn: the unit's own interrupts are x2APIC's.
    pub xt_interrupt: bool,
    /// vCmdEn: commands of guests.
    pub guest_commands: bool,
    /// vIommuEn: virtual units.
    pub virtual_units: bool,
    /// GAUpdateDis: accessed bits are not set in guest tables.
    pub guest_accessed_disable: bool,
    /// GAPPIEn: interrupts of guests are posted to processors.
    pub ga_posted: bool,
    /// TMPMEn: migration between tiers of memory.
    pub tiered_memory: bool,
    __: bool,
    /// GCR3TRPMode: where there are host tables, they translate the addresses of CR3 tables; otherwise these are physical.
    pub guest_cr3_address: bool,
    /// IRTCacheDis: interrupt table entries are not cached.
    pub interrupt_cache_disable: bool,
    /// GstBufferTRPMode: the same of guests' buffers.
    pub guest_buffer_address: bool,
    /// SNPAVICEn: guest virtual APIC where SNP is on.
    #[bits(3)]
    pub snp_avic: u8,
}

impl Control {
    /// How many segments the device table has, 1 to 8; more than eight are reserved, and count as eight.
    pub const fn segments(self) -> usize {
        let log = self.device_table_segments();
        1 << if log > 3 { 3 } else { log }
    }
}

/// Status (MMIO offset 2020h). Bits that report a state are read only; the others are cleared by a write of one.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Status {
    /// EventOverflow: the event log is full; further events are lost.
    pub event_overflow: bool,
    /// EventLogInt: an interrupt of the event log.
    pub event_interrupt: bool,
    /// ComWaitInt: an interrupt of a completion wait.
    pub completion_interrupt: bool,
    /// EventLogRun: the unit logs events (read only).
    pub event_log_runs: bool,
    /// CmdBufRun: the unit fetches commands (read only).
    pub command_buffer_runs: bool,
    /// PprOverflow: the page request log is full.
    pub ppr_overflow: bool,
    /// PprInt: an interrupt of the page request log.
    pub ppr_interrupt: bool,
    /// PprLogRun: the unit logs page requests (read only).
    pub ppr_log_runs: bool,
    /// GALogRun: the unit writes the guest virtual APIC log (read only).
    pub ga_log_runs: bool,
    /// GALOverflow: the guest virtual APIC log is full.
    pub ga_overflow: bool,
    /// GAInt: an interrupt of the guest virtual APIC log.
    pub ga_interrupt: bool,
    /// PprOvrflwB: the second page request log is full.
    pub ppr_b_overflow: bool,
    /// PprLogActive: the second page request log is in use (read only).
    pub ppr_b_active: bool,
    #[bits(2)]
    __: u8,
    /// EventOvrflwB: the second event log is full.
    pub event_b_overflow: bool,
    /// EventLogActive: the second event log is in use (read only).
    pub event_b_active: bool,
    /// PprOvrflwEarlyB: early warning of a full second page request log.
    pub ppr_b_overflow_early: bool,
    /// PprOvrflwEarly: early warning of a full page request log.
    pub ppr_overflow_early: bool,
    #[bits(45)]
    __: u64,
}

impl Status {
    /// The bits that a write of one clears.
    pub const CLEARABLE: Self = Self::from_bits(0x6_8E67);
}

/// Exclusion range, first page (MMIO offset 0020h). Requests to the range pass untranslated, those of all devices or of those
/// whose device table entry has EX.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ExclusionBase {
    /// ExEn: there is an exclusion range.
    pub enabled: bool,
    /// Allow: it is for all devices.
    pub all: bool,
    #[bits(10)]
    __: u16,
    /// Page frame number of its first page.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}

/// Exclusion range, last page (MMIO offset 0028h).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ExclusionLimit {
    #[bits(12)]
    __: u16,
    /// Page frame number of its last page.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}

impl ExclusionBase {
    /// The range that ends with the page of `limit`; empty if there is none.
    pub const fn range(self, limit: ExclusionLimit) -> Range<PhysicalAddress> {
        let start = PhysicalAddress::new(self.frame() << PAGE_SHIFT);
        let end = if self.enabled() { (limit.frame() + 1) << PAGE_SHIFT } else { start.get() };
        Range::new(start, PhysicalAddress::new(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a dead Linux leaves on QEMU: 0x3148f.
    #[test]
    fn the_control_register_of_a_dead_linux_is_decoded() {
        let control = Control::from_bits(0x3_148F);
        assert!(control.enabled() && control.ht_tunnel() && control.event_log() && control.event_interrupt());
        assert!(
            control.coherent() && control.command_buffer() && control.guest_translation() && control.ga()
        );
        assert_eq!((control.invalidation_timeout(), control.segments()), (InvalidationTimeout(4), 1));
        assert!(!control.completion_interrupt() && !control.ppr() && !control.xt());
        let both = Control::from_bits(3 << 50);
        assert!(both.xt() && both.xt_interrupt());
    }

    /// `CTRL_INV_TO_*` of Linux.
    #[test]
    fn each_code_of_the_invalidation_timeout_is_ten_times_the_one_before() {
        let milliseconds = |code| InvalidationTimeout(code).time().map(|time| time.as_millis());
        assert_eq!([0, 1, 2, 3, 4].map(milliseconds), [None, Some(1), Some(10), Some(100), Some(1000)]);
        assert_eq!([5, 6, 7].map(milliseconds), [Some(10_000), Some(100_000), None]);
    }

    /// `CONTROL_*` of Linux.
    #[test]
    fn control_bits_are_linuxs() {
        assert!(Control::from_bits(1 << 13).ppr_log() && Control::from_bits(1 << 15).ppr());
        assert!(Control::from_bits(1 << 28).ga_log() && Control::from_bits(1 << 45).enhanced_ppr());
        assert_eq!(Control::from_bits(7 << 25).ga_mode(), 7);
        assert_eq!(Control::from_bits(7 << 34).segments(), 8);
        assert_eq!(Control::from_bits(3 << 46).host_accessed_dirty(), 3);
        assert_eq!(Control::from_bits(7 << 61).snp_avic(), 7);
    }

    /// `MMIO_STATUS_*` of Linux: EVT_RUN bit 3, CMDBUF_RUN 4, PPR_RUN 7, GALOG_RUN 8, GALOG_OVERFLOW 9.
    #[test]
    fn status_bits_are_linuxs() {
        assert!(
            Status::from_bits(1 << 3).event_log_runs() && Status::from_bits(1 << 4).command_buffer_runs()
        );
        assert!(Status::from_bits(1 << 7).ppr_log_runs() && Status::from_bits(1 << 8).ga_log_runs());
        assert!(Status::from_bits(1 << 9).ga_overflow() && Status::from_bits(1).event_overflow());
        let runs =
            Status::new().with_event_log_runs(true).with_command_buffer_runs(true).with_ppr_log_runs(true);
        let states = runs.with_ga_log_runs(true).with_ppr_b_active(true).with_event_b_active(true);
        assert_eq!(Status::CLEARABLE.into_bits() & states.into_bits(), 0);
        assert_eq!(Status::CLEARABLE.into_bits() | states.into_bits(), 0x7_9FFF);
    }

    /// QEMU's guest with 8 KiB: 256 devices; and a table for all of them.
    #[test]
    fn the_device_table_has_as_many_entries_as_fit() {
        let small = DeviceTableBase::from_bits(0x1234_5001);
        assert_eq!((small.entries(), small.table()), (256, Range::from(0x1234_5000..0x1234_7000)));
        let large = DeviceTableBase::from_bits(0x4000_01FF);
        assert_eq!((large.entries(), large.table().len()), (0x1_0000, 2 << 20));
    }

    /// Linux's buffers: `0x9 << 56`, 512 entries.
    #[test]
    fn buffers_have_a_power_of_two_entries() {
        let buffer = BufferBase::from_bits(9 << 56 | 0x7654_3000);
        assert_eq!((buffer.entries(), buffer.address()), (Some(512), PhysicalAddress::new(0x7654_3000)));
        assert_eq!(BufferBase::from_bits(7 << 56).entries(), None);
        assert_eq!(
            BufferBase::from_bits(15 << 56).entries().map(|entries| (entries * 16 - 1) as u64 & !15),
            Some(BUFFER_OFFSET)
        );
    }

    #[test]
    fn the_exclusion_range_has_its_limit_inside() {
        let (base, limit) = (ExclusionBase::from_bits(0x10_0003), ExclusionLimit::from_bits(0x10_1FFF));
        assert!(base.all());
        assert_eq!(base.range(limit), Range::from(0x10_0000..0x10_2000));
        assert!(base.with_enabled(false).range(limit).is_empty());
        let last = ExclusionLimit::from_bits(u64::MAX);
        assert_eq!(base.range(last).end, PhysicalAddress::new(1 << 52));
    }
}
