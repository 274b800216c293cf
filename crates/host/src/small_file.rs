//! Reads files that are small, whatever somebody has put in their place: a device that never ends, or a file that fills the memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use crate::Bytes;

/// The longest text that a person writes.
pub(crate) const TEXT: Bytes = Bytes(1 << 20);

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, most: Bytes) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.0.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= most.0 {
        return Ok(bytes);
    }
    let told = format!("it has more than {most}, and is another file than the one that is meant");
    Err(io::Error::new(ErrorKind::InvalidData, told))
}

/// Reads a text of at most [`TEXT`].
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let no_text = |_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8");
    String::from_utf8(read(path, TEXT)?).map_err(no_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_never_ends_is_refused_and_the_longest_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        assert_eq!(read(file.path(), Bytes(100)).unwrap().len(), 100);
        assert!(read(file.path(), Bytes(99)).unwrap_err().to_string().starts_with("it has more than 99"));
        let endless = read_text(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.starts_with("it has more than 1.00 MiB"), "{endless}");
    }
}
