//! What commands do, and how they end.

use super::model::{Attached, Cache, DiskModel, Fault};
use super::{IFS, PCS, PRCS, REGISTER, SET_DEVICE_BITS, TFES, World};

impl World {
    pub(super) fn execute(&mut self, number: usize, slot: u32) {
        let (list, fault) = (self.ports[number].list, self.model.fault);
        let header = self.machine.device_read(list + 32 * u64::from(slot), 16);
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let flags = word(&header, 0);
        assert_eq!(flags & 0xffbf, 5, "a FIS of 20 bytes, no port of a multiplier");
        let table = u64::from_le_bytes(header[8..16].try_into().unwrap());
        assert!(table.is_multiple_of(128) && list.is_multiple_of(1024));
        let fis = self.machine.device_read(table, 20);
        assert_eq!(fis[..2], [0x27, 0x80]);
        let region = (flags >> 16 != 0).then(|| {
            assert_eq!(flags >> 16, 1);
            let region = self.machine.device_read(table + 0x80, 16);
            let address = u64::from_le_bytes(region[..8].try_into().unwrap());
            (address, word(&region, 12) as usize + 1, flags & 0x40 != 0)
        });
        let code = fis[2];
        let block = u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]);
        let (features, count) =
            (u16::from_le_bytes([fis[3], fis[11]]), u16::from_le_bytes([fis[12], fis[13]]));
        let Attached::Disk(model) = self.model.ports[number].clone() else { panic!("a command for no disk") };
        let is_queued = matches!(code, 0x60 | 0x61);
        if code != 0xec && matches!(fault, Fault::IdentifyJunk(_)) {
            return self.fail(number, 0x0451, TFES);
        }
        let port = &mut self.ports[number];
        let others = (port.issued | port.active) & !(1 << slot);
        let is_alone = others == 0 || is_queued && port.issued & !port.active == 0;
        if is_queued != (port.active >> slot & 1 != 0) || !is_alone {
            // A driver that was told lies takes commands for done.
            assert!(matches!(fault, Fault::Junk(_)), "queued commands have a bit in SACT, others are alone");
            return self.fail(number, 0x0451, TFES);
        }
        if port.stale {
            return self.fail(number, 0x0451, TFES);
        }
        if code != 0xec {
            match fault {
                Fault::LinkBreaks(at, slowness) if port.done.len() == at => {
                    return self.break_link(number, slowness);
                }
                Fault::PowerFails(at, slowness) if port.done.len() == at => {
                    return self.lose_power(number, slowness);
                }
                Fault::LinkAlwaysBreaks => {
                    port.stale = true;
                    return self.fail(number, 0x80, IFS);
                }
                Fault::Swapped(at) if port.done.len() == at => {
                    port.done.push((0, 0));
                    port.serial += 1;
                    return self.fail(number, 0x80, PCS | PRCS);
                }
                Fault::Pulled(at) if port.done.len() == at => {
                    self.model.ports[number] = Attached::Nothing;
                    self.ports[number].detection = 0;
                    return self.fail(number, 0x7f, PRCS);
                }
                Fault::DeadAfter(requests) if port.done.len() >= requests => return,
                _ => {}
            }
        }
        let blocks = match code {
            0x60 | 0x61 => {
                assert_eq!(u32::from(count), slot << 3, "the tag");
                assert!(slot < model.depth && self.model.queuing);
                features
            }
            _ => count,
        };
        if let Fault::BadBlock(bad) = fault
            && (block..block + u64::from(blocks)).contains(&bad)
        {
            let queued = self.ports[number].active != 0;
            self.ports[number].stale = queued;
            return self.fail(number, 0x4051, TFES);
        }
        let at = block as usize * model.block_size as usize;
        let len = usize::from(blocks) * model.block_size as usize;
        match (code, region) {
            (0xec, Some((address, 512, false))) => return self.identify(number, slot, address, &model),
            (0x25 | 0x60, Some((address, size, false))) => {
                assert_eq!((size, fis[7]), (len, 0x40));
                let bytes = self.ports[number].disk[at..at + len].to_vec();
                self.machine.device_write(address, &bytes);
            }
            (0x35 | 0x61, Some((address, size, true))) => {
                assert_eq!((size, fis[7]), (len, 0x40));
                let bytes = self.machine.device_read(address, len);
                self.ports[number].disk[at..at + len].copy_from_slice(&bytes);
                if model.cache == Cache::Off {
                    self.flush(number);
                }
            }
            (0xea, None) if model.long_flush => self.flush(number),
            (0xe7, None) if !model.long_flush => self.flush(number),
            _ => panic!("command {code:#x} with {region:?}"),
        }
        self.ports[number].done.push((code, block));
        self.complete(number, slot);
    }

    fn identify(&mut self, number: usize, slot: u32, address: u64, model: &DiskModel) {
        let mut words = [0_u16; 256];
        let mut put = |at: usize, value: u16| words[at] = value;
        put(10, self.ports[number].serial);
        put(75, model.depth.saturating_sub(1) as u16);
        put(76, if model.depth > 0 { 1 << 8 } else { 0 });
        put(83, 0x4000 | u16::from(model.long_addresses) << 10 | u16::from(model.long_flush) << 13);
        put(85, u16::from(model.cache == Cache::On) << 5);
        put(87, 0x4000);
        (0..4).for_each(|word| put(100 + word, (model.blocks >> (16 * word)) as u16));
        if model.block_size != 512 {
            put(106, 0x4000 | 1 << 12);
            put(117, (model.block_size / 2) as u16);
        }
        put(128, if model.locked { 0b111 } else { 0b001 });
        match self.model.fault {
            Fault::IdentifyHangs => return,
            Fault::IdentifyFails => return self.fail(number, 0x0451, TFES),
            Fault::IdentifyLost => {
                self.model.fault = Fault::None;
                return self.fail(number, 0x80, IFS);
            }
            Fault::IdentifyJunk(seed) => {
                let mut random = seed;
                for word in &mut words {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    *word = if random >> 60 == 0 { (random >> 33) as u16 } else { *word };
                }
            }
            _ => {}
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.machine.device_write(address, &bytes);
        self.complete(number, slot);
    }

    fn flush(&mut self, number: usize) {
        let port = &mut self.ports[number];
        port.durable.clone_from(&port.disk);
    }

    fn complete(&mut self, number: usize, slot: u32) {
        let port = &mut self.ports[number];
        let fis = if port.active >> slot & 1 != 0 { SET_DEVICE_BITS } else { REGISTER };
        (port.issued, port.active) = (port.issued & !(1 << slot), port.active & !(1 << slot));
        port.events |= 1;
        self.store(number, fis);
    }

    /// Stores a FIS of the disk, of which drivers need the type only.
    pub(super) fn store(&mut self, number: usize, (place, code): (u64, u8)) {
        if self.model.fault != Fault::StoresNothing {
            let received = self.ports[number].received;
            self.machine.device_write_now(received + place, &[code, 0, 0, 0]);
        }
    }

    pub(super) fn fail(&mut self, number: usize, task_file: u32, events: u32) {
        let port = &mut self.ports[number];
        (port.task_file, port.halted) = (task_file, true);
        port.events |= events;
        if events == TFES {
            self.store(number, REGISTER);
        }
    }
}
