//! Which files below the working directories a PBX's processes hold open, seen in `/proc`.
//!
//! A process that holds one (a SQLite database, a log) works on while the sync replaces the file under it, and never
//! sees the new one. Only a PBX's own processes are looked at: those in its unit's control group, and programs with a
//! PBX's name, wherever they run. What belongs there (rsync, Syncthing, a backup program, an editor) is never asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::units::Look;

/// Programs that are a PBX, by the name that the kernel keeps of them (15 bytes); Vodia's ends in its platform's name.
const PROGRAMS: [&str; 6] = ["asterisk", "safe_asterisk", "freeswitch", "kamailio", "opensips", "pbxctrl"];
const PROGRAM_PREFIX: &str = "pbxctrl-";

/// How many descriptors of one process a look reads: the lowest, which a program opens as it starts (its database, its
/// log), before the sockets of its phones. Ten microseconds each, so that 50,000 would cost half a second each time.
const OF_ONE_MAX: usize = 1_000;

/// How many descriptors of all processes one look reads: some tens of milliseconds.
const OF_ALL_MAX: usize = 5_000;

/// What the list of a process's mappings costs, in descriptors: it is one file, however long.
const MAPS_COST: usize = 10;

/// How long one look may take where the host is slow; the counts above bound what it costs.
const TIME_MAX: Duration = Duration::from_secs(1);

/// The same where a proof is asked for, once and not again and again.
const PROOF_FILES_MAX: usize = 1_000_000;
const PROOF_TIME_MAX: Duration = Duration::from_secs(10);

/// So many held files are named; one is enough to act upon.
const NAMED_MAX: usize = 3;

/// What a look may cost.
#[derive(Debug)]
struct Budget {
    /// Of one process.
    of_one: usize,
    /// Of all that are still to come.
    files: usize,
    until: Instant,
    /// Something was left out.
    is_cut: bool,
}

impl Budget {
    fn of(of_one: usize, files: usize, time: Duration) -> Self {
        Self { of_one, files, until: Instant::now() + time, is_cut: false }
    }

    /// Whether one more may be looked at: the one at this place of its process.
    fn spend(&mut self, place: usize) -> bool {
        self.files = self.files.saturating_sub(1);
        // The clock is asked seldom: it costs as much as the file.
        let is_late = place.is_multiple_of(128) && Instant::now() >= self.until;
        self.is_cut |= place >= self.of_one || self.files == 0 || is_late;
        place < self.of_one && self.files > 0 && !is_late
    }

    fn is_spent(&self) -> bool {
        self.files == 0 || Instant::now() >= self.until
    }
}

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
            match held_by(&entry.path(), &dirs, budget) {
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
            let told = |Holding { pid, program, path }: &Holding| format!("{program} ({pid}) holds {}", path.display());
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
        let name = fs::read_to_string(process.join("comm")).ok()?.trim().to_owned();
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

/// What lets this program see other users' open files.
const RIGHT: &str =
    "to see them, let the robot run as the PBX's user, or give it the two capabilities of docs/systemd.md";

/// Whether this process sees which files other users' programs hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Of every program.
    All,
    /// Of its own user's programs only.
    OwnUser,
}

/// How far this process sees. Root without a capability sees as little as anybody, so only they count.
pub fn sight() -> Sight {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    sight_of(&status)
}

fn sight_of(status: &str) -> Sight {
    /// `CAP_DAC_READ_SEARCH` opens another's `/proc/PID/fd`, `CAP_SYS_PTRACE` reads the links in it (capabilities(7)).
    const NEEDED: u64 = 1 << 2 | 1 << 19;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    if effective & NEEDED == NEEDED { Sight::All } else { Sight::OwnUser }
}

/// What lets this program see other users' open files, as advice.
pub fn right() -> &'static str {
    RIGHT
}

/// The kernel names files by their real path.
pub fn real(dirs: &[PathBuf]) -> Vec<PathBuf> {
    dirs.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())).collect()
}

/// The first file below `dirs` that this process holds open, or has mapped.
///
/// # Errors
/// When it may not be looked at.
pub fn held(process: &Path, dirs: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    held_by(process, dirs, &mut Budget::of(PROOF_FILES_MAX, PROOF_FILES_MAX, PROOF_TIME_MAX))
}

fn held_by(process: &Path, dirs: &[PathBuf], budget: &mut Budget) -> io::Result<Option<PathBuf>> {
    let inside = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    for (place, entry) in fs::read_dir(process.join("fd"))?.enumerate() {
        let entry = entry?.path();
        if !budget.spend(place) {
            break;
        }
        // A file that was closed meanwhile is not held; a directory may be, by whoever stands in it.
        if let Ok(path) = fs::read_link(&entry)
            && inside(&path)
            && fs::metadata(&entry).is_ok_and(|file| !file.is_dir())
        {
            return Ok(Some(path));
        }
    }
    // `address perms offset dev inode path`; what is no file has no path that begins with /.
    let maps = fs::read_to_string(process.join("maps"))?;
    budget.files = budget.files.saturating_sub(MAPS_COST);
    let mut mapped = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    Ok(mapped.find(|path| inside(path)).map(Path::to_owned))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

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
        let mut budget = Budget::of(PROOF_FILES_MAX, PROOF_FILES_MAX, PROOF_TIME_MAX);
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

    #[test]
    fn only_both_capabilities_let_it_see_the_files_of_other_users() {
        let status = |bits: u64| format!("Name:\tpbx-failover\nCapPrm:\tffffffffffffffff\nCapEff:\t{bits:016x}\n");
        assert_eq!(sight_of(&status(u64::MAX)), Sight::All);
        assert_eq!(sight_of(&status(1 << 19 | 1 << 2)), Sight::All);
        for bits in [0, 1 << 19, 1 << 2] {
            assert_eq!(sight_of(&status(bits)), Sight::OwnUser, "{bits:x}");
        }
        assert_eq!(sight_of("nothing"), Sight::OwnUser);
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
