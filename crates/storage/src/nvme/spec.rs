//! Layouts of the NVM Express specifications, as far as a disk needs them. Everything is little-endian.

use bitfield_struct::bitfield;
use pci::Class;

/// Mass storage, non-volatile memory, NVM Express I/O controller (PCI Code and ID Assignment specification, section 1.2).
pub(super) const CLASS: Class = Class::from_code(0x01_0802);

/// Bytes in the pages that the driver has the controller use: CC.MPS is 0.
pub(super) const PAGE: u64 = 4096;

/// The controller's properties (3.1.3), from the start of BAR 0.
pub(super) mod register {
    use crate::register::{Halves, ReadOnly, ReadWrite};

    /// [`Capabilities`](super::Capabilities): CAP (3.1.3.1).
    pub(in crate::nvme) const CAPABILITIES: ReadOnly<Halves> = ReadOnly::at(0x00);
    /// The version of the specification, VS (3.1.3.2).
    pub(in crate::nvme) const VERSION: ReadOnly<u32> = ReadOnly::at(0x08);
    /// [`Configuration`](super::Configuration): CC (3.1.3.5).
    pub(in crate::nvme) const CONFIGURATION: ReadWrite<u32> = ReadWrite::at(0x14);
    /// [`Status`](super::Status): CSTS (3.1.3.6).
    pub(in crate::nvme) const STATUS: ReadOnly<u32> = ReadOnly::at(0x1c);
    /// Sizes of the admin queues, AQA (3.1.3.8): the numbers of entries less one, submission in bits 11:0, completion in 27:16.
    pub(in crate::nvme) const ADMIN_QUEUE_SIZES: ReadWrite<u32> = ReadWrite::at(0x24);
    /// Device address of the admin submission queue, ASQ (3.1.3.9).
    pub(in crate::nvme) const ADMIN_SUBMISSION: ReadWrite<Halves> = ReadWrite::at(0x28);
    /// Device address of the admin completion queue, ACQ (3.1.3.10).
    pub(in crate::nvme) const ADMIN_COMPLETION: ReadWrite<Halves> = ReadWrite::at(0x30);
    /// Where the controller's own memory appears to it among device addresses, CMBMSC (3.1.3.16).
    pub(in crate::nvme) const MEMORY_BUFFER_SPACE: ReadWrite<Halves> = ReadWrite::at(0x50);
    /// [`ReadyTimeouts`](super::ReadyTimeouts): CRTO (3.1.3.21).
    pub(in crate::nvme) const READY_TIMEOUTS: ReadOnly<u32> = ReadOnly::at(0x68);
    /// Bytes of properties. The doorbells follow (PCIe 3.1.2).
    pub(in crate::nvme) const SIZE: u64 = 0x1000;
}

/// CAP (3.1.3.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub(super) struct Capabilities {
    /// MQES: entries that a queue can have, less one.
    pub(super) most_entries: u16,
    /// CQR, AMS.
    __: u8,
    /// TO: the longest time until CSTS.RDY follows CC.EN, in units of 500 ms.
    pub(super) timeout: u8,
    /// DSTRD: two doorbells are 4 · 2ⁿ bytes apart.
    #[bits(4)]
    pub(super) doorbell_stride: u8,
    /// NSSRS.
    #[bits(1)]
    __: u8,
    /// CSS, bit 0: the NVM command set.
    pub(super) nvm_command_set: bool,
    /// CSS, bits 1 to 7; BPS, CPS.
    #[bits(10)]
    __: u16,
    /// MPSMIN: the smallest memory page has 2¹²⁺ⁿ bytes.
    #[bits(4)]
    pub(super) smallest_page: u8,
    /// MPSMAX, PMRS.
    #[bits(5)]
    __: u8,
    /// CMBS: the controller has memory that can appear among device addresses.
    pub(super) memory_buffer: bool,
    /// NSSS.
    #[bits(1)]
    __: u8,
    /// CRMS, bit 0: CRTO says how long the controller takes until its media are ready too.
    pub(super) ready_with_media: bool,
    #[bits(4)]
    __: u8,
}

/// CRTO (3.1.3.21).
#[bitfield(u32)]
pub(super) struct ReadyTimeouts {
    /// CRWMT: the longest time until the controller and its media are ready, in units of 500 ms.
    pub(super) with_media: u16,
    __: u16,
}

/// CC (3.1.3.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct Configuration {
    /// EN: the controller processes commands.
    pub(super) enabled: bool,
    /// CSS: 0 is the NVM command set. MPS: 0 is [`PAGE`]. AMS: 0 is round robin.
    #[bits(13)]
    __: u16,
    /// SHN: the controller is told of a shutdown.
    #[bits(2)]
    pub(super) shutdown: u8,
    /// IOSQES: an entry of a submission queue has 2ⁿ bytes.
    #[bits(4)]
    pub(super) submission_entry: u8,
    /// IOCQES: the same of completion queues.
    #[bits(4)]
    pub(super) completion_entry: u8,
    __: u8,
}

/// CSTS (3.1.3.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct Status {
    /// RDY: the controller processes commands.
    pub(super) ready: bool,
    /// CFS: the controller has failed as a whole.
    pub(super) fatal: bool,
    /// SHST, NSSRO, PP, ST.
    #[bits(30)]
    __: u32,
}

impl Status {
    /// What is read where there is no device any more.
    pub(super) const GONE: Self = Self::from_bits(u32::MAX);
}

/// The first version with a list of active namespaces (5.17.2.2): 1.1.
pub(super) const VERSION_1_1: u32 = 0x0001_0100;

/// The number of the admin queues, and of the queues for reads and writes.
pub(super) const ADMIN: u16 = 0;
pub(super) const IO: u16 = 1;

/// An entry of a submission queue (3.3.3.1).
pub(super) mod submission {
    /// log₂ of the bytes in an entry.
    pub(in crate::nvme) const SHIFT: u8 = 6;
    /// Bytes in an entry.
    pub(in crate::nvme) const SIZE: usize = 1 << SHIFT;
}

/// An entry of a completion queue (3.3.3.2): four fields of 32 bits.
pub(super) mod completion {
    /// log₂ of the bytes in an entry.
    pub(in crate::nvme) const SHIFT: u8 = 4;
    /// Bytes in an entry.
    pub(in crate::nvme) const SIZE: usize = 1 << SHIFT;
    /// [`Ending`](super::Ending).
    pub(in crate::nvme) const ENDING: usize = 12;
}

/// The last field of an entry of a completion queue (3.3.3.2). Its entry is new once the phase has changed.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct Ending {
    /// CID: which command it answers.
    pub(super) command: u16,
    /// P: changes with each round through the queue.
    pub(super) phase: bool,
    /// [`EndStatus`].
    #[bits(15)]
    pub(super) status: u16,
}

/// How a command ended (3.3.3.2.1).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub(super) struct EndStatus {
    /// SC: what happened; 0 is success, in kind 0.
    code_of_kind: u8,
    /// SCT: the kind of code.
    #[bits(3)]
    kind: u8,
    /// CRD: drivers that did not ask for it get none. M.
    #[bits(3)]
    __: u8,
    /// DNR: the same command would fail again.
    pub(super) is_final: bool,
    #[bits(1)]
    __: u8,
}

impl EndStatus {
    /// Codes, with their kinds, of what passes by itself (3.3.3.2.1): Command Interrupted, Transient Transport Error, Admin Command
    /// Media Not Ready, Namespace Not Ready, and Asymmetric Access Transition.
    const PASSING: [u32; 5] = [0x021, 0x022, 0x024, 0x082, 0x303];

    /// Whether the command was carried out.
    pub(super) fn is_success(self) -> bool {
        self.code() == 0
    }

    /// SCT and SC.
    pub(super) fn code(self) -> u32 {
        u32::from(self.kind()) << 8 | u32::from(self.code_of_kind())
    }

    /// Whether the controller is not ready for the command yet.
    pub(super) fn passes(self) -> bool {
        !self.is_final() && Self::PASSING.contains(&self.code())
    }
}

/// The first field of a command (3.3.3.1).
#[bitfield(u32)]
pub(super) struct CommandHeader {
    /// OPC.
    pub(super) opcode: u8,
    /// FUSE: alone. PSDT: its data is where PRPs say.
    __: u8,
    /// CID: names the command until it completes.
    pub(super) command: u16,
}

/// A command, without its identifier (3.3.3.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Command {
    /// Which command it is.
    pub(super) opcode: u8,
    /// The namespace that it is for, or 0.
    pub(super) namespace: u32,
    /// PRP1 and PRP2: where its data is (4.1.1).
    pub(super) pointers: [u64; 2],
    /// CDW10 to CDW12.
    pub(super) arguments: [u32; 3],
}

impl Command {
    /// The entry of a submission queue, with the identifier `command`.
    pub(super) fn to_bytes(self, command: u16) -> [u8; submission::SIZE] {
        let Self { opcode, namespace, pointers: [first, second], arguments } = self;
        let header = CommandHeader::new().with_opcode(opcode).with_command(command).into_bits();
        let mut bytes = [0; submission::SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &header.to_le_bytes());
        put(4, &namespace.to_le_bytes());
        put(24, &first.to_le_bytes());
        put(32, &second.to_le_bytes());
        put(40, &arguments[0].to_le_bytes());
        put(44, &arguments[1].to_le_bytes());
        put(48, &arguments[2].to_le_bytes());
        bytes
    }
}

/// Opcodes of admin commands (5).
pub(super) mod admin {
    pub(in crate::nvme) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(in crate::nvme) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(in crate::nvme) const IDENTIFY: u8 = 0x06;
    pub(in crate::nvme) const SET_FEATURES: u8 = 0x09;

    /// PC, in CDW11 of both commands that create a queue (5.4, 5.5): its memory is contiguous.
    pub(in crate::nvme) const CONTIGUOUS: u32 = 1;
    /// QPRIO, in CDW11 of the command that creates a submission queue (5.5): medium. Some drives take the default, urgent, for a
    /// wish that they can grant.
    pub(in crate::nvme) const MEDIUM_PRIORITY: u32 = 0b10 << 1;
    /// FID of the number of queues (5.27.1.5).
    pub(in crate::nvme) const NUMBER_OF_QUEUES: u32 = 0x07;
}

/// Opcodes of commands to a namespace (NVM 3.2, base 7.1).
pub(super) mod io {
    pub(in crate::nvme) const FLUSH: u8 = 0x00;
    pub(in crate::nvme) const WRITE: u8 = 0x01;
    pub(in crate::nvme) const READ: u8 = 0x02;
}

/// What [`IDENTIFY`](admin::IDENTIFY) tells (5.17): 4096 bytes, of which CNS in CDW10 says what they are.
pub(super) mod identify {
    /// A namespace (NVM 4.1.5.1).
    pub(in crate::nvme) const NAMESPACE: u32 = 0x00;
    /// The controller (5.17.2.1).
    pub(in crate::nvme) const CONTROLLER: u32 = 0x01;
    /// Active namespaces above the one that is named (5.17.2.2): numbers of 32 bits, in order, 0 after the last.
    pub(in crate::nvme) const ACTIVE_NAMESPACES: u32 = 0x02;
    /// Bytes in the answer.
    pub(in crate::nvme) const SIZE: usize = 4096;

    /// Offsets in what is told of the controller.
    pub(in crate::nvme) mod controller {
        /// MDTS, 8 bits: one command moves 2ⁿ of the smallest pages at most; 0 is no limit.
        pub(in crate::nvme) const MOST_DATA: usize = 77;
        /// CNTRLTYPE, 8 bits: see [`IO_CONTROLLER`].
        pub(in crate::nvme) const KIND: usize = 111;
        /// SQES, 8 bits: log₂ of the bytes that an entry of a submission queue needs, in bits 3:0.
        pub(in crate::nvme) const SUBMISSION_ENTRY: usize = 512;
        /// CQES, 8 bits: the same of completion queues.
        pub(in crate::nvme) const COMPLETION_ENTRY: usize = 513;
        /// NN, 32 bits: the highest number of a namespace.
        pub(in crate::nvme) const NAMESPACES: usize = 516;
        /// VWC, 8 bits: bit 0 tells of a cache that loses what is in it with the power.
        pub(in crate::nvme) const CACHE: usize = 525;

        /// [`KIND`] of a controller for reads and writes; before version 1.4 it was 0.
        pub(in crate::nvme) const IO_CONTROLLER: u8 = 1;
    }

    /// Offsets in what is told of a namespace.
    pub(in crate::nvme) mod namespace {
        /// NSZE, 64 bits: size in blocks; 0 if the namespace is not active.
        pub(in crate::nvme) const BLOCKS: usize = 0;
        /// FLBAS, 8 bits: [`Format`](super::super::Format).
        pub(in crate::nvme) const FORMAT: usize = 26;
        /// DPS, 8 bits: the kind of end-to-end protection in bits 2:0; 0 is none.
        pub(in crate::nvme) const PROTECTION: usize = 29;
        /// NSATTR, 8 bits: bit 0 tells that the namespace cannot be written.
        pub(in crate::nvme) const ATTRIBUTES: usize = 99;
        /// LBAF0 and those that follow, 32 bits each: [`BlockFormat`](super::super::BlockFormat).
        pub(in crate::nvme) const BLOCK_FORMATS: usize = 128;
    }
}

/// FLBAS (NVM 4.1.5.1): which format the namespace has.
#[bitfield(u8)]
pub(super) struct Format {
    /// Bits 3:0 of the format's number.
    #[bits(4)]
    low: u8,
    /// Metadata follows each block's data.
    pub(super) extended: bool,
    /// Bits 5:4 of the format's number, since version 2.0.
    #[bits(2)]
    high: u8,
    #[bits(1)]
    __: u8,
}

impl Format {
    /// The format's number, from 0 to 63.
    pub(super) fn number(self) -> usize {
        usize::from(self.high() << 4 | self.low())
    }
}

/// LBAF (NVM 4.1.5.1): a format of blocks.
#[bitfield(u32)]
pub(super) struct BlockFormat {
    /// MS: bytes of metadata for each block.
    pub(super) metadata: u16,
    /// LBADS: a block has 2ⁿ bytes.
    pub(super) shift: u8,
    __: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NVME_CAP_MQES` and the others of Linux: bits 15:0, 31:24, 35:32, 51:48; `NVME_CAP_CMBS` is bit 57, `NVME_CAP_CRMS_CRWMS` 59.
    #[test]
    fn capabilities_are_laid_out_as_linux_has_them() {
        let bits = 0x3ff | 0x14 << 24 | 3 << 32 | 1 << 37 | 2 << 48 | 1 << 57 | 1 << 59;
        let capabilities = Capabilities::new()
            .with_most_entries(0x3ff)
            .with_timeout(0x14)
            .with_doorbell_stride(3)
            .with_nvm_command_set(true)
            .with_smallest_page(2)
            .with_memory_buffer(true)
            .with_ready_with_media(true);
        assert_eq!(capabilities.into_bits(), bits);
    }

    /// `NVME_CC_SHN_NORMAL` is 1 << 14, `NVME_CC_IOSQES` 6 << 16, `NVME_CC_IOCQES` 4 << 20.
    #[test]
    fn configuration_is_laid_out_as_linux_has_it() {
        let configuration = Configuration::new()
            .with_enabled(true)
            .with_shutdown(1)
            .with_submission_entry(submission::SHIFT)
            .with_completion_entry(completion::SHIFT);
        assert_eq!(configuration.into_bits(), 1 | 1 << 14 | 6 << 16 | 4 << 20);
    }

    /// `struct nvme_rw_command` of Linux: `prp1` at 24, `slba` at 40, `length` at 48.
    #[test]
    fn a_command_is_laid_out_as_linux_has_it() {
        let command =
            Command { opcode: io::READ, namespace: 0x0403_0201, pointers: [5, 6], arguments: [7, 8, 9] };
        let bytes = command.to_bytes(0x0b0a);
        assert_eq!(bytes[..8], [2, 0, 0x0a, 0x0b, 1, 2, 3, 4]);
        assert_eq!([bytes[24], bytes[32], bytes[40], bytes[44], bytes[48]], [5, 6, 7, 8, 9]);
        assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 12);
    }

    /// `struct nvme_completion` of Linux ends with `command_id`, and `status`, whose bit 0 is the phase; `NVME_STATUS_DNR` is 0x4000 without
    /// it.
    #[test]
    fn an_ending_is_laid_out_as_linux_has_it() {
        let ending = Ending::new().with_command(0x0102).with_phase(true).with_status(0x4281);
        assert_eq!(ending.into_bits(), 0x0102 | (0x4281 << 1 | 1) << 16);
        let status = EndStatus::from_bits(0x4281);
        assert_eq!((status.code(), status.is_final()), (0x281, true));
    }

    /// `NVME_NS_FLBAS_LBA_UMASK` is 0x60, and `NVME_NS_FLBAS_META_EXT` 0x10.
    #[test]
    fn a_formats_number_has_two_parts() {
        assert_eq!(Format::from_bits(0x6f).number(), 63);
        assert_eq!(Format::from_bits(0x11).number(), 1);
        assert!(Format::from_bits(0x11).extended() && !Format::from_bits(0x6f).extended());
    }
}
