//! Where a stock crash kernel writes its dumps: a file system on the disk itself, or what Holdover has no driver for.
//!
//! Nothing here takes root on this machine: the crashing Linux makes the encrypted disk and the logical volume, QEMU's own tool
//! decrypts the former, and QEMU starts the SSH server for each connection of the guest's, so that no port of this machine is open. The NFS
//! server alone takes root.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::initramfs::{Archive, network_driver};
use super::kernels::Flavour;
use super::nfs;
use super::stock::{self, DISK, take_file};
use crate::crashes::crash::{MADE, REFERENCE};
use crate::machines::files::Files;
use crate::{paths, process};

/// Bytes of the file system. Dumps of larger machines are larger, and there are three of them.
const FILE_SYSTEM_BYTES: u64 = 512 << 20;

/// What opens the encrypted disk.
const KEY: &str = "holdover's bench";

/// Where a volume group's first extent begins on its disk, and the bytes of an extent: what LVM does by itself.
const FIRST_EXTENT: u64 = 1 << 20;
const EXTENT: u64 = 4 << 20;
/// The logical volume's pieces, in the order in which they make it up: the first extent of each, which is not the order on the disk.
const PIECES: [u64; 2] = [PIECE_EXTENTS + 32, 0];
const PIECE_EXTENTS: u64 = FILE_SYSTEM_BYTES / EXTENT / 2;

/// Runs in the crashing Linux, before the name of a device: makes a file system. (By its other name, `mke2fs`, busybox would run.)
const MKFS: &str = "mkfs.ext4 -q -F -O ^has_journal";

/// Runs first wherever something is between the disk and the file system: libdevmapper makes device nodes by itself, as udev is not
/// there, and LVM has no daemon and no places to write to.
const LAYERS: &str = "export DM_DISABLE_UDEV=1
mkdir -p /run/lock /etc/lvm
volumes() {
    lvm \"$@\" --config 'global/locking_dir=/tmp backup/backup=0 backup/archive=0 devices/use_devicesfile=0'
}
";

/// Where the guest finds the server: an address of QEMU's network, behind which there is only that.
const SERVER: &str = "10.0.2.100";

/// Runs in the crash kernel: the network's address is QEMU's first.
const NETWORK: &str = "ip link set eth0 up\nip addr add 10.0.2.15/24 dev eth0\n";

/// Where the dumps go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// A file system on the disk.
    Disk,
    /// A file system on the disk, encrypted (LUKS).
    Luks,
    /// A file system on a logical volume of LVM's, of two pieces.
    Lvm,
    /// A server, by SSH: the disk stays empty.
    Ssh,
    /// A server, by NFS: the same.
    Nfs,
}

impl Target {
    /// Makes the disk and, where there is one, the server's folder.
    pub(crate) fn prepare(self, files: &Files) -> Result<()> {
        let disk = File::create(files.disk())?;
        match self {
            Self::Disk => {
                disk.set_len(FILE_SYSTEM_BYTES)?;
                stock::make_file_system(&files.disk())
            }
            Self::Luks => Ok(disk.set_len(FILE_SYSTEM_BYTES)?),
            Self::Lvm => Ok(disk.set_len(FIRST_EXTENT + (PIECES[0] + PIECE_EXTENTS + 1) * EXTENT)?),
            Self::Ssh => {
                disk.set_len(EXTENT)?;
                make_server(files)
            }
            Self::Nfs => {
                disk.set_len(EXTENT)?;
                Ok(fs::create_dir_all(server(files))?)
            }
        }
    }

    /// Adds what the crashing Linux needs to make the rest.
    pub(crate) fn add_before(self, archive: &mut Archive) -> Result<()> {
        if self.is_layered() {
            archive.copy_program("mkfs.ext4")?;
        }
        self.add_layers(archive)
    }

    /// Runs in the crashing Linux, for the disk as `guest/find-disk` knows it.
    pub(crate) fn commands_before(self, disk: &str) -> String {
        let [first, second] = PIECES.map(|at| format!("$DISK:{at}-{}", at + PIECE_EXTENTS - 1));
        let commands = match self {
            Self::Disk | Self::Ssh | Self::Nfs => return String::new(),
            Self::Luks => format!(
                "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file /scenario/key $DISK\n\
                 cryptsetup open --type luks1 --key-file /scenario/key $DISK dump\n{MKFS} /dev/mapper/dump\n"
            ),
            Self::Lvm => format!(
                "volumes pvcreate -y $DISK\nvolumes vgcreate dumps $DISK\n\
                 volumes lvcreate -y -Zn -Wn -n dump -l {PIECE_EXTENTS} dumps {first}\n\
                 volumes lvextend -l +{PIECE_EXTENTS} dumps/dump {second}\n{MKFS} /dev/dumps/dump\n"
            ),
        };
        format!("{LAYERS}DISK=$(find-disk {disk})\n{commands}")
    }

    /// Modules without which neither Linux reaches the file system.
    pub(crate) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Disk | Self::Ssh | Self::Nfs => &[],
            Self::Luks => &["dm_crypt", "xts", "ecb", "algif_skcipher", "algif_hash"],
            Self::Lvm => &["dm_mod"],
        }
    }

    /// Adds what the crash kernel needs, and returns the modules that it loads.
    pub(crate) fn add_to(
        self,
        archive: &mut Archive,
        kernel: Flavour,
        files: &Files,
    ) -> Result<Vec<&'static str>> {
        if self == Self::Ssh {
            add_client(archive, files)?;
            return Ok(vec![network_driver(kernel)]);
        }
        if self == Self::Nfs {
            return Ok(vec![network_driver(kernel), "nfsv4"]);
        }
        self.add_layers(archive)?;
        Ok(self.modules().iter().copied().chain([stock::FILE_SYSTEM]).collect())
    }

    /// Whether it is at the other end of a network.
    pub(crate) fn is_remote(self) -> bool {
        matches!(self, Self::Ssh | Self::Nfs)
    }

    /// Whether there is something between the disk and the file system.
    fn is_layered(self) -> bool {
        matches!(self, Self::Luks | Self::Lvm)
    }

    fn add_layers(self, archive: &mut Archive) -> Result<()> {
        match self {
            Self::Disk | Self::Ssh | Self::Nfs => Ok(()),
            Self::Luks => {
                archive.add("scenario/key", KEY.as_bytes());
                archive.copy_program("cryptsetup")
            }
            Self::Lvm => archive.copy_program("lvm"),
        }
    }

    /// Runs in the crash kernel: makes `/mnt` the place for dumps, and `keep` what is done with each when it is there.
    pub(crate) fn open(self, files: &Files) -> String {
        let mount =
            |device: &str, before: &str| format!("{before}mount -t ext4 {device} /mnt\nkeep() {{ :; }}\n");
        match self {
            Self::Disk => mount(DISK, ""),
            Self::Luks => mount(
                "/dev/mapper/dump",
                &format!("{LAYERS}cryptsetup open --type luks1 --key-file /scenario/key {DISK} dump\n"),
            ),
            Self::Lvm => mount("/dev/dumps/dump", &format!("{LAYERS}volumes vgchange -ay dumps\n")),
            Self::Nfs => {
                let options = format!("vers=4.2,proto=tcp,port={},sec=sys,addr={SERVER}", nfs::PORT);
                format!(
                    "{NETWORK}mount -t nfs4 -o {options} {SERVER}:{} /mnt\nkeep() {{ :; }}\n",
                    nfs::EXPORT
                )
            }
            Self::Ssh => format!(
                "mount -t tmpfs tmpfs /mnt\nchmod 600 /scenario/ssh/key\n{NETWORK}\
                 keep() {{ ssh -F /scenario/ssh/config server 'cat > {}/'$1 < /mnt/$1; rm /mnt/$1; }}\n",
                server(files).display()
            ),
        }
    }

    /// The dumps that `holdover makedump` makes there. An ELF core is too large for the memory in which it waits for a server.
    pub(crate) fn made(self) -> &'static [&'static str] {
        if self == Self::Ssh { &MADE[..1] } else { &MADE }
    }

    /// Has all dumps there in a folder, and returns it.
    pub(crate) fn take(self, files: &Files) -> Result<PathBuf> {
        let folder = server(files);
        let volume = match self {
            Self::Disk => files.disk(),
            Self::Luks => decrypted(files)?,
            Self::Lvm => joined(files)?,
            Self::Ssh | Self::Nfs => return Ok(folder),
        };
        fs::create_dir_all(&folder)?;
        for name in self.made().iter().copied().chain([REFERENCE]) {
            take_file(&volume, name, &folder.join(name))?;
        }
        Ok(folder)
    }

    /// QEMU's options for what is at the end of the network cable, if it is more than the bench's own frames: both are at a hub.
    pub(crate) fn network(self, files: &Files) -> Result<Option<String>> {
        let folder = server(files);
        let (port, command) = match self {
            Self::Ssh => (22, format!("/usr/sbin/sshd -i -f {}", folder.join("sshd.conf").display())),
            Self::Nfs => (nfs::PORT, nfs::server_of(&folder, &paths::made(files.scratch("nfs"))?)?),
            Self::Disk | Self::Luks | Self::Lvm => return Ok(None),
        };
        Ok(Some(format!("user,id=server,restrict=on,guestfwd=tcp:{SERVER}:{port}-cmd:{command}")))
    }
}

/// The volume's content, outside of what it is wrapped in.
fn volume(files: &Files) -> PathBuf {
    files.scratch("volume")
}

/// The dump that makedumpfile made, once all dumps were taken.
pub(crate) fn reference(files: &Files) -> PathBuf {
    server(files).join(REFERENCE)
}

/// The server's folder, or the one that stands for it.
fn server(files: &Files) -> PathBuf {
    files.scratch("server")
}

/// Decrypts the disk. (QEMU knows LUKS of the first version only.)
fn decrypted(files: &Files) -> Result<PathBuf> {
    let disk = format!("driver=luks,key-secret=key,file.filename={}", files.disk().display());
    let mut convert = Command::new("qemu-img");
    convert.args([
        "convert",
        "--object",
        &format!("secret,id=key,data={KEY}"),
        "-O",
        "raw",
        "--image-opts",
        &disk,
    ]);
    process::stdout(convert.arg(volume(files)))?;
    Ok(volume(files))
}

/// Joins the pieces again.
fn joined(files: &Files) -> Result<PathBuf> {
    let (mut disk, mut volume) = (File::open(files.disk())?, File::create(volume(files))?);
    for at in PIECES {
        disk.seek(SeekFrom::Start(FIRST_EXTENT + at * EXTENT))?;
        std::io::copy(&mut Read::by_ref(&mut disk).take(PIECE_EXTENTS * EXTENT), &mut volume)?;
    }
    Ok(self::volume(files))
}

/// Makes keys and settings of the server and of its client.
fn make_server(files: &Files) -> Result<()> {
    let folder = server(files);
    fs::create_dir_all(&folder)?;
    // sshd wants it of root only, and nobody else can make it.
    let _ = fs::create_dir_all("/run/sshd");
    for key in ["host", "client"] {
        let mut make = Command::new("ssh-keygen");
        process::stdout(make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key)))?;
    }
    let [host, client] = ["host", "client.pub"].map(|name| folder.join(name).display().to_string());
    let settings = format!(
        "HostKey {host}\nAuthorizedKeysFile {client}\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n"
    );
    Ok(fs::write(folder.join("sshd.conf"), settings)?)
}

/// Adds the client, which takes its user for somebody only if a file says so.
fn add_client(archive: &mut Archive, files: &Files) -> Result<()> {
    let folder = server(files);
    archive.copy_program("ssh")?;
    archive.add("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n");
    let user = process::stdout(Command::new("id").arg("-un"))?;
    let host = fs::read_to_string(folder.join("host.pub"))?;
    archive.add("scenario/ssh/known", format!("{SERVER} {host}").as_bytes());
    archive.add("scenario/ssh/key", &fs::read(folder.join("client")).context("no key of the client")?);
    let settings = format!(
        "Host server\nHostName {SERVER}\nUser {user}IdentityFile /scenario/ssh/key\nIdentitiesOnly yes\n\
         UserKnownHostsFile /scenario/ssh/known\nStrictHostKeyChecking yes\nConnectTimeout 60\nBatchMode yes\n"
    );
    archive.add("scenario/ssh/config", settings.as_bytes());
    Ok(())
}
