//! What the guest runs to load Holdover, and to crash.

use super::{Crash, NOT_REFUSED};
use crate::guests::signed;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::events::Start;
use crate::machines::scenario::memory::MemoryUse;
use crate::machines::scenario::watchdog::Watchdog;

/// Has `holdover doctor` tell whether the kernel would load, and why not.
const DOCTOR: &str = "holdover doctor | grep -o 'lockdown: .*' | sed 's/^/doctor: /'\n";

impl Crash<'_> {
    /// The command that loads Holdover in the guest. It uses `kexec` itself where `holdover load` would refuse.
    pub(super) fn load_command(&self, areas: &[String]) -> String {
        let letter = self.scenario.syscall.letter();
        match (self.scenario.start, self.scenario.disk) {
            (Start::Exec, _) => format!("kexec -{letter} -l /capture --command-line=console=ttyS0\n"),
            (_, Disk::OtherLabel | Disk::AfterMissing | Disk::HoldsDump) => self.forced_load(areas),
            _ if self.scenario.is_signed() => self.loads_under_secure_boot(areas),
            _ if self.scenario.loads_nothing() => self.loads_under_lockdown(areas),
            _ if self.scenario.is_refused() => {
                let refused = self.ordinary_load(areas);
                format!("holdover doctor\n{refused} && echo {NOT_REFUSED}\n{}", self.forced_load(areas))
            }
            _ if self.scenario.memory_use == MemoryUse::EveryKind => {
                format!("{}\nholdover doctor | grep 'room for a dump'\n", self.ordinary_load(areas))
            }
            _ => self.ordinary_load(areas) + "\n",
        }
    }

    fn ordinary_load(&self, areas: &[String]) -> String {
        let append = self.append();
        let Scenario { syscall, codec, level, .. } = self.scenario;
        let (codec, areas) = (codec.name(), areas.join(" --area "));
        let syscall = syscall.option();
        format!(
            "holdover load --image /capture --area {areas} {syscall} --codec {codec} --level {level} {append}"
        )
    }

    /// The option with which Holdover makes a mistake on request.
    pub(super) fn append(&self) -> String {
        let mutation = self.scenario.mutation;
        mutation.map(|mutation| format!("--append holdover.mutate={}", mutation.name())).unwrap_or_default()
    }

    /// Tries what a kernel under Secure Boot must refuse; then loads the signed image, removes it, and loads it again.
    fn loads_under_secure_boot(&self, areas: &[String]) -> String {
        let load = self.ordinary_load(areas);
        let wrong = |name: &str| load.replace("/capture ", &format!("/{name} "));
        let refused: String =
            signed::REFUSED.map(|name| format!("{} && echo {NOT_REFUSED}\n", wrong(name))).concat();
        format!(
            "{DOCTOR}{refused}{load} --syscall load && echo {NOT_REFUSED}\n\
             {load}\nholdover unload\necho unloaded $(cat /sys/kernel/kexec_crash_loaded)\n\
             mkdir -p /var/lib/holdover\ncp /capture /var/lib/holdover/capture.bzImage\n{load}\n{DOCTOR}"
        )
    }

    /// Tries both system calls on a kernel that wants a signature and takes no key.
    fn loads_under_lockdown(&self, areas: &[String]) -> String {
        let load = self.ordinary_load(areas);
        format!("{DOCTOR}{load} && echo {NOT_REFUSED}\n{load} --syscall load && echo {NOT_REFUSED}\n")
    }

    /// Loads it in spite of what `holdover load` says.
    fn forced_load(&self, areas: &[String]) -> String {
        let (letter, areas) = (self.scenario.syscall.letter(), areas.join(","));
        format!("kexec -{letter} -p /capture --command-line='console=ttyS0 holdover.area={areas}'\n")
    }

    /// Runs in the guest.
    pub(super) fn crash_command(&self) -> String {
        let arm = self.scenario.watchdog.map_or("", Watchdog::arm);
        let crash = match self.scenario.start {
            Start::PanicElsewhere => "taskset 2 sh -c 'echo c > /proc/sysrq-trigger'",
            Start::Exec => "kexec -e",
            // These do not come from the guest's own program.
            Start::MachineCheck | Start::PanicInInterrupt | Start::PanicInNmi => "",
            Start::Panic => "echo c > /proc/sysrq-trigger",
        };
        format!("{arm}{crash}\n")
    }
}
