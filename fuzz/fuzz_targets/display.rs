//! The framebuffer that a loader hands over: whatever `screen_info` says, a panel draws inside the part that it names, and text of any kind
//! is shown or cut off.

#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use screen::{Ink, Mode, Panel, Pixels, Progress, Stage, Standing};

/// Pixels of which only the bounds are checked.
struct Bounds(usize);

impl Pixels for Bounds {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.0), "outside the panel");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((info, text)) = bytes.split_first_chunk::<64>() else { return };
    let Ok(mode) = Mode::of_screen_info(info) else { return };
    let len = mode.panel_len();
    assert!(mode.start() > 0 && mode.start().checked_add(len as u64).is_some_and(|end| end <= 1 << 52));
    let mut panel = Panel::new(mode, Bounds(len));
    let text = String::from_utf8_lossy(text);
    panel.title(format_args!("{text}"));
    panel.stage(Stage::Disk, Standing::Failed);
    let elapsed = Duration::from_millis(info[0].into());
    panel.progress(Progress { done: u64::from(info[1]), pages: u64::MAX, elapsed });
    panel.last_line(format_args!("{text}"));
    panel.verdict(Ink::Bad, format_args!("{text}\n{text}"));
    panel.set(usize::from(info[2]), Ink::Plain, format_args!("{text}"));
});
