//! The example of `holdover simulate`, and the shortest files that describe a machine of each architecture.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    let least = "title = \"\"\nmemory = \"8M\"\nreservation = \"1M@2M\"\ndisk = \"00:01.0\"\n\
                 damage = [\"page 0 of domain 1 points beyond memory\"]\n[unit]\nqueue = \"busy\"\nstuck = [\"take-root\"]\n\
                 [[domain]]\nid = 1\nwidth = 48\nmap = [\"0 + 2M -> 4M r 2M\"]\n\
                 [[device]]\nat = \"00:01.0\"\nname = \"\"\ndomain = \"pass-through\"\n";
    let amd = least.replacen("disk", "mode = \"amd-vi\"\ndisk", 1).replace("take-root", "switch-queue");
    vec![("example", simulation::EXAMPLE.into()), ("least", least.into()), ("amd", amd.into())]
}
