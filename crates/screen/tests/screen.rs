//! What is drawn, pixel by pixel, and which framebuffers are refused.

use std::time::Duration;

use proptest::prelude::*;
use screen::{
    CELL_HEIGHT, CELL_WIDTH, COLUMNS, Ink, Mode, Panel, Pixels, Progress, ROWS, Stage, Standing, Unusable,
    glyph,
};

/// The shape of a framebuffer, with the names of `screen_info`.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: u8,
    width: u16,
    height: u16,
    depth: u16,
    pitch: u16,
    base: u64,
    /// Sizes and positions of red, green and blue.
    channels: [u8; 6],
}

const PLAIN: Shape = Shape {
    kind: 0x70,
    width: 1024,
    height: 768,
    depth: 32,
    pitch: 4096,
    base: 0xC000_0000,
    channels: [8, 16, 8, 8, 8, 0],
};

impl Shape {
    fn mode(self) -> Result<Mode, Unusable> {
        let mut info = [0; 64];
        info[0x0f] = self.kind;
        info[0x12..0x14].copy_from_slice(&self.width.to_le_bytes());
        info[0x14..0x16].copy_from_slice(&self.height.to_le_bytes());
        info[0x16..0x18].copy_from_slice(&self.depth.to_le_bytes());
        info[0x18..0x1c].copy_from_slice(&(self.base as u32).to_le_bytes());
        info[0x24..0x26].copy_from_slice(&self.pitch.to_le_bytes());
        info[0x26..0x2c].copy_from_slice(&self.channels);
        info[0x36] = 2;
        info[0x3a..0x3e].copy_from_slice(&((self.base >> 32) as u32).to_le_bytes());
        Mode::of_screen_info(&info)
    }
}

/// A display; each write must be inside, and is counted.
struct Display {
    bytes: Vec<u8>,
    written: usize,
}

impl Pixels for &mut Display {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len();
    }
}

/// A display full of old pixels.
fn display(mode: &Mode) -> Display {
    Display { bytes: vec![0xEE; mode.panel_len()], written: 0 }
}

/// The text at a row, read from the pixels; `pixel_len` bytes each.
fn read(display: &Display, mode: &Mode, shape: Shape, row: usize) -> String {
    let (scale, pixel_len) = (mode.scale(), usize::from(shape.depth).div_ceil(8));
    let columns = (usize::from(shape.width) / (CELL_WIDTH as usize * scale)).min(COLUMNS);
    let is_on = |x: usize, y: usize| {
        let pixel = &display.bytes[y * usize::from(shape.pitch) + x * pixel_len..][..pixel_len];
        pixel.iter().any(|byte| *byte != 0)
    };
    let letter = |column: usize| {
        let rows: [u8; 8] = std::array::from_fn(|line| {
            let y = (row * CELL_HEIGHT as usize + line * 2) * scale;
            let x = |bit: usize| (column * CELL_WIDTH as usize + bit) * scale;
            (0..8).filter(|&bit| is_on(x(bit), y)).fold(0, |byte, bit| byte | 1 << bit)
        });
        (b' '..=b'~').find(|&letter| glyph(letter) == rows).map_or('#', char::from)
    };
    (0..columns).map(letter).collect::<String>().trim_end().to_owned()
}

#[test]
fn the_letter_a_is_drawn_as_the_font_has_it() {
    let mode = PLAIN.mode().unwrap();
    let mut display = display(&mode);
    Panel::new(mode, &mut display).set(1, Ink::Bad, format_args!(" A"));
    let picture: Vec<String> = (16..32)
        .map(|y| {
            let row = &display.bytes[y * 4096 + 32..][..32];
            row.chunks(4).map(|pixel| if pixel == [0x40, 0xE0, 0xFF, 0] { '#' } else { '.' }).collect()
        })
        .collect();
    let font =
        ["..##....", ".####...", "##..##..", "##..##..", "######..", "##..##..", "##..##..", "........"];
    let twice: Vec<&str> = font.iter().flat_map(|row| [*row; 2]).collect();
    assert_eq!(picture, twice);
}

#[test]
fn text_is_read_back_in_each_depth_and_size() {
    let sixteen = [5, 11, 6, 5, 5, 0];
    for (width, height, depth, channels) in [
        (640, 480, 32, PLAIN.channels),
        (800, 600, 24, PLAIN.channels),
        (1024, 768, 16, sixteen),
        (1920, 1080, 32, [8, 0, 8, 8, 8, 16]),
        (3840, 2160, 32, [10, 20, 10, 10, 10, 0]),
        (320, 256, 15, [5, 10, 5, 5, 5, 0]),
    ] {
        let pitch = width * u16::div_ceil(depth, 8) + 64;
        let shape = Shape { width, height, depth, pitch, channels, ..PLAIN };
        let mode = shape.mode().unwrap();
        let mut display = display(&mode);
        let mut panel = Panel::new(mode, &mut display);
        panel.title(format_args!("Holdover\u{e9}\n!"));
        panel.stage(Stage::Seal, Standing::Failed);
        panel.set(ROWS, Ink::Plain, format_args!("no such row"));
        panel.last_line(format_args!("{:0>90}", 7));
        assert_eq!(read(&display, &mode, shape, 0), "Holdover??!");
        assert_eq!(read(&display, &mode, shape, 7), "[FAILED] Seal the dump");
        assert!(read(&display, &mode, shape, ROWS - 1).starts_with("0000000"));
        let after = &display.bytes[usize::from(width) * usize::from(depth).div_ceil(8)..usize::from(pitch)];
        assert!(after.iter().all(|byte| *byte == 0xEE), "what is beside the display is left alone");
    }
}

#[test]
fn a_verdict_is_broken_between_words_and_its_rows_are_bounded() {
    let mode = PLAIN.mode().unwrap();
    let verdict = |text: &str| {
        let mut display = display(&mode);
        Panel::new(mode, &mut display).verdict(Ink::Bad, format_args!("{text}"));
        (8..15).map(|row| read(&display, &mode, PLAIN, row)).collect::<Vec<_>>()
    };
    let (long, word) = ("x".repeat(50), "y".repeat(40));
    assert_eq!(verdict(&format!("{long} {word}\nz")), ["", &long, &word, "z", "", "", ""]);
    let endless = verdict(&"e".repeat(1000));
    assert_eq!(endless[1..6], ["e"; 5].map(|e| e.repeat(80)));
    assert_eq!((&*endless[0], &*endless[6]), ("", ""));
    let full = "f".repeat(80);
    assert_eq!(verdict(&format!("{full}\ng"))[1..3], [full, "g".to_owned()]);
}

#[test]
fn only_what_changes_is_drawn() {
    let mode = PLAIN.mode().unwrap();
    let mut display = display(&mode);
    let cell = (CELL_WIDTH * CELL_HEIGHT * 4) as usize;
    let mut panel = Panel::new(mode, &mut display);
    panel.set(3, Ink::Plain, format_args!("12 of 99"));
    panel.set(3, Ink::Plain, format_args!("12 of 99"));
    panel.set(3, Ink::Plain, format_args!("13 of 99"));
    let cleared = 1024 * 4 * ROWS * CELL_HEIGHT as usize;
    assert_eq!(display.written - cleared, (6 + 1) * cell, "spaces are there already");
}

#[test]
fn hostile_descriptions_are_refused() {
    let refused = |shape: Shape| shape.mode().unwrap_err();
    assert_eq!(refused(Shape { kind: 1, ..PLAIN }), Unusable::Absent);
    for depth in [0, 1, 8, 17, 64, 0xFFFF] {
        assert!(matches!(refused(Shape { depth, ..PLAIN }), Unusable::Shape { .. }), "{depth}");
    }
    for (width, height, pitch) in
        [(0, 768, 4096), (1024, 0, 4096), (1024, 768, 4095), (1024, 255, 4096), (0xFFFF, 768, 0xFFFF)]
    {
        let shape = Shape { width, height, pitch, ..PLAIN };
        assert!(matches!(refused(shape), Unusable::Shape { .. }), "{shape:?}");
    }
    for channels in
        [[0; 6], [8, 255, 8, 8, 8, 0], [255, 255, 8, 8, 8, 0], [8, 16, 8, 16, 8, 0], [9, 24, 8, 8, 8, 0]]
    {
        assert_eq!(refused(Shape { channels, ..PLAIN }), Unusable::Colours, "{channels:?}");
    }
    for base in [0, u64::MAX, u64::MAX - 0xFFF, (1 << 52) - 4096] {
        assert_eq!(refused(Shape { base, ..PLAIN }), Unusable::Place(base));
    }
}

#[test]
fn rate_and_time_left_follow_from_the_pages() {
    let progress =
        |done, pages, millis| Progress { done, pages, elapsed: Duration::from_millis(millis) }.to_string();
    assert_eq!(progress(0, 100, 0), "0 of 100 pages, 0 %");
    assert_eq!(progress(12_800, 51_200, 2000), "12800 of 51200 pages, 25 %, 25 MiB/s, 6 s left");
    assert_eq!(progress(100, 100, 600), "100 of 100 pages, 100 %, 0 MiB/s, 0 s left");
    assert_eq!(progress(1, 1_000_000, 1000), "1 of 1000000 pages, 0 %, 0 MiB/s, 278 h left");
    assert_eq!(progress(1000, 200_000, 1000), "1000 of 200000 pages, 0 %, 3 MiB/s, 4 min left");
    assert_eq!(progress(0, 0, 900), "0 of 0 pages, 0 %");
}

proptest! {
    #[test]
    fn whatever_is_handed_over_nothing_is_drawn_outside(
        mut info in proptest::array::uniform32(any::<u8>()),
        rest in proptest::array::uniform32(any::<u8>()),
        depth in proptest::sample::select(vec![15u8, 16, 24, 32]),
        text in ".{0,100}",
    ) {
        info[0x0f] = 0x70;
        (info[0x16], info[0x17]) = (depth, 0);
        // Widths and heights of which most are possible.
        (info[0x13], info[0x15]) = (info[0x13] & 7, info[0x15] & 7);
        let mut all = [0; 64];
        all[..32].copy_from_slice(&info);
        all[32..].copy_from_slice(&rest);
        all[0x26..0x2c].copy_from_slice(&[5, 10, 5, 5, 5, 0]);
        if let Ok(mode) = Mode::of_screen_info(&all) {
            let mut display = display(&mode);
            let mut panel = Panel::new(mode, &mut display);
            for stage in Stage::ALL {
                panel.stage(stage, Standing::Doing);
            }
            panel.last_line(format_args!("{text}"));
        }
    }

    #[test]
    fn progress_of_any_size_is_printed(done: u64, pages: u64, seconds: u64, nanos in 0..1_000_000_000u32) {
        let elapsed = Duration::new(seconds, nanos);
        let text = Progress { done, pages, elapsed }.to_string();
        prop_assert!(text.starts_with(&done.to_string()));
    }
}
