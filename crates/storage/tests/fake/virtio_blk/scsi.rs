//! The SCSI host: it has units of several kinds, all of which share one disk's content.

use super::World;

/// What a host is like.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Its units, by target and number.
    pub(crate) units: Vec<(u8, u16, Unit)>,
    pub(crate) block_size: u32,
    pub(crate) last_target: u16,
    /// Sectors that one command should move at most.
    pub(crate) max_sectors: u32,
    pub(crate) sense_size: u32,
    /// Commands that each unit refuses before the first that it does: response, status, sense key, additional code.
    pub(crate) refusals: Vec<(u8, u8, u8, u16)>,
    /// Commands with this code fail for ever, in the same way.
    pub(crate) refused_code: Option<(u8, (u8, u8, u8, u16))>,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Disk,
    ReadOnlyDisk,
    Optical,
    /// The target lists it, and there is nothing.
    Absent,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            units: vec![(3, 0, Unit::Optical), (5, 0x102, Unit::Disk)],
            block_size: 512,
            last_target: 7,
            max_sectors: 0xffff,
            sense_size: 96,
            refusals: Vec::new(),
            refused_code: None,
        }
    }
}

/// Codes of responses and statuses.
const BAD_TARGET: u8 = 3;
const CHECK_CONDITION: u8 = 2;

impl World {
    /// The queue that takes requests.
    pub(super) fn request_queue(&self) -> u16 {
        if self.model.host.is_some() { 2 } else { 0 }
    }

    pub(super) fn last_target(&self) -> u16 {
        self.model.host.as_ref().map_or(0, |host| host.last_target)
    }

    pub(super) fn host_configuration(&self, offset: usize) -> u32 {
        let host = self.model.host.as_ref().unwrap();
        match offset {
            8 => host.max_sectors,
            20 => host.sense_size,
            24 => 32,
            _ => panic!("configuration of a host at {offset}"),
        }
    }

    pub(super) fn complete_command(&mut self, host: &Host, head: u16, chain: &[(u64, usize, bool)]) {
        let (header, data, response) = match *chain {
            [(header, 51, false), (response, 108, true)] => (header, None, response),
            [(header, 51, false), (data, len, false), (response, 108, true)] => {
                (header, Some((data, len, false)), response)
            }
            [(header, 51, false), (response, 108, true), (data, len, true)] => {
                (header, Some((data, len, true)), response)
            }
            _ => {
                assert!(self.lies(), "no command, data and response: {chain:?}");
                return self.answer(head, 0);
            }
        };
        let header = self.machine.device_read(header, 51);
        assert_eq!((header[0], header[2] >> 6, &header[4..8]), (1, 1, &[0; 4][..]));
        let (target, number) = (header[1], u16::from_be_bytes([header[2] & 0x3f, header[3]]));
        let cdb = &header[19..35];
        let (result, moved) = self.execute(host, (target, number), cdb, data);
        let (code, status, key, additional) = result;
        let sense_len: u32 = if key == 0 { 0 } else { 18 };
        let mut bytes = [0; 108];
        bytes[..4].copy_from_slice(&sense_len.to_le_bytes());
        let asked = data.map_or(0, |(_, len, _)| len);
        bytes[4..8].copy_from_slice(&((asked - moved) as u32).to_le_bytes());
        (bytes[10], bytes[11]) = (status, code);
        if key != 0 {
            (bytes[12], bytes[14]) = (0x70, key);
            bytes[24..26].copy_from_slice(&additional.to_be_bytes());
        }
        self.machine.device_write(response, &bytes);
        // QEMU counts data that the device read, too.
        self.answer(head, 108 + moved as u32);
    }

    /// Does a command; gives response, status, sense key and additional code, and how many bytes were moved.
    fn execute(
        &mut self,
        host: &Host,
        place: (u8, u16),
        cdb: &[u8],
        data: Option<(u64, usize, bool)>,
    ) -> ((u8, u8, u8, u16), usize) {
        const GOOD: (u8, u8, u8, u16) = (0, 0, 0, 0);
        let of_target: Vec<_> = host.units.iter().filter(|(target, ..)| *target == place.0).collect();
        if of_target.is_empty() {
            return ((BAD_TARGET, 0, 0, 0), 0);
        }
        if let Some(refusal) = self.model.host.as_mut().and_then(|host| host.refusals.pop()) {
            return (refusal, 0);
        }
        if let Some((code, refusal)) = host.refused_code
            && code == cdb[0]
        {
            return (refusal, 0);
        }
        let unit = of_target.iter().find(|(_, number, _)| *number == place.1).map(|(.., unit)| *unit);
        let block = u64::from_be_bytes(cdb[2..10].try_into().unwrap());
        let count = u32::from_be_bytes(cdb[10..14].try_into().unwrap());
        // Other commands have something else there.
        let at = (block as usize).wrapping_mul(host.block_size as usize);
        let len = count.wrapping_mul(host.block_size) as usize;
        let answer = match (cdb[0], data) {
            (0xa0, Some((_, 4096, true))) => {
                let mut list = vec![0; 8 + 8 * of_target.len()];
                list[..4].copy_from_slice(&(8 * of_target.len() as u32).to_be_bytes());
                for (entry, (_, number, _)) in list[8..].chunks_mut(8).zip(&of_target) {
                    let method = if *number > 255 { 0x4000 } else { 0 };
                    entry[..2].copy_from_slice(&(method | number).to_be_bytes());
                }
                list
            }
            (0x12, Some((_, 36, true))) => {
                let first = match unit {
                    Some(Unit::Disk | Unit::ReadOnlyDisk) => 0,
                    Some(Unit::Optical) => 5,
                    Some(Unit::Absent) | None => 0x7f,
                };
                [&[first][..], &[0; 35]].concat()
            }
            (0x9e, Some((_, 32, true))) => {
                let last = self.disk.len() as u64 / u64::from(host.block_size) - 1;
                [&last.to_be_bytes()[..], &host.block_size.to_be_bytes(), &[0; 20]].concat()
            }
            (0x1a, Some((_, 192, true))) => {
                vec![3, 0, if unit == Some(Unit::ReadOnlyDisk) { 0x80 } else { 0 }, 0]
            }
            (0x88, Some((_, size, true))) => {
                assert_eq!((unit, size), (Some(Unit::Disk), len));
                self.disk[at..at + len].to_vec()
            }
            (0x8a, Some((address, size, false))) => {
                assert_eq!((unit, size), (Some(Unit::Disk), len));
                assert!(len <= host.max_sectors as usize * 512);
                let bytes = self.machine.device_read(address, len);
                self.disk[at..at + len].copy_from_slice(&bytes);
                self.done.push((0x8a, block));
                return (GOOD, len);
            }
            (0x35, None) => {
                self.durable.clone_from(&self.disk);
                self.done.push((0x35, 0));
                return (GOOD, 0);
            }
            _ if self.lies() => return ((0, CHECK_CONDITION, 5, 0x2000), 0),
            _ => panic!("command {cdb:x?} with {data:?}"),
        };
        self.done.push((cdb[0].into(), block));
        let (address, ..) = data.unwrap();
        self.machine.device_write(address, &answer);
        (GOOD, answer.len())
    }
}
