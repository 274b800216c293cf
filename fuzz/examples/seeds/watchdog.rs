//! A table WDAT for Intel's TCO timer, and a management controller whose timer runs.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("tco", with_table(&wdat(), &[0x0A, 0].repeat(40))), ("controller", with_table(&[], &controller()))]
}

fn with_table(table: &[u8], answers: &[u8]) -> Vec<u8> {
    [&(table.len() as u16).to_le_bytes(), table, answers].concat()
}

fn wdat() -> Vec<u8> {
    let mut table = vec![0; 48];
    for number in [600u32, 200, 2, 1, 5] {
        table.extend(number.to_le_bytes());
    }
    // Action, instruction, lowest bit, port, value, mask.
    let entries: [(u8, u8, u8, u64, u32, u32); 5] = [
        (1, 2, 0, 0x660, 1, 0x3FF),
        (4, 1, 0, 0x660, 0, 0x3FF),
        (5, 1, 0, 0x672, 0, 0x3FF),
        (6, 0x83, 0, 0x672, 0, 0x3FF),
        (8, 0, 11, 0x668, 0, 1),
    ];
    for (action, instruction, bit, port, value, mask) in entries {
        table.extend([action, instruction, 0, 0, 1, 16, bit, 2]);
        table.extend(port.to_le_bytes());
        table.extend([value, mask].map(u32::to_le_bytes).as_flattened());
    }
    table
}

/// What the ports read as while the timer is asked for, set, and pinged three times.
fn controller() -> Vec<u8> {
    let mut answers = vec![0];
    answers.extend(exchange(2, &[0x1C, 0x25, 0, 0xC4, 1, 5, 0x10, 80, 0, 80, 0]));
    answers.extend(exchange(8, &[0x1C, 0x24, 0]));
    answers.extend(exchange(2, &[0x1C, 0x22, 0]).repeat(3));
    answers
}

/// Status and data in turn: idle, writing, reading, idle (IPMI 2.0, section 9.3).
fn exchange(request_bytes: usize, answer: &[u8]) -> Vec<u8> {
    let mut read = vec![0x00, 0];
    read.extend([0x80, 0].repeat(request_bytes + 1));
    read.extend(answer.iter().flat_map(|byte| [0x41, *byte]));
    read.extend([0x01, 0]);
    read
}
