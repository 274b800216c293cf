//! An NFS server in a network namespace of its own: QEMU starts it for the guest's connection, so that no port of this machine is open, and
//! it ends with it.
//!
//! It is NFS-Ganesha, which needs nothing of the kernel's. It takes root, for the namespace and because it opens files by their handles.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::guests::archive::Suite;
use crate::paths;

/// The server, how it reaches files, and the libraries that this machine may lack. It is only unpacked.
const PACKAGES: [&str; 7] = [
    "nfs-ganesha",
    "nfs-ganesha-vfs",
    "libntirpc4.3",
    "liburcu8",
    "libwbclient0",
    "libnfsidmap1",
    "libtalloc2",
];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What the server calls the folder.
pub(super) const EXPORT: &str = "/dump";
pub(super) const PORT: u16 = 2049;

/// Makes a server ready that gives out `folder`; returns the command that serves the connection on its standard input and output. The
/// files of the server itself are in `own`.
pub(super) fn server_of(folder: &Path, own: &Path) -> Result<String> {
    let tree = Suite::Installed.unpacked_together(&PACKAGES, &[])?;
    paths::made(own.join("recovery"))?;
    let [configuration, serve] = ["ganesha.conf", "serve"].map(|name| own.join(name));
    fs::write(own.join("idmapd.conf"), "")?;
    fs::write(&configuration, settings(folder, own, &tree))?;
    fs::write(&serve, script(own, &tree))?;
    Ok(format!("/bin/sh {}", serve.display()))
}

/// Version 4 alone, without what speaks to other programs of a host. Nobody had locks before: it serves at once.
fn settings(folder: &Path, own: &Path, tree: &Path) -> String {
    let (folder, own, plugins) = (folder.display(), own.display(), tree.join(LIBRARIES).join("ganesha"));
    let plugins = plugins.display();
    format!(
        "NFS_Core_Param {{ Protocols = 4; NFS_Port = {PORT}; Enable_UDP = false; Enable_NLM = false; Enable_RQUOTA = false; \
         Plugins_Dir = \"{plugins}\"; }}\n\
         NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = \"{own}/recovery\"; Only_Numeric_Owners = true; \
         UseGetpwnam = true; IdmapConf = \"{own}/idmapd.conf\"; }}\n\
         EXPORT {{ Export_Id = 1; Path = \"{folder}\"; Pseudo = \"{EXPORT}\"; Access_Type = RW; Squash = None; SecType = sys; \
         Filesystem_id = 1.1; FSAL {{ Name = VFS; }} }}\n"
    )
}

/// The namespace has a loopback device of its own. Its list of sockets tells when the server listens.
fn script(own: &Path, tree: &Path) -> String {
    let (own, tree) = (own.display(), tree.display());
    format!(
        "exec unshare --net /bin/sh -c '\n\
         busybox ifconfig lo up\n\
         LD_LIBRARY_PATH={tree}/{LIBRARIES}:{tree}/usr/lib/ganesha {tree}/usr/bin/ganesha.nfsd -F -f {own}/ganesha.conf -L {own}/log \
         -p {own}/pid < /dev/null > /dev/null 2>&1 &\n\
         until grep -q :{PORT:04X} /proc/net/tcp /proc/net/tcp6; do kill -0 $! || exit 1; sleep 0.1; done\n\
         busybox nc 127.0.0.1 {PORT}\n\
         kill $!'\n"
    )
}
