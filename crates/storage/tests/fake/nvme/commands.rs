//! What commands do: those of the administration, and requests of a disk.

use super::model::{Fault, Namespace};
use super::queues::Queue;
use super::{Done, PAGE, World};

impl World {
    pub(super) fn administer(&mut self, command: &[u8]) -> Option<u16> {
        self.admin_commands += 1;
        let (opcode, argument) = (command[0], word(command, 40));
        let namespace = word(command, 4);
        match self.model.fault {
            Fault::SilentFrom(first) if self.admin_commands > first => return None,
            Fault::Refuses(refused, low, status)
                if refused == opcode && low.is_none_or(|low| low == argument as u8) =>
            {
                self.trace.push(format!("refused {opcode:#04x} {argument:#x}"));
                return Some(status);
            }
            Fault::AdminUnreadyUntil(time, status) if opcode == 6 && self.machine.now < time => {
                return Some(status);
            }
            _ => {}
        }
        match opcode {
            0x05 => self.create_completion_queue(command),
            0x01 => self.create_submission_queue(command),
            0x06 => return Some(self.identify(command, argument, namespace)),
            0x09 => {
                assert_eq!((argument, word(command, 44)), (7, 0), "one queue of each kind");
                self.trace.push(String::from("one queue of each kind"));
            }
            _ => panic!("admin command {opcode:#x}"),
        }
        Some(0)
    }

    fn create_completion_queue(&mut self, command: &[u8]) {
        let (size, flags) = (word(command, 40), word(command, 44));
        assert_eq!((size & 0xffff, flags), (1, 1), "queue 1, contiguous, without interrupts");
        let entries = self.checked_entries(size);
        self.queues[1] = Some(Queue::new(0, long(command, 24), entries));
        self.trace.push(format!("completion queue of {entries}"));
    }

    fn create_submission_queue(&mut self, command: &[u8]) {
        let (size, flags) = (word(command, 40), word(command, 44));
        assert_eq!((size & 0xffff, flags & !6), (1, 1 << 16 | 1), "queue 1, answered in 1, contiguous");
        let entries = self.checked_entries(size);
        let completion = self.queues[1].as_ref().expect("the completion queue comes first").completion;
        self.queues[1] = Some(Queue::new(long(command, 24), completion, entries));
        self.trace.push(format!("submission queue of {entries}"));
    }

    fn checked_entries(&self, size: u32) -> u16 {
        let quirk = [(0x144d, 0xa821), (0x144d, 0xa822)].contains(&self.model.ids);
        let most = if quirk { 64 } else { u32::from(self.model.most_entries) + 1 };
        let entries = (size >> 16) + 1;
        assert!((2..=most).contains(&entries), "a queue of {entries} entries");
        entries as u16
    }

    fn identify(&mut self, command: &[u8], structure: u32, namespace: u32) -> u16 {
        let mut told = vec![0; 4096];
        match structure {
            0 => {
                self.trace.push(format!("identify namespace {namespace}"));
                if let Some(found) = self.model.namespaces.get(&namespace) {
                    describe(found, &mut told);
                }
            }
            1 => {
                self.trace.push(String::from("identify controller"));
                let last = self.model.namespaces.keys().max().copied().unwrap_or(0);
                (told[77], told[111]) = (self.model.most_data, u8::from(self.model.version >= 0x0001_0400));
                (told[512], told[513]) = (0x66, 0x44);
                told[516..520].copy_from_slice(&last.to_le_bytes());
                told[525] = u8::from(self.model.cached);
            }
            2 if self.model.version < 0x0001_0100 => return 0x02,
            2 => {
                self.trace.push(format!("namespaces above {namespace}"));
                let above = self.model.namespaces.keys().filter(|&&id| id > namespace);
                let mut list: Vec<u32> = above.copied().collect();
                if let Fault::Lists(first) = self.model.fault {
                    list.insert(0, first);
                }
                for (entry, id) in list.into_iter().enumerate() {
                    told[4 * entry..4 * entry + 4].copy_from_slice(&id.to_le_bytes());
                }
            }
            _ => panic!("structure {structure}"),
        }
        if let Fault::Claims(offset, byte) = self.model.fault {
            told[offset] = byte;
        }
        if self.model.fault != Fault::SaysNothing {
            self.write_data(command, &told);
        }
        0
    }

    pub(super) fn transfer(&mut self, command: &[u8]) -> u16 {
        let (opcode, namespace) = (command[0], word(command, 4));
        let Some(shift) = self.model.namespaces.get(&namespace).map(|namespace| namespace.shift) else {
            panic!("a request to namespace {namespace}, which is not there");
        };
        let (block, blocks) = match opcode {
            0 => (0, 0),
            _ => (long(command, 40), u64::from(word(command, 48) & 0xffff) + 1),
        };
        self.done.push(Done { opcode, namespace, block, blocks });
        match self.model.fault {
            Fault::FailsAtFirst(requests, status) if self.done.len() <= requests => return status,
            Fault::UnreadyUntil(time, status) if self.machine.now < time => return status,
            _ => {}
        }
        if let Fault::BadBlock(bad, status) = self.model.fault
            && (block..block + blocks).contains(&bad)
        {
            return status;
        }
        let (start, len) = ((block << shift) as usize, (blocks << shift) as usize);
        if (1..32).contains(&self.model.most_data) {
            assert!(len <= PAGE << self.model.most_data, "{len} bytes are more than one command may move");
        }
        match opcode {
            0 => {
                let content = self.contents.get_mut(&namespace).unwrap();
                content.durable.clone_from(&content.disk);
            }
            1 => {
                let bytes = self.read_data(command, len);
                self.contents.get_mut(&namespace).unwrap().disk[start..start + len].copy_from_slice(&bytes);
            }
            2 => {
                let bytes = self.contents[&namespace].disk[start..start + len].to_vec();
                self.write_data(command, &bytes);
            }
            _ => panic!("request {opcode:#x}"),
        }
        0
    }

    /// Pages of a command's data, each with the bytes that are in it.
    fn pages(&mut self, command: &[u8], len: usize) -> Vec<(u64, usize)> {
        let (first, second) = (long(command, 24), long(command, 32));
        let count = len.div_ceil(PAGE);
        let mut pages = vec![first];
        match count {
            0 | 1 => assert_eq!(second, 0, "PRP2 is reserved"),
            2 => pages.push(second),
            _ => {
                let bytes = 8 * (count - 1);
                assert!(second % 4096 + bytes as u64 <= 4096, "the list crosses a page");
                let list = self.machine.device_read(second, bytes);
                pages.extend((0..count - 1).map(|entry| long(&list, 8 * entry)));
            }
        }
        assert!(pages.iter().all(|page| page.is_multiple_of(4096)), "pages begin with pages: {pages:x?}");
        let in_page = |number: usize| (len - number * PAGE).min(PAGE);
        pages.into_iter().enumerate().map(|(number, page)| (page, in_page(number))).collect()
    }

    fn write_data(&mut self, command: &[u8], bytes: &[u8]) {
        let mut at = 0;
        for (page, len) in self.pages(command, bytes.len()) {
            self.machine.device_write(page, &bytes[at..at + len]);
            at += len;
        }
    }

    fn read_data(&mut self, command: &[u8], len: usize) -> Vec<u8> {
        let pages = self.pages(command, len);
        pages.into_iter().flat_map(|(page, len)| self.machine.device_read(page, len)).collect()
    }
}

fn describe(namespace: &Namespace, told: &mut [u8]) {
    told[..8].copy_from_slice(&namespace.blocks.to_le_bytes());
    told[26] = namespace.format & 0xf | namespace.format >> 4 << 5;
    told[29] = namespace.protection;
    told[99] = u8::from(namespace.write_protected);
    // The other formats are of no use.
    let format = 128 + 4 * usize::from(namespace.format);
    told[format..format + 2].copy_from_slice(&namespace.metadata.to_le_bytes());
    told[format + 2] = namespace.shift;
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
