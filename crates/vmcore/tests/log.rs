//! The dead kernel's log, in rings and buffers that are filled as Linux fills them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use std::collections::VecDeque;
use std::convert::Infallible;

use fixtures::Memory;
use fixtures::info::{UP_TO_6_2, printk_records, printk_ring};
use fixtures::kernel::{machine, vmcoreinfo};
use machine::{OldMemory, PhysicalAddress, Range, Unreadable};
use proptest::prelude::*;
use vmcore::{Kernel, LogError, Unknown, VmcoreInfo};

/// Virtual address of physical address 0 in the direct map.
const DIRECT: u64 = 0xffff_8880_0000_0000;
/// Where all that belongs to the log is in physical memory.
const POINTER: u64 = 0x9000;
const RING: u64 = 0x9100;
const DESCRIPTORS: u64 = 0x1_0000;
const INFOS: u64 = 0x2_0000;
const TEXT: u64 = 0x10_0000;
const FINALIZED: u64 = 2 << 62;
const COMMITTED: u64 = 1 << 62;
const REUSABLE: u64 = 3 << 62;
const ID: u64 = (1 << 62) - 1;
/// Where the kernel's image is mapped to `POINTER`.
const VARIABLES: u64 = 0xffff_ffff_8000_9000;
/// Bytes of `struct printk_info`.
const INFO: u64 = 88;

/// What VMCOREINFO of 6.1 says of the ring.
fn ring_facts() -> String {
    printk_ring(VARIABLES, INFO)
}

/// What VMCOREINFO of 3.11 to 5.9 says of the buffer.
fn record_facts() -> String {
    printk_records(VARIABLES)
}

/// The log as text.
fn printed(memory: &impl OldMemory, facts: &str) -> Result<String, LogError> {
    let text = vmcoreinfo(UP_TO_6_2) + facts;
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let log = kernel.log(memory, || true)?;
    let mut printed = Vec::new();
    let Ok(()) = log.print(|piece| -> Result<(), Infallible> {
        printed.extend_from_slice(piece);
        Ok(())
    });
    assert_eq!(log.len(), printed.len() as u64);
    Ok(String::from_utf8(printed).unwrap())
}

/// A message that is still in a ring or a buffer.
#[derive(Clone, Debug)]
struct Kept {
    id: u64,
    time: u64,
    text: Vec<u8>,
    /// Where its text begins and ends; both odd if it has none.
    begin: u64,
    next: u64,
}

/// The line of a message without control characters.
fn line(time: u64, text: &[u8]) -> String {
    let seconds = time / 1_000_000_000;
    format!("[{seconds:5}.{:06}] {}\n", time % 1_000_000_000 / 1000, String::from_utf8_lossy(text))
}

fn lines<'a>(kept: impl IntoIterator<Item = &'a Kept>) -> String {
    kept.into_iter().map(|kept| line(kept.time, &kept.text)).collect()
}

/// The ring of 5.10 and later, filled as by `prb_reserve` and `prb_commit`.
struct Ring {
    memory: Memory,
    count_bits: u32,
    text_bits: u32,
    kept: VecDeque<Kept>,
    head: u64,
    text_head: u64,
}

impl Ring {
    fn new(count_bits: u32, text_bits: u32) -> Self {
        let mut ring = Self {
            memory: machine(1),
            count_bits,
            text_bits,
            kept: VecDeque::new(),
            // `DESC0_ID` and `BLK0_LPOS`
            head: (1u64 << count_bits).wrapping_add(1).wrapping_neg() & ID,
            text_head: (1u64 << text_bits).wrapping_neg(),
        };
        for index in 0..1 << count_bits {
            ring.memory.write_u64(DESCRIPTORS + index * 24, REUSABLE | ring.head);
        }
        ring.publish();
        ring
    }

    fn index(&self, id: u64) -> u64 {
        id & ((1 << self.count_bits) - 1)
    }

    /// The offset of a position in the ring of texts, and how often the ring was filled before.
    fn place(&self, position: u64) -> (u64, u64) {
        (position & ((1 << self.text_bits) - 1), position >> self.text_bits)
    }

    fn drop_oldest(&mut self) {
        let oldest = self.kept.pop_front().unwrap();
        self.memory.write_u64(DESCRIPTORS + self.index(oldest.id) * 24, REUSABLE | oldest.id);
    }

    fn print(&mut self, time: u64, text: &[u8]) {
        let id = (self.head + 1) & ID;
        if self.kept.len() == 1 << self.count_bits {
            self.drop_oldest();
        }
        let (begin, next) = if text.is_empty() { (3, 3) } else { self.reserve(text.len() as u64) };
        if !text.is_empty() {
            self.text_head = next;
            let ((mut at, turn), (_, next_turn)) = (self.place(begin), self.place(next));
            self.memory.write_u64(TEXT + at, id);
            if turn != next_turn {
                at = 0;
                self.memory.write_u64(TEXT, id);
            }
            self.memory.write(TEXT + at + 8, text);
        }
        self.kept.push_back(Kept { id, time, text: text.to_vec(), begin, next });
        self.head = id;
        let descriptor = DESCRIPTORS + self.index(id) * 24;
        for (at, value) in [(0, FINALIZED | id), (8, begin), (16, next)] {
            self.memory.write_u64(descriptor + at, value);
        }
        let info = INFOS + self.index(id) * 88;
        self.memory.write_u64(info + 8, time);
        self.memory.write(info + 16, &(text.len() as u16).to_le_bytes());
        self.publish();
    }

    /// Makes room for a text; returns where it begins and ends (`data_alloc`, `get_next_lpos`).
    fn reserve(&mut self, len: u64) -> (u64, u64) {
        let (begin, size) = (self.text_head, (8 + len).next_multiple_of(8));
        let (end, (_, turn)) = (begin.wrapping_add(size), self.place(begin));
        let (_, end_turn) = self.place(end);
        let next = if turn == end_turn { end } else { (end_turn << self.text_bits).wrapping_add(size) };
        let oldest = next.wrapping_sub(1 << self.text_bits);
        while self
            .kept
            .iter()
            .any(|kept| kept.begin != 3 && kept.begin.wrapping_sub(oldest).cast_signed() < 0)
        {
            self.drop_oldest();
        }
        (begin, next)
    }

    fn publish(&mut self) {
        let tail = self.kept.front().map_or(self.head, |kept| kept.id);
        self.memory.write_u64(POINTER, DIRECT + RING);
        let words = [
            u64::from(self.count_bits),
            DIRECT + DESCRIPTORS,
            DIRECT + INFOS,
            self.head,
            tail,
            u64::from(self.text_bits),
            DIRECT + TEXT,
        ];
        for (at, word) in (0..).step_by(8).zip(words) {
            self.memory.write_u64(RING + at, word);
        }
    }

    fn printed(&self) -> String {
        printed(&self.memory, &ring_facts()).unwrap()
    }
}

/// The buffer of 3.5 to 5.9, filled as by `log_store`.
struct Buffer {
    memory: Memory,
    len: u64,
    kept: VecDeque<Kept>,
    first: u64,
    next: u64,
}

impl Buffer {
    fn new(len: u64) -> Self {
        let mut buffer = Self { memory: machine(1), len, kept: VecDeque::new(), first: 0, next: 0 };
        buffer.publish();
        buffer
    }

    fn has_room(&self, size: u64) -> bool {
        let free = if self.next > self.first || self.kept.is_empty() {
            (self.len - self.next).max(self.first)
        } else {
            self.first - self.next
        };
        free >= size + 16
    }

    fn print(&mut self, time: u64, text: &[u8]) {
        let size = (16 + text.len() as u64 + 5).next_multiple_of(8);
        while !self.has_room(size) {
            self.kept.pop_front().unwrap();
            self.first = self.kept.front().map_or(self.next, |kept| kept.begin);
        }
        if self.next + size + 16 > self.len {
            self.memory.write(TEXT + self.next, &[0; 16]);
            self.next = 0;
            self.first = self.kept.front().map_or(0, |kept| kept.begin);
        }
        let begin = self.next;
        self.memory.write_u64(TEXT + begin, time);
        // A dictionary of five bytes follows the text.
        let lengths = [size as u16, text.len() as u16, 5, 0].map(u16::to_le_bytes);
        self.memory.write(TEXT + begin + 8, lengths.as_flattened());
        self.memory.write(TEXT + begin + 16, &[text, b"a=b\0c"].concat());
        self.next += size;
        self.kept.push_back(Kept { id: 0, time, text: text.to_vec(), begin, next: self.next });
        self.publish();
    }

    fn publish(&mut self) {
        self.memory.write_u64(POINTER, DIRECT + TEXT);
        self.memory.write_u64(POINTER + 8, self.len | self.first << 32);
        self.memory.write_u64(POINTER + 16, self.next);
    }

    fn printed(&self) -> String {
        printed(&self.memory, &record_facts()).unwrap()
    }
}

#[test]
fn messages_are_printed_as_dmesg_prints_them() {
    let mut ring = Ring::new(4, 10);
    ring.print(0, b"Linux version 6.1.0");
    ring.print(1_234_567_890, b"");
    ring.print(123_456_000_000_999, b"the end");
    assert_eq!(
        ring.printed(),
        "[    0.000000] Linux version 6.1.0\n[    1.234567] \n[123456.000000] the end\n"
    );
}

#[test]
fn each_line_has_the_time_and_what_could_command_a_terminal_is_escaped() {
    let mut ring = Ring::new(4, 10);
    ring.print(1_000, b"one\n\ttwo\r\x1b[2J\x00 caf\xc3\xa9 back\\slash \x7f\n");
    assert_eq!(
        ring.printed(),
        "[    0.000001] one\n[    0.000001] \ttwo\\x0d\\x1b[2J\\x00 caf\\xc3\\xa9 back\\slash \\x7f\n\
         [    0.000001] \n"
    );
}

#[test]
fn a_message_that_is_not_whole_is_left_out_and_one_that_may_be_continued_is_not() {
    let mut ring = Ring::new(4, 10);
    for text in [b"one", b"two", b"six"] {
        ring.print(0, text);
    }
    let state = |ring: &mut Ring, age: u64, state: u64| {
        let id = ring.head - age;
        ring.memory.write_u64(DESCRIPTORS + ring.index(id) * 24, state | id);
    };
    state(&mut ring, 1, 0);
    state(&mut ring, 0, COMMITTED);
    assert_eq!(ring.printed(), "[    0.000000] one\n[    0.000000] six\n");
}

#[test]
fn a_text_that_another_message_has_overwritten_is_left_out() {
    let mut ring = Ring::new(4, 10);
    ring.print(0, b"one");
    ring.print(0, b"two");
    ring.memory.write_u64(TEXT + ring.place(ring.kept[0].begin).0, 77);
    assert_eq!(ring.printed(), "[    0.000000] two\n");
}

/// Since 6.18 a text may end where the ring does (`is_blk_wrapped`).
#[test]
fn a_text_that_ends_with_the_ring_is_found() {
    let mut ring = Ring::new(4, 6);
    ring.print(0, &[b'a'; 24]);
    let id = ring.head + 1;
    ring.print(0, &[b'b'; 23]);
    // The kernel before wraps here; put it where a newer one does.
    let begin = ring.kept[0].next;
    ring.memory.write_u64(TEXT + 32, id);
    ring.memory.write(TEXT + 40, &[b'b'; 24]);
    ring.memory.write_u64(DESCRIPTORS + ring.index(id) * 24 + 8, begin);
    ring.memory.write_u64(DESCRIPTORS + ring.index(id) * 24 + 16, begin + 32);
    assert!(ring.printed().ends_with(&line(0, &[b'b'; 23])), "{}", ring.printed());
}

#[test]
fn what_cannot_be_read_ends_its_message_only() {
    let mut ring = Ring::new(4, 13);
    ring.print(0, b"one");
    ring.print(1_000, &[b'x'; 0x1100]);
    ring.print(2_000, b"two");
    ring.memory.punch(Range::<PhysicalAddress>::from(TEXT + 0x1000..TEXT + 0x1008));
    // The text is copied in pieces of 256 bytes, of which the sixteenth cannot be read.
    let x = "x".repeat(15 * 256);
    let expected = format!("[    0.000000] one\n[    0.000001] {x}\n[    0.000002] two\n");
    assert_eq!(ring.printed(), expected);
}

#[test]
fn an_output_that_fails_ends_the_printing() {
    let mut ring = Ring::new(6, 13);
    (0..40).for_each(|_| ring.print(0, &[b'x'; 100]));
    let text = vmcoreinfo(UP_TO_6_2) + &ring_facts();
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let mut calls = 0;
    let ended = kernel.log(&ring.memory, || true).unwrap().print(|_| {
        calls += 1;
        Err("full")
    });
    assert_eq!((ended, calls), (Err("full"), 1));
}

/// A million messages may take longer than a watchdog waits.
#[test]
fn without_more_time_the_newest_messages_are_the_log() {
    let (mut ring, mut buffer) = (Ring::new(6, 13), Buffer::new(0x1000));
    (0..40).for_each(|time| ring.print(time * 1000, b"one"));
    (0..40).for_each(|time| buffer.print(time * 1000, b"one"));
    let text = vmcoreinfo(UP_TO_6_2) + &ring_facts();
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let mut asked = 0;
    let go_on = || {
        asked += 1;
        asked <= 3
    };
    let newest = "[    0.000037] one\n[    0.000038] one\n[    0.000039] one\n";
    assert_eq!(kernel.log(&ring.memory, go_on).unwrap().len(), newest.len() as u64);
    assert!(ring.printed().ends_with(newest));
    let text = vmcoreinfo(UP_TO_6_2) + &record_facts();
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    assert_eq!(kernel.log(&buffer.memory, || false).err(), Some(LogError::Slow));
}

#[test]
fn the_records_of_older_kernels_are_printed_alike() {
    let mut buffer = Buffer::new(0x1000);
    buffer.print(0, b"Linux version 4.19");
    buffer.print(5_000_000_000, b"one\ntwo");
    let expected = "[    0.000000] Linux version 4.19\n[    5.000000] one\n[    5.000000] two\n";
    assert_eq!(buffer.printed(), expected);
    // 3.5 to 3.10 named the structure otherwise.
    let older = record_facts().replace("printk_log", "log");
    assert_eq!(printed(&buffer.memory, &older).unwrap(), expected);
}

#[test]
fn a_kernel_that_keeps_plain_text_is_not_known() {
    let facts = "SYMBOL(log_buf)=ffffffff80009000\nSYMBOL(log_end)=ffffffff80009008\n";
    let expected = Unknown("SYMBOL(prb) or SYMBOL(log_first_idx)");
    assert_eq!(printed(&machine(1), facts), Err(expected.into()));
}

#[test]
fn a_ring_that_cannot_be_is_refused() {
    let mut ring = Ring::new(4, 10);
    ring.print(0, b"one");
    ring.memory.write_u64(RING, 64);
    assert_eq!(printed(&ring.memory, &ring_facts()), Err(LogError::Absurd("number of messages")));
    ring.memory.write_u64(POINTER, 0x1234);
    assert!(matches!(printed(&ring.memory, &ring_facts()), Err(LogError::Unmapped(_))));
    let outside = ring_facts().replace("prb_data_ring.data)=8", "prb_data_ring.data)=18446744073709551615");
    assert_eq!(printed(&ring.memory, &outside), Err(Unknown("OFFSET(prb_data_ring)").into()));
}

/// A ring of two million descriptors which all say that the same 64 KiB are theirs, in memory that repeats itself.
struct Hall {
    sound: Memory,
    head: u64,
}

impl OldMemory for Hall {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        // Descriptors and texts are beyond the first 16 MiB, in one gibibyte that is mapped.
        let Some(offset) = address.get().checked_sub(16 << 20) else { return self.sound.read(address, into) };
        into.fill(0xff);
        if into.len() == 24 {
            let index = offset / 24;
            let id = (self.head & !0x1f_ffff) | index;
            let id = if id > self.head { id.wrapping_sub(0x20_0000) } else { id };
            into[..8].copy_from_slice(&(FINALIZED | id & ID).to_le_bytes());
            into[8..].copy_from_slice(&[[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0x10, 0, 0, 0, 0, 0]].concat());
        }
        if into.len() == 8 {
            into.copy_from_slice(&self.head.to_le_bytes());
        }
        Ok(())
    }
}

#[test]
fn a_ring_that_repeats_itself_is_printed_up_to_a_limit() {
    let mut ring = Ring::new(21, 20);
    ring.memory = machine(1);
    ring.head = (5 << 21) + 77;
    ring.publish();
    for at in [8, 16, 48] {
        ring.memory.write_u64(RING + at, DIRECT + (16 << 20));
    }
    let hall = Hall { sound: ring.memory, head: ring.head };
    let text = vmcoreinfo(UP_TO_6_2) + &ring_facts();
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let log = kernel.log(&hall, || true).unwrap();
    // 4 MiB of bytes, each of which is printed as four.
    assert!(log.len() <= (16 << 20) + (1 << 20), "{}", log.len());
}

#[test]
fn records_in_a_circle_are_left() {
    let mut buffer = Buffer::new(0x1000);
    (0..20).for_each(|_| buffer.print(0, b"one"));
    // An end of the buffer that is at its start, and one that leads to it.
    buffer.memory.write(TEXT + buffer.kept[1].begin, &[0; 16]);
    let printed = buffer.printed();
    assert!(printed.lines().count() <= 0x1000 / 24, "{printed}");
}

fn texts() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let text = prop::collection::vec(b' '..=b'~', 0..60);
    prop::collection::vec((0u64..1 << 50, text), 0..120)
}

proptest! {
    #[test]
    fn a_ring_gives_what_it_still_holds(texts in texts(), count_bits in 1u32..6, text_bits in 8u32..12) {
        let mut ring = Ring::new(count_bits, text_bits);
        for (time, text) in &texts {
            ring.print(*time, text);
        }
        prop_assert_eq!(ring.printed(), lines(&ring.kept));
    }

    #[test]
    fn a_buffer_gives_what_it_still_holds(texts in texts(), len in 64u64..256) {
        let mut buffer = Buffer::new(len * 8);
        for (time, text) in texts.iter().filter(|(_, text)| text.len() < 30) {
            buffer.print(*time, text);
        }
        prop_assert_eq!(buffer.printed(), lines(&buffer.kept));
    }

    #[test]
    fn whatever_memory_holds_the_printing_ends(
        words in prop::collection::vec((0u64..0x200, any::<u64>(), 0u32..64), 0..60),
        facts in prop::sample::select(vec![ring_facts(), record_facts()]),
    ) {
        let mut ring = Ring::new(4, 10);
        (0..30).for_each(|_| ring.print(0, b"one two three"));
        for (at, word, shift) in words {
            let place = match at % 4 {
                0 => POINTER + at / 4 % 4 * 8,
                1 => RING + at / 4 % 9 * 8,
                2 => DESCRIPTORS + at / 4 * 8,
                _ => TEXT + at / 4 * 8,
            };
            let word = if shift % 2 == 0 { word >> shift } else { DIRECT + (word & 0x7ff_ffff) };
            ring.memory.write_u64(place, word);
        }
        if let Ok(printed) = printed(&ring.memory, &facts) {
            prop_assert!(printed.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')));
        }
    }
}
