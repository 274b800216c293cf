//! The addresses of btrfs: where chunks of its address space are on its device.
//!
//! btrfs gives *logical* addresses for extents. Its chunk tree says where they are; `btrfs inspect-internal dump-tree` lists it.

use std::path::Path;
use std::process::Command;

use area::FileExtent;

use super::FileError;

/// The chunks of a file system that is on one device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
}

/// A stretch of the address space that is in one piece on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chunk {
    logical: u64,
    length: u64,
    /// Where it is on the device; `None` if it is there more than once, or in stripes.
    device: Option<u64>,
}

impl Chunks {
    /// Reads the chunk tree of the file system on a device.
    pub(super) fn read(device: &Path) -> Result<Self, FileError> {
        let mut command = Command::new("btrfs");
        command.args(["inspect-internal", "dump-tree", "-t", "chunk"]).arg(device);
        let output = command.output().map_err(FileError::NoBtrfs)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(FileError::Btrfs { said });
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    fn parse(listing: &str) -> Result<Self, FileError> {
        let (mut chunks, mut devices): (Vec<Chunk>, _) = (Vec::new(), 0);
        for line in listing.lines().map(str::trim) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["item", _, "key", "(DEV_ITEMS", "DEV_ITEM", ..] => devices += 1,
                ["item", _, "key", "(FIRST_CHUNK_TREE", "CHUNK_ITEM", logical, ..] => {
                    chunks.push(Chunk { logical: number(logical)?, ..Chunk::default() });
                }
                ["length", length, "owner", _, "stripe_len", _, "type", kind, ..] => {
                    let Some(chunk) = chunks.last_mut() else { return Err(strange(line)) };
                    chunk.length = number(length)?;
                    // A profile has a name of its own unless the chunk is there once.
                    let is_single =
                        kind.split('|').all(|word| ["DATA", "METADATA", "SYSTEM", "single"].contains(&word));
                    chunk.device = is_single.then_some(0);
                }
                ["stripe", "0", "devid", _, "offset", offset, ..] => {
                    let Some(chunk) = chunks.last_mut() else { return Err(strange(line)) };
                    if chunk.device.is_some() {
                        chunk.device = Some(number(offset)?);
                    }
                }
                ["stripe", _, "devid", ..] => {
                    let Some(chunk) = chunks.last_mut() else { return Err(strange(line)) };
                    chunk.device = None;
                }
                _ => {}
            }
        }
        match devices {
            0 => Err(strange("there is no device")),
            1 => Ok(Self { chunks }),
            _ => Err(FileError::SeveralDevices),
        }
    }

    /// Where an extent of the address space is on the device.
    pub(super) fn on_device(&self, extent: FileExtent) -> Result<Vec<FileExtent>, FileError> {
        let mut pieces = Vec::new();
        let FileExtent { file, disk: logical, length } = extent;
        let mut done = 0;
        while done < length {
            let at = logical + done;
            let holds = |chunk: &&Chunk| chunk.logical <= at && at - chunk.logical < chunk.length;
            let chunk = self.chunks.iter().find(holds).ok_or(FileError::NoChunk { logical: at })?;
            let device = chunk.device.ok_or(FileError::Profile)?;
            let inside = at - chunk.logical;
            let piece = (length - done).min(chunk.length - inside);
            pieces.push(FileExtent { file: file + done, disk: device + inside, length: piece });
            done += piece;
        }
        Ok(pieces)
    }
}

fn number(text: &str) -> Result<u64, FileError> {
    text.trim_end_matches(')').parse().map_err(|_| strange(text))
}

fn strange(what: &str) -> FileError {
    FileError::Btrfs { said: format!("a chunk tree that cannot be read: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
btrfs-progs v6.2
chunk tree
leaf 22036480 items 5 free space 15626 generation 6 owner CHUNK_TREE
	item 0 key (DEV_ITEMS DEV_ITEM 1) itemoff 16185 itemsize 98
		devid 1 total_bytes 536870912 bytes_used 92274688
	item 1 key (FIRST_CHUNK_TREE CHUNK_ITEM 13631488) itemoff 16105 itemsize 80
		length 8388608 owner 2 stripe_len 65536 type DATA|single
		io_align 65536 io_width 65536 sector_size 4096
		num_stripes 1 sub_stripes 1
			stripe 0 devid 1 offset 30000000
			dev_uuid 5e1b6e9e-a40f-47a5-8a34-9ff0d5a4a7b0
	item 2 key (FIRST_CHUNK_TREE CHUNK_ITEM 22020096) itemoff 15993 itemsize 112
		length 8388608 owner 2 stripe_len 65536 type SYSTEM|DUP
		num_stripes 2 sub_stripes 1
			stripe 0 devid 1 offset 22020096
			stripe 1 devid 1 offset 30408704
	item 3 key (FIRST_CHUNK_TREE CHUNK_ITEM 30408704) itemoff 16105 itemsize 80
		length 8388608 owner 2 stripe_len 65536 type DATA
			stripe 0 devid 1 offset 90000000
";

    #[test]
    fn an_extent_is_where_its_chunks_are() {
        let chunks = Chunks::parse(LISTING).unwrap();
        let on_device = |disk, length| chunks.on_device(FileExtent { file: 4096, disk, length });
        let expected = FileExtent { file: 4096, disk: 30_000_100, length: 1000 };
        assert_eq!(on_device(13_631_588, 1000).unwrap(), [expected]);
        assert!(matches!(on_device(22_020_096, 1000), Err(FileError::Profile)));
        assert!(matches!(on_device(100, 1000), Err(FileError::NoChunk { .. })));
        assert!(matches!(on_device(22_020_000, 1000), Err(FileError::Profile)), "its second part is");
    }

    #[test]
    fn several_devices_and_what_cannot_be_read_are_refused() {
        let two = format!("{LISTING}\titem 9 key (DEV_ITEMS DEV_ITEM 2) itemoff 1 itemsize 98\n");
        assert!(matches!(Chunks::parse(&two), Err(FileError::SeveralDevices)));
        for bad in ["", "stripe 0 devid 1 offset 5", "item 0 key (FIRST_CHUNK_TREE CHUNK_ITEM x)"] {
            assert!(matches!(Chunks::parse(bad), Err(FileError::Btrfs { .. })), "{bad}");
        }
    }
}
