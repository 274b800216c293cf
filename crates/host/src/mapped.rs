//! Devices of the device mapper: one that is a single stretch of another device is that stretch, as an LVM volume of one segment is.
//! Whoever writes to the disk knows nothing of the mapper, so whatever is more than that is refused.

use std::io;
use std::process::Command;

/// A stretch of another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Number of the device: major, minor.
    pub(crate) device: (u32, u32),
    /// Where on it the stretch begins, in sectors of 512 bytes.
    pub(crate) start: u64,
}

/// Why a mapped device is no stretch of a disk.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum MappedError {
    /// There is no program to read the map.
    #[error("cannot run dmsetup, which says what {name} is made of; the package dmsetup has it")]
    NoDmsetup {
        /// The kernel's name of the device.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The program failed.
    #[error("cannot find out what {name} is made of: {said}")]
    Dmsetup {
        /// The kernel's name of the device.
        name: String,
        /// What the program said.
        said: String,
    },
    /// What is written to the disk would not be readable.
    #[error(
        "{name} is encrypted ({kind}): a dump would be written in plain text, and could not be read through it; use a disk that is not"
    )]
    Encrypted {
        /// The kernel's name of the device.
        name: String,
        /// The mapper's name of this kind.
        kind: String,
    },
    /// It is more than one stretch.
    #[error(
        "{name} is made of {count} pieces; use a volume of one piece, as `lvcreate --contiguous y` makes it"
    )]
    Pieces {
        /// The kernel's name of the device.
        name: String,
        /// How many.
        count: usize,
    },
    /// It is made in another way.
    #[error(
        "{name} is a device of the kind {kind}; use a partition, or a volume that is one stretch of a disk"
    )]
    Kind {
        /// The kernel's name of the device.
        name: String,
        /// The mapper's name of this kind.
        kind: String,
    },
}

/// What the device with this name and number is a stretch of.
pub(crate) fn stretch(name: &str, (major, minor): (u32, u32)) -> Result<Stretch, MappedError> {
    let mut dmsetup = Command::new("dmsetup");
    dmsetup.args(["table", "--major", &major.to_string(), "--minor", &minor.to_string()]);
    let name = name.to_owned();
    let output = match dmsetup.output() {
        Ok(output) => output,
        Err(source) => return Err(MappedError::NoDmsetup { name, source }),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MappedError::Dmsetup { name, said });
    }
    stretch_in(name, &String::from_utf8_lossy(&output.stdout))
}

/// Reads a table: a line for each piece, with its first sector, its length, its kind, and what that kind takes (dmsetup(8)).
fn stretch_in(name: String, table: &str) -> Result<Stretch, MappedError> {
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    if let Some(kind) = lines.iter().filter_map(|line| line.get(2)).find(|kind| is_encryption(kind)) {
        return Err(MappedError::Encrypted { name, kind: (*kind).to_owned() });
    }
    match lines.as_slice() {
        [line] => match line.as_slice() {
            ["0", _, "linear", device, start] => {
                let stretch = numbers(device).zip(start.parse().ok());
                let stretch = stretch.map(|(device, start)| Stretch { device, start });
                stretch.ok_or_else(|| MappedError::Dmsetup { name, said: table.trim().to_owned() })
            }
            [_, _, kind, ..] => Err(MappedError::Kind { name, kind: (*kind).to_owned() }),
            _ => Err(MappedError::Dmsetup { name, said: table.trim().to_owned() }),
        },
        lines => Err(MappedError::Pieces { name, count: lines.len() }),
    }
}

fn is_encryption(kind: &str) -> bool {
    ["crypt", "default-key", "inlinecrypt"].contains(&kind)
}

fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Stretch, String> {
        stretch_in("dm-0".into(), table).map_err(|error| error.to_string())
    }

    /// As Debian's installer makes it: the volume group is on the third partition.
    #[test]
    fn a_volume_of_one_piece_is_a_stretch_of_its_disk() {
        assert_eq!(read("0 58589184 linear 8:3 2048\n"), Ok(Stretch { device: (8, 3), start: 2048 }));
    }

    #[test]
    fn what_is_more_than_one_stretch_is_refused_in_words() {
        for (table, words) in [
            ("0 1000 linear 8:3 2048\n1000 1000 linear 8:3 9000\n", "2 pieces"),
            (
                "0 16777216 crypt aes-xts-plain64 :64:logon:cryptsetup 0 8:2 32768 1 allow_discards\n",
                "encrypted",
            ),
            ("0 1000 striped 2 128 8:1 384 8:2 384\n", "of the kind striped"),
            ("0 1000 thin 253:2 1\n", "of the kind thin"),
            ("0 1000 linear sda 2048\n", "cannot find out"),
            ("8 1000 linear 8:3 2048\n", "of the kind linear"),
            ("nonsense\n", "cannot find out"),
            ("", "0 pieces"),
        ] {
            let refused = read(table).unwrap_err();
            assert!(refused.contains(words), "{table}: {refused}");
        }
    }
}
