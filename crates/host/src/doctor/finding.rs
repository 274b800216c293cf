//! What `doctor` finds: each problem has a code, which `docs/messages.md` explains, and a remedy that can be typed.

use serde::{Serialize, Serializer};

/// One thing that a host needs, and what was found of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: Subject,
    /// Whether it is as it should be.
    pub state: State,
    /// Which problem there is; `None` if there is none.
    pub code: Option<Code>,
    /// What was found.
    pub found: String,
    /// Why the problem matters; empty if there is none.
    pub why: &'static str,
    /// What to do about it; empty if nothing is to be done.
    pub remedy: String,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Ok,
    /// A crash will be dumped all the same, in all likelihood.
    Warning,
    /// It is missing, or cannot be used: a crash will not be dumped as it should be.
    Missing,
    /// This user may not see it.
    Unknown,
}

/// What to do where this user sees too little.
pub(super) const AS_ROOT: &str = "run `holdover doctor` as root";

impl Finding {
    /// It is as it should be.
    pub(super) fn ok(what: Subject, found: impl Into<String>) -> Self {
        Self { what, state: State::Ok, code: None, found: found.into(), why: "", remedy: String::new() }
    }

    /// Where a fallback kernel takes the dump, it needs neither an area, nor a disk for which there is a driver.
    pub(super) fn with_fallback(self) -> Self {
        match self.code {
            Some(Code::NoUsableDisk | Code::AreaAbsent) => {
                Self::ok(self.what, format!("{}; the fallback kernel takes the dump", self.found))
            }
            _ => self,
        }
    }

    /// It is no obstacle to a dump, and should be otherwise.
    pub(super) fn warning(code: Code, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, ..Self::missing(code, found, remedy) }
    }

    /// It is in the way of a dump.
    pub(super) fn missing(code: Code, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), remedy.into());
        Self { what: code.subject(), state: State::Missing, code: Some(code), found, why: code.why(), remedy }
    }

    /// Only root can tell.
    pub(super) fn unknown(code: Code, found: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::missing(code, found, AS_ROOT) }
    }
}

/// Defines an enum of names: what people read.
macro_rules! subjects {
    ($($(#[$doc:meta])* $subject:ident = $name:literal;)*) => {
        /// What `doctor` looks at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Subject { $($(#[$doc])* $subject),* }

        impl Subject {
            /// What people call it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$subject => $name),* }
            }
        }
    };
}

/// Defines the problems: the code that people can look up, what it is about, and why it matters.
macro_rules! codes {
    ($($code:ident = $name:literal of $subject:ident because $why:literal;)*) => {
        /// A problem that `doctor` knows; `docs/messages.md` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $why] $code),* }

        impl Code {
            /// All of them, in the order of [`Subject`].
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The name under which it is explained.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// What it is about.
            pub const fn subject(self) -> Subject {
                match self { $(Self::$code => Subject::$subject),* }
            }

            /// Why it matters.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$code => $why),* }
            }
        }
    };
}

subjects! {
    /// What `/etc/holdover.toml` says.
    Configuration = "configuration";
    /// The memory that `crashkernel=` sets aside.
    Reservation = "crash reservation";
    /// The IOMMUs, and how they translate.
    Iommu = "IOMMU";
    /// Whether what is in memory can be read.
    Memory = "memory";
    /// Which devices go on reading and writing memory after a panic.
    Dma = "devices after a panic";
    /// Where ACPI's tables begin.
    RootPointer = "ACPI root pointer";
    /// Whether the kernel loads a crash kernel, and whose.
    Permission = "permission to load";
    /// The disks, and whether the capture kernel can write to them.
    Disks = "disks";
    /// Where dumps go.
    Area = "dump area";
    /// Whether a dump fits.
    Room = "room for a dump";
    /// Timers that reset the machine.
    Watchdogs = "watchdogs";
    /// Services that load crash kernels too.
    Rivals = "other crash kernels";
    /// The kernel to which the capture kernel hands over.
    Fallback = "fallback kernel";
    /// What is loaded.
    CaptureKernel = "capture kernel";
    /// The last crash on request.
    Test = "last test";
    /// What ends in a panic, and what follows one that is not dumped.
    Panics = "panic settings";
    /// Where collected dumps go.
    Collecting = "room for collected dumps";
}

codes! {
    ConfigurationRefused = "configuration-refused" of Configuration
        because "What stands in the configuration counts only where it is understood.";
    ReservationSmall = "reservation-small" of Reservation
        because "The capture kernel runs in this memory alone; without enough of it, none is loaded.";
    IommuOff = "iommu-off" of Iommu
        because "Nothing keeps a device that goes on after the panic from overwriting the capture kernel.";
    IommuTableDamaged = "iommu-table-damaged" of Iommu
        because "The capture kernel finds the remapping units by this table of the firmware's.";
    IommuAbsent = "iommu-absent" of Iommu
        because "Nothing keeps a device that goes on after the panic from overwriting the capture kernel.";
    IommuLocked = "iommu-locked" of Iommu
        because "Where secure nested paging is on, the capture kernel changes the device table of an AMD IOMMU where it is, in memory that a stray device may write to.";
    MemoryEncrypted = "memory-encrypted" of Memory
        because "The capture kernel reads memory as it is stored: of a kernel that encrypts it, no page of a dump would mean anything.";
    DmaUnguarded = "dma-unguarded" of Dma
        because "These devices reach all memory, and do not notice the panic: one that is mistaken can overwrite the dump's source or the capture kernel.";
    RootPointerUnknown = "root-pointer-unknown" of RootPointer
        because "Without it the capture kernel finds neither remapping units nor disks.";
    RootPointerUnreadable = "root-pointer-unreadable" of RootPointer
        because "Without it the capture kernel finds neither remapping units nor disks.";
    KexecRefused = "kexec-refused" of Permission
        because "This kernel loads no crash kernel any more, until it restarts.";
    SignatureWanted = "signature-wanted" of Permission
        because "A kernel that is locked down loads only images with a signature that it trusts.";
    SignerUnknown = "signer-unknown" of Permission
        because "A kernel that is locked down loads only images that are signed with a key in its keyrings.";
    NotRoot = "not-root" of Permission
        because "Only root loads a crash kernel, and sees whether all is in place.";
    NoUsableDisk = "no-usable-disk" of Disks
        because "The capture kernel has drivers of its own, and writes to no other disk.";
    AreaAbsent = "area-absent" of Area
        because "The capture kernel writes only to a disk or a file that was prepared for it.";
    AreaLost = "area-lost" of Area
        because "The capture kernel would find no area where it looks, or another's data.";
    AreaUnusable = "area-unusable" of Area
        because "The capture kernel passes an area over that is not as its label says.";
    AreaCopied = "area-copied" of Area
        because "Two disks have one label, and either could get the dump.";
    AreaMoved = "area-moved" of Area
        because "The capture kernel writes to the blocks where the file was when it was loaded.";
    AreaHoldsDump = "area-holds-dump" of Area
        because "A dump that nobody has collected is kept: the next one does not go there.";
    AreaWithoutDriver = "area-without-driver" of Area
        because "The capture kernel has drivers of its own, and cannot write to this disk.";
    AreaLeftOut = "area-left-out" of Area
        because "No dump goes to an area that was not there when the capture kernel was loaded.";
    AreaUnseen = "area-unseen" of Area
        because "Whether there is an area takes reading disks.";
    RoomTooSmall = "room-too-small" of Room
        because "A dump that does not fit is cut off: what readers need is in it, and other pages are missing.";
    RoomTight = "room-tight" of Room
        because "Whether the dump fits depends on how well its pages compress.";
    RoomUnknown = "room-unknown" of Room
        because "The kernel shows how its pages are used to root only.";
    WatchdogUnknown = "watchdog-unknown" of Watchdogs
        because "An armed watchdog resets the machine in the middle of the dump, unless the capture kernel knows how to ping it.";
    RivalEnabled = "rival-enabled" of Rivals
        because "There is room for one crash kernel: whoever loads last takes the place.";
    FallbackRefused = "fallback-refused" of Fallback
        because "The capture kernel is not loaded without the fallback kernel that is to travel with it.";
    FallbackReservationSmall = "fallback-reservation-small" of Fallback
        because "The fallback kernel runs in what the capture kernel leaves of the reserved memory.";
    FallbackWithoutIommu = "fallback-without-iommu" of Fallback
        because "Translation stays on, and a kernel that does not know of it reaches no disk and no network.";
    FallbackUnseen = "fallback-unseen" of Fallback
        because "Whether the fallback kernel can be loaded takes reading it.";
    NotLoaded = "not-loaded" of CaptureKernel
        because "A panic is not dumped until the capture kernel is loaded; that ends with each boot.";
    LoadedForeign = "loaded-foreign" of CaptureKernel
        because "A panic starts the crash kernel of somebody else.";
    LoadedReplaced = "loaded-replaced" of CaptureKernel
        because "A panic starts the crash kernel of somebody else.";
    LoadedStale = "loaded-stale" of CaptureKernel
        because "The capture kernel believes what it was told when it was loaded.";
    LoadedUnseen = "loaded-unseen" of CaptureKernel
        because "Another crash kernel may have taken the place since.";
    NeverTested = "never-tested" of Test
        because "Whether this machine's firmware, disk and kernel play together, only a crash shows.";
    TestFailed = "test-failed" of Test
        because "The last crash on request did not end in a complete dump.";
    TestStale = "test-stale" of Test
        because "What the test showed holds for the machine as it was.";
    OopsGoesOn = "oops-goes-on" of Panics
        because "After an oops the kernel goes on with what is left, and there is no dump of its cause.";
    HangsUnnoticed = "hangs-unnoticed" of Panics
        because "A machine that hangs does not panic, so nothing is dumped, unless the kernel is told to panic then.";
    PanicHalts = "panic-halts" of Panics
        because "If the capture kernel cannot be started, the machine stands until somebody restarts it.";
    NotifiersFirst = "notifiers-first" of Panics
        because "What the dying kernel runs before it starts the capture kernel can hang.";
    CollectingFull = "collecting-full" of Collecting
        because "A dump that cannot be copied stays in its area, and the next one does not go there.";
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_name_of_its_own_and_a_reason() {
        for (at, code) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[..at].iter().all(|other| other.name() != code.name()), "{}", code.name());
            assert!(code.why().ends_with('.'), "{}", code.name());
        }
    }

    #[test]
    fn where_a_fallback_kernel_takes_the_dump_no_area_and_no_driver_are_needed() {
        let missing = |code| Finding::missing(code, "none", "make one").with_fallback();
        for code in [Code::NoUsableDisk, Code::AreaAbsent] {
            let finding = missing(code);
            assert_eq!((finding.state, finding.code), (State::Ok, None));
            assert_eq!(finding.found, "none; the fallback kernel takes the dump");
        }
        assert_eq!(missing(Code::AreaLost).state, State::Missing, "one that is named");
    }
}
