//! The programs of a system that Holdover runs: `systemctl`, `update-grub`, `grubby`. A test has others in their place.

use std::io;
use std::process::Command;

/// Runs programs.
pub trait Programs {
    /// Runs a program to its end; returns what it wrote. A program that fails is an error, with what it said.
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<String>;
}

/// The programs of this host.
#[derive(Clone, Copy, Debug)]
pub struct HostPrograms;

impl Programs for HostPrograms {
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(program).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{}: {}", output.status, said.trim())))
    }
}

/// No programs: those of a system that does not run.
#[derive(Clone, Copy, Debug)]
pub struct NoPrograms;

impl Programs for NoPrograms {
    fn run(&self, program: &str, _: &[&str]) -> io::Result<String> {
        Err(io::Error::other(format!("{program} is not run: the system does not run")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Programs that do nothing and are noted.
    #[derive(Default)]
    pub(crate) struct Noted {
        /// The command lines, in their order.
        pub(crate) lines: RefCell<Vec<String>>,
        /// What each writes.
        pub(crate) output: String,
    }

    impl Programs for Noted {
        fn run(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
            self.lines.borrow_mut().push([&[program], arguments].concat().join(" "));
            Ok(self.output.clone())
        }
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_what_it_said() {
        assert_eq!(HostPrograms.run("echo", &["a", "b"]).unwrap(), "a b\n");
        let failed = HostPrograms.run("sh", &["-c", "echo no >&2; exit 7"]).unwrap_err().to_string();
        assert!(failed.contains('7') && failed.ends_with("no"), "{failed}");
        assert_eq!(HostPrograms.run("/no/such", &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
