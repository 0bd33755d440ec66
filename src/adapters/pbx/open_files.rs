//! Which files below the working directories a PBX's processes hold open, seen in `/proc`.
//!
//! A process that holds one (a SQLite database, a log) works on while the sync replaces the file under it, and never
//! sees the new one. Only a PBX's own processes are looked at: those in its unit's control group, and programs with a
//! PBX's name, wherever they run. What belongs there (rsync, Syncthing, a backup program, an editor) is never asked, and a
//! container's directory of the same name is not ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::open_files::{Budget, RIGHT, held_within, real, shown};
use crate::units::Look;

/// Programs that are a PBX, by the name that the kernel keeps of them (15 bytes); Vodia's ends in its platform's name.
const PROGRAMS: [&str; 6] = ["asterisk", "safe_asterisk", "freeswitch", "kamailio", "opensips", "pbxctrl"];
const PROGRAM_PREFIX: &str = "pbxctrl-";

/// How many descriptors of one process a look reads: the lowest, which a program opens as it starts (its database, its
/// log), before the sockets of its phones. Ten microseconds each, so that 50,000 would cost half a second each time.
const OF_ONE_MAX: usize = 1_000;

/// How many descriptors of all processes one look reads: some tens of milliseconds.
const OF_ALL_MAX: usize = 5_000;

/// How long one look may take where the host is slow; the counts above bound what it costs.
const TIME_MAX: Duration = Duration::from_secs(1);

/// So many held files are named; one is enough to act upon.
const NAMED_MAX: usize = 3;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The working directories.
    pub dirs: Vec<PathBuf>,
    /// The control group of the PBX's unit, while it runs: `/system.slice/asterisk.service`.
    pub group: Option<String>,
}

/// A file that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holding {
    pid: u32,
    program: String,
    path: PathBuf,
}

impl Scan {
    /// Looks once; takes some milliseconds, so not on a task that others wait for.
    pub fn look(&self) -> Look {
        self.look_within(&mut Budget::of(OF_ONE_MAX, OF_ALL_MAX, TIME_MAX))
    }

    fn look_within(&self, budget: &mut Budget) -> Look {
        let dirs = real(&self.dirs);
        let processes = match fs::read_dir("/proc") {
            Ok(processes) => processes,
            Err(error) => return Look::Unknown(format!("/proc cannot be read: {error}")),
        };
        let (mut holding, mut denied) = (Vec::new(), None);
        for entry in processes.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid == std::process::id() {
                continue;
            }
            let Some(program) = self.suspect(&entry.path()) else { continue };
            match held_within(&entry.path(), &dirs, budget) {
                Ok(Some(path)) => holding.push(Holding { pid, program, path }),
                Ok(None) => {}
                // It has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => drop(denied.get_or_insert((pid, program, error))),
            }
            if holding.len() >= NAMED_MAX {
                break;
            }
            if budget.is_spent() {
                budget.is_cut = true;
                break;
            }
        }
        if !holding.is_empty() {
            let told = |Holding { pid, program, path }: &Holding| format!("{program} ({pid}) holds {}", shown(path));
            let told: Vec<_> = holding.iter().map(told).collect();
            let why = "it works on with it while the sync replaces it";
            return Look::Seen(format!("{} open: {why}", told.join(", ")));
        }
        if let Some((pid, program, error)) = denied {
            return Look::Unknown(format!("the open files of {program} ({pid}) cannot be seen: {error}; {RIGHT}"));
        }
        if budget.is_cut {
            return Look::Unknown(
                "too many open files to look at all of them: not one of the first is held".to_owned(),
            );
        }
        // The first process of all is always there, unless others' are hidden.
        if !Path::new("/proc/1").exists() {
            return Look::Unknown(format!("the processes of other users are hidden from this one; {RIGHT}"));
        }
        Look::Clear
    }

    /// The program's name, if it may be the PBX.
    fn suspect(&self, process: &Path) -> Option<String> {
        let name = fs::read(process.join("comm")).ok()?;
        // A process gives itself any name; what it holds is told to people in one line.
        let name = String::from_utf8_lossy(name.trim_ascii()).escape_debug().to_string();
        (PROGRAMS.contains(&name.as_str()) || name.starts_with(PROGRAM_PREFIX) || self.is_in_group(process))
            .then_some(name)
    }

    fn is_in_group(&self, process: &Path) -> bool {
        let Some(group) = self.group.as_deref().filter(|group| group.len() > 1) else { return false };
        // `0::/system.slice/x.service`, and in the older hierarchy a line for each controller.
        let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .any(|path| path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::host::open_files::held;

    /// A process with a program's name that holds `held` as its standard input; ended when dropped.
    struct Program(Child);

    impl Program {
        /// `dir` is where its program lies.
        fn start(dir: &Path, name: &str, held: &Path) -> Self {
            let program = dir.join(name);
            fs::copy("/bin/sleep", &program).expect("a program");
            let held = fs::File::open(held).expect("a file to hold");
            let mut command = Command::new(&program);
            command.arg("600").stdin(held).stdout(Stdio::null());
            // Another test's child may hold the program open for writing for a moment, between its fork and its exec.
            let child = loop {
                match command.spawn() {
                    Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                    other => break other.expect("it starts"),
                }
            };
            // The kernel has its name once it runs that program.
            let comm = PathBuf::from(format!("/proc/{}/comm", child.id()));
            while fs::read_to_string(&comm).is_ok_and(|now| now.trim() != &name[..name.len().min(15)]) {
                std::thread::yield_now();
            }
            Self(child)
        }

        fn id(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    struct Rig {
        _dir: tempfile::TempDir,
        programs: PathBuf,
        work: PathBuf,
        file: PathBuf,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().expect("directory");
        let (programs, work) = (dir.path().join("programs"), dir.path().join("work"));
        fs::create_dir(&programs).expect("directory");
        fs::create_dir(&work).expect("directory");
        let file = work.join("astdb.sqlite3");
        fs::write(&file, "data").expect("file");
        Rig { _dir: dir, programs, work, file }
    }

    fn scan(rig: &Rig, group: Option<String>) -> Look {
        // Other PBXs run beside a test, on a host that may be busy: what a look may cost has a test of its own.
        let mut budget = Budget::of_a_proof();
        Scan { dirs: vec![rig.work.clone()], group }.look_within(&mut budget)
    }

    /// What is seen where nothing is held: other tests' programs of other users may be there.
    fn nothing_held(look: &Look) -> bool {
        !matches!(look, Look::Seen(_))
    }

    #[test]
    fn a_pbx_that_holds_a_synced_file_is_named_with_its_process_until_it_ends() {
        for name in ["asterisk", "kamailio", "freeswitch", "pbxctrl-debian64"] {
            let rig = rig();
            let program = Program::start(&rig.programs, name, &rig.file);
            let Look::Seen(said) = scan(&rig, None) else { panic!("{name}: {:?}", scan(&rig, None)) };
            assert!(said.contains(&format!("({}) holds", program.id())), "{said}");
            assert!(said.contains(&rig.file.canonicalize().expect("path").display().to_string()), "{said}");
            fs::rename(&rig.file, rig.work.join("old")).expect("moved");
            fs::remove_file(rig.work.join("old")).expect("the sync replaces it");
            assert!(matches!(scan(&rig, None), Look::Seen(said) if said.contains("(deleted)")), "also a replaced one");
            drop(program);
            assert!(nothing_held(&scan(&rig, None)), "{:?}", scan(&rig, None));
        }
    }

    #[test]
    fn what_belongs_to_the_sync_or_a_person_is_never_blamed() {
        let rig = rig();
        let names = ["rsync", "syncthing", "lsyncd", "unison", "restic", "vim", "pbx-failover", "asterisk-tools"];
        let _programs = names.map(|name| Program::start(&rig.programs, name, &rig.file));
        let look = scan(&rig, None);
        assert!(nothing_held(&look), "{look:?}");
    }

    #[test]
    fn a_pbx_that_holds_files_elsewhere_or_only_the_directory_is_passive() {
        let rig = rig();
        let other = rig.programs.join("log");
        fs::write(&other, "").expect("file");
        let _programs =
            [Program::start(&rig.programs, "asterisk", &other), Program::start(&rig.programs, "opensips", &rig.work)];
        let look = scan(&rig, None);
        assert!(nothing_held(&look), "{look:?}");
    }

    #[test]
    fn whatever_runs_in_the_units_control_group_is_the_pbx() {
        let rig = rig();
        let _program = Program::start(&rig.programs, "java", &rig.file);
        let own = fs::read_to_string("/proc/self/cgroup").expect("a control group");
        let own = own.lines().find_map(|line| line.splitn(3, ':').nth(2)).expect("a path").to_owned();
        assert!(nothing_held(&scan(&rig, Some("/system.slice/other.service".into()))));
        assert!(nothing_held(&scan(&rig, Some("/".into()))), "the root of all groups is no unit's");
        if own.len() > 1 {
            assert!(matches!(scan(&rig, Some(own)), Look::Seen(said) if said.contains("java")));
        }
    }

    /// A process in a mount namespace of its own, after `prepare` (a line of shell) was done there; `None` where this
    /// user may make none. It says `ready` once it holds the file.
    fn in_a_namespace(rig: &Rig, prepare: &str) -> Option<Program> {
        let asterisk = rig.programs.join("asterisk");
        fs::copy("/bin/sleep", &asterisk).expect("a program");
        if !Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        {
            return None;
        }
        let script = format!("set -e; cd /; {prepare}; echo ready; exec \"$PROGRAM\" 600 >/dev/null");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .env("WORK", &rig.work)
            .env("FILE", &rig.file)
            .env("PROGRAM", &asterisk)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut program = Program(child.expect("it starts"));
        let mut said = [0; 5];
        let stdout = program.0.stdout.as_mut().expect("piped");
        io::Read::read_exact(stdout, &mut said).expect("it is ready");
        let comm = PathBuf::from(format!("/proc/{}/comm", program.id()));
        while fs::read_to_string(&comm).is_ok_and(|now| now.trim() != "asterisk") {
            std::thread::yield_now();
        }
        Some(program)
    }

    #[test]
    fn a_containers_own_directory_of_the_same_name_is_not_ours() {
        const OWN: &str = "mount -t tmpfs none \"$WORK\"; echo own > \"$FILE\"; exec < \"$FILE\"";
        const MAPPED: &str =
            "mount -t tmpfs none \"$WORK\"; cp \"$PROGRAM\" \"$WORK/asterisk\"; PROGRAM=\"$WORK/asterisk\"";
        for prepare in [OWN, &format!("{OWN}; rm \"$FILE\""), MAPPED] {
            let rig = rig();
            let Some(program) = in_a_namespace(&rig, prepare) else { return };
            let links = fs::read_link(format!("/proc/{}/fd/0", program.id())).expect("its file");
            let maps = fs::read_to_string(format!("/proc/{}/maps", program.id())).expect("its maps");
            let work = rig.work.canonicalize().expect("path").display().to_string();
            assert!(links.starts_with(&work) || maps.contains(&work), "it has the name, at least: {links:?}");
            let look = scan(&rig, None);
            assert!(nothing_held(&look), "{prepare}: {look:?}");
        }
    }

    #[test]
    fn a_sandbox_or_a_chroot_that_shows_our_directory_hides_nothing() {
        const SANDBOX: &str = "mount -t tmpfs none /mnt; exec < \"$FILE\"";
        const MAPPED: &str = "cp \"$PROGRAM\" \"$WORK/asterisk\"; PROGRAM=\"$WORK/asterisk\"";
        for prepare in [SANDBOX, &format!("{SANDBOX}; rm \"$FILE\""), MAPPED] {
            let rig = rig();
            let Some(program) = in_a_namespace(&rig, prepare) else { return };
            let look = scan(&rig, None);
            let id = format!("asterisk ({})", program.id());
            assert!(matches!(&look, Look::Seen(said) if said.contains(&id)), "{prepare}: {look:?}");
        }
    }

    #[test]
    fn a_name_of_a_file_or_a_program_stays_in_its_line() {
        let rig = rig();
        let file = rig.work.join("ä\n\u{1b}[2Jall is well");
        fs::write(&file, "").expect("file");
        let _program = Program::start(&rig.programs, "pbxctrl-\u{1b}[2J", &file);
        let Look::Seen(said) = scan(&rig, None) else { panic!("{:?}", scan(&rig, None)) };
        assert!(!said.contains(char::is_control), "{said:?}");
        assert!(said.contains(r"ä\n\u{1b}[2Jall is well") && said.contains(r"pbxctrl-\u{1b}[2J ("), "{said}");
    }

    #[test]
    fn a_mapped_file_whose_name_is_no_text_hides_nothing() {
        let rig = rig();
        let odd = rig.programs.join(OsStr::from_bytes(b"odd\xff"));
        fs::create_dir(&odd).expect("directory");
        let program = Program::start(&odd, "asterisk", Path::new("/dev/null"));
        let process = PathBuf::from(format!("/proc/{}", program.id()));
        assert_eq!(held(&process, &real(std::slice::from_ref(&rig.work))).expect("it is seen"), None);
        let held = held(&process, &real(&[odd])).expect("it is seen").expect("its own program is mapped");
        assert!(held.ends_with("asterisk") && shown(&held).contains('\u{fffd}'), "{held:?}");
    }

    #[test]
    fn a_look_that_would_cost_too_much_says_so() {
        let rig = rig();
        let _program = Program::start(&rig.programs, "asterisk", &rig.programs.join("asterisk"));
        let scan = Scan { dirs: vec![rig.work.clone()], group: None };
        for (of_one, of_all, time) in [(1, 100, TIME_MAX), (100, 2, TIME_MAX), (100, 100, Duration::ZERO)] {
            let look = scan.look_within(&mut Budget::of(of_one, of_all, time));
            assert!(matches!(&look, Look::Unknown(why) if why.contains("too many")), "{look:?}");
        }
    }
}
