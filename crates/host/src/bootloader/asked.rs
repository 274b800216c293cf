//! What `crashkernel=` on a kernel's command line reserves (Linux: Documentation/admin-guide/kdump/kdump.rst).

/// Bytes that a value reserves on a machine with this much memory: `16M`, `256M@64M`, `512M,high`, `1G-2G:64M,2G-:128M`. `None` if it is
/// not understood.
pub(super) fn reserved(value: &str, memory: u64) -> Option<u64> {
    if !value.contains(':') {
        let size = value.split([',', '@']).next()?;
        return bytes(size);
    }
    let ranges = value.split('@').next()?.split(',');
    for range in ranges {
        let (bounds, size) = range.split_once(':')?;
        let (start, end) = bounds.split_once('-')?;
        let end = if end.is_empty() { u64::MAX } else { bytes(end)? };
        if (bytes(start)?..end).contains(&memory) {
            return bytes(size);
        }
    }
    Some(0)
}

/// A number with K, M, G or T behind it.
fn bytes(text: &str) -> Option<u64> {
    text.ends_with(|last: char| last.is_ascii_digit() || "KMGTkmgt".contains(last))
        .then(|| text.parse::<crate::Bytes>().ok())
        .flatten()
        .map(|crate::Bytes(bytes)| bytes)
}

/// The values of `crashkernel=` in a text: a command line, or a shell's assignments. Comments do not count.
pub(super) fn values(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| {
        line.split([' ', '\t', '"', '\'', '=']).zip(line.split([' ', '\t', '"', '\'', '=']).skip(1))
    });
    words.filter(|(key, _)| *key == "crashkernel").map(|(_, value)| value.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_option_is_understood() {
        let on = |value, gibibytes: u64| reserved(value, gibibytes << 30);
        assert_eq!(on("16M", 4), Some(16 << 20));
        assert_eq!(on("256M@64M", 4), Some(256 << 20));
        assert_eq!(on("512M,high", 4), Some(512 << 20));
        assert_eq!(on("1G-2G:64M,2G-:128M", 1), Some(64 << 20));
        assert_eq!(on("1G-2G:64M,2G-:128M", 2), Some(128 << 20));
        assert_eq!(on("384M-:128M", 64), Some(128 << 20));
        assert_eq!(reserved("384M-:128M", 256 << 20), Some(0), "the machine is too small");
        for other in ["auto", "", "M", "-1M", "x-:1M", "1G:2M"] {
            assert_eq!(on(other, 4), None, "{other}");
        }
    }

    #[test]
    fn the_option_is_found_in_a_command_line_and_in_a_shells_assignments() {
        assert_eq!(values("quiet crashkernel=16M ro\n"), ["16M"]);
        let grub = "#crashkernel=1M\nGRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M\"\n";
        assert_eq!(values(grub), ["384M-:128M"]);
        assert_eq!(
            values("GRUB_CMDLINE_LINUX=\"crashkernel=1G-2G:64M,2G-:128M\" nocrashkernel=1"),
            ["1G-2G:64M,2G-:128M"]
        );
    }
}
