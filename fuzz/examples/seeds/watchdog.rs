//! A table WDAT for Intel's TCO timer, and a management controller whose timer runs.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("tco", with_table(&fixtures::wdat(200), &[0x0A, 0].repeat(40))),
        ("controller", with_table(&[], &controller())),
    ]
}

fn with_table(table: &[u8], answers: &[u8]) -> Vec<u8> {
    [&(table.len() as u16).to_le_bytes(), table, answers].concat()
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
