//! The framebuffer's place and shape, as the boot loader hands it over (Linux, include/uapi/linux/screen_info.h).

use crate::panel::{CELL_HEIGHT, CELL_WIDTH, ROWS};

// Offsets in `screen_info`.
const VIDEO_TYPE: usize = 0x0f;
const WIDTH: usize = 0x12;
const HEIGHT: usize = 0x14;
const DEPTH: usize = 0x16;
const BASE: usize = 0x18;
const PITCH: usize = 0x24;
const CHANNELS: usize = 0x26;
const CAPABILITIES: usize = 0x36;
const BASE_HIGH: usize = 0x3a;

/// A linear framebuffer of VESA's BIOS extension.
const VESA: u8 = 0x23;
/// A framebuffer of EFI's graphics output protocol.
const EFI: u8 = 0x70;
/// The base has more than 32 bits.
const BASE_IS_64_BIT: u32 = 1 << 1;
/// More pixels than any display has in a row or a column.
const MOST_PIXELS: u32 = 16384;
/// No processor has more physical addresses.
const ADDRESSES: u64 = 1 << 52;
/// Letters are drawn with pixels so many times as large at most.
const LARGEST_SCALE: u32 = 4;
/// Columns and rows of text of the display for which letters are drawn as they are.
const COMFORTABLE: (u32, u32) = (80, 25);

/// Why there is nothing to draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Firmware left none, or the loader did not hand it over.
    #[error("no framebuffer was handed over")]
    Absent,
    /// The pixels are too few, too many, or overlap.
    #[error("a framebuffer of {width}x{height} pixels of {depth} bits, {pitch} bytes a row, makes no sense")]
    Shape {
        /// Pixels in a row.
        width: u16,
        /// Rows of pixels.
        height: u16,
        /// Bits of a pixel.
        depth: u16,
        /// Bytes from one row to the next.
        pitch: u16,
    },
    /// A colour's bits are not inside the pixel, or two colours share bits.
    #[error("the colours of its pixels make no sense")]
    Colours,
    /// The framebuffer is nowhere, or reaches past the last address.
    #[error("there is no framebuffer at {0:#x}")]
    Place(u64),
}

/// A framebuffer that can be drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    start: u64,
    width: u32,
    pitch: u32,
    scale: u32,
    pixel_len: usize,
    channels: [Channel; 3],
}

/// The bits of red, green or blue in a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    position: u8,
    size: u8,
}

impl Channel {
    /// The bits that are set in the brightest pixel.
    fn mask(self) -> u32 {
        (((1u64 << self.size) - 1) << self.position) as u32
    }

    /// The bits for a brightness of 0 to 255.
    fn bits(self, brightness: u8) -> u32 {
        let widest = u32::from(brightness) << 24;
        (u64::from(widest) >> (32 - u32::from(self.size)) << self.position) as u32
    }
}

/// How many times as large as in the font the pixels of letters are, on a display of so many pixels.
pub fn scale(width: u32, height: u32) -> u32 {
    let most = (width / (COMFORTABLE.0 * CELL_WIDTH)).min(height / (COMFORTABLE.1 * CELL_HEIGHT));
    most.clamp(1, LARGEST_SCALE)
}

impl Mode {
    /// Reads the first 64 bytes of `boot_params`, which any loader may have filled with anything.
    pub fn of_screen_info(info: &[u8; 64]) -> Result<Self, Unusable> {
        if ![VESA, EFI].contains(&info[VIDEO_TYPE]) {
            return Err(Unusable::Absent);
        }
        let [width, height, depth, pitch] = [WIDTH, HEIGHT, DEPTH, PITCH].map(|offset| u16_at(info, offset));
        let shape = Unusable::Shape { width, height, depth, pitch };
        let pixel_len = match depth {
            15 | 16 => 2,
            24 => 3,
            32 => 4,
            _ => return Err(shape),
        };
        let channels = [0, 2, 4]
            .map(|offset| Channel { size: info[CHANNELS + offset], position: info[CHANNELS + offset + 1] });
        check(channels, u32::from(depth))?;
        let [width, height, pitch] = [width, height, pitch].map(u32::from);
        let scale = scale(width, height);
        let is_sound = width.max(height) <= MOST_PIXELS
            && pitch >= width * pixel_len as u32
            && width >= CELL_WIDTH * scale
            && height >= ROWS as u32 * CELL_HEIGHT * scale;
        let start = base(info);
        let end = start.checked_add(u64::from(pitch) * u64::from(height));
        if !is_sound {
            Err(shape)
        } else if start == 0 || end.is_none_or(|end| end > ADDRESSES) {
            Err(Unusable::Place(start))
        } else {
            Ok(Self { start, width, pitch, scale, pixel_len, channels })
        }
    }

    /// Physical address of the first pixel.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Length in bytes of the part that a panel is drawn on, from the first pixel on.
    pub fn panel_len(&self) -> usize {
        self.row_len() * ROWS
    }

    /// Columns of text that fit.
    pub(crate) fn columns(&self) -> usize {
        (self.width / (CELL_WIDTH * self.scale)) as usize
    }

    /// How many times as large as in the font pixels are.
    pub fn scale(&self) -> usize {
        self.scale as usize
    }

    /// Bytes of a row of text.
    fn row_len(&self) -> usize {
        (CELL_HEIGHT * self.scale * self.pitch) as usize
    }

    /// Bytes from one row of pixels to the next.
    pub(crate) fn pitch(&self) -> usize {
        self.pitch as usize
    }

    /// Bytes of a row of pixels that are on the display.
    pub(crate) fn visible(&self) -> usize {
        self.width as usize * self.pixel_len
    }

    /// Bytes of a pixel.
    pub(crate) fn pixel_len(&self) -> usize {
        self.pixel_len
    }

    /// Where a cell's first pixel is.
    pub(crate) fn cell(&self, row: usize, column: usize) -> usize {
        row * self.row_len() + column * CELL_WIDTH as usize * self.scale() * self.pixel_len
    }

    /// A pixel of this colour; its first [`Mode::pixel_len`] bytes count.
    pub(crate) fn pixel(&self, colour: [u8; 3]) -> [u8; 4] {
        let bits = self.channels.iter().zip(colour).map(|(channel, brightness)| channel.bits(brightness));
        bits.fold(0, |pixel, bits| pixel | bits).to_le_bytes()
    }
}

/// Each colour has bits of its own inside the pixel.
fn check(channels: [Channel; 3], depth: u32) -> Result<(), Unusable> {
    let mut taken = 0u32;
    for channel in channels {
        let end = u32::from(channel.position) + u32::from(channel.size);
        if channel.size == 0 || end > depth || taken & channel.mask() != 0 {
            return Err(Unusable::Colours);
        }
        taken |= channel.mask();
    }
    Ok(())
}

fn base(info: &[u8; 64]) -> u64 {
    let has_high = u32_at(info, CAPABILITIES) & BASE_IS_64_BIT != 0;
    let high = if has_high { u32_at(info, BASE_HIGH) } else { 0 };
    u64::from(u32_at(info, BASE)) | u64::from(high) << 32
}

fn u16_at(info: &[u8; 64], offset: usize) -> u16 {
    u16::from_le_bytes([info[offset], info[offset + 1]])
}

fn u32_at(info: &[u8; 64], offset: usize) -> u32 {
    u32::from(u16_at(info, offset)) | u32::from(u16_at(info, offset + 2)) << 16
}
