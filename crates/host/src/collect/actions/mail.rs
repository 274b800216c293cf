//! The mail about a crash.

use std::path::Path;

use super::super::crash::FolderContent;
use super::super::folder::FolderNote;
use crate::Bytes;

/// The mail, as `sendmail -t` reads it.
pub(super) fn text(to: &str, folder: &Path, note: &FolderNote, boot_loop: Option<u32>) -> String {
    let line = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    let (to, host) = (line(to), line(&note.host));
    let kernel = note.kernel.as_deref().unwrap_or("unknown");
    let folder = folder.display();
    let repeated = boot_loop.map_or(String::new(), |count| {
        format!("This was crash {count} in a row, each soon after the boot.\n\n")
    });
    format!(
        "To: {to}\nSubject: {host}: the kernel crashed, {}\nAuto-Submitted: auto-generated\n\
         Content-Type: text/plain; charset=utf-8\n\n\
         The kernel of {host} crashed. {}\n\n{repeated}\
         Where:   {folder}\nKernel:  {kernel}\nDump:    {}, {}\n\n\
         Look at the last messages:   tail {folder}/dmesg.txt\n\
         Open the dump:               crash /usr/lib/debug/boot/vmlinux-{kernel} {folder}/vmcore\n\n\
         A dump is secret data: it holds the memory of the kernel.\n",
        in_a_word(note.crash.content),
        sentence(note.crash.content),
        Bytes(note.dump_bytes()),
        note.state,
    )
}

const fn in_a_word(content: FolderContent) -> &'static str {
    match content {
        FolderContent::Complete => "and its dump is here",
        FolderContent::Partial => "and a part of its dump is here",
        FolderContent::LogOnly => "and its dump waits in its area",
        _ => "and there is no dump that opens",
    }
}

const fn sentence(content: FolderContent) -> &'static str {
    match content {
        FolderContent::Complete => "Holdover collected the whole dump, and checked it.",
        FolderContent::Partial => "Holdover collected what there is of the dump, and checked it.",
        FolderContent::LogOnly => {
            "Only the log could be saved; `holdover collect` tries again at the next boot."
        }
        _ => "Holdover collected what there is.",
    }
}
