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

/// How many descriptors and mappings one look reads: a PBX with more holds a file among the first, or keeps its sockets
/// there.
const FILES_MAX: usize = 60_000;

/// How long one look may take: it is asked again and again on a host that has other work.
const TIME_MAX: Duration = Duration::from_millis(250);

/// The same where a proof is asked for, once and not again and again.
const PROOF_FILES_MAX: usize = 1_000_000;
const PROOF_TIME_MAX: Duration = Duration::from_secs(10);

/// So many held files are named; one is enough to act upon.
const NAMED_MAX: usize = 3;

/// What a look may cost.
#[derive(Debug)]
struct Budget {
    files: usize,
    until: Instant,
}

impl Budget {
    /// Whether one more file may be looked at.
    fn spend(&mut self) -> bool {
        self.files = self.files.saturating_sub(1);
        // The clock is asked seldom: it costs as much as the file.
        self.files > 0 && (!self.files.is_multiple_of(256) || Instant::now() < self.until)
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
        let mut budget = Budget { files: FILES_MAX, until: Instant::now() + TIME_MAX };
        self.look_within(&mut budget)
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
            if holding.len() >= NAMED_MAX || budget.files == 0 || Instant::now() >= budget.until {
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
        if budget.files == 0 || Instant::now() >= budget.until {
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

/// The kernel names files by their real path.
pub fn real(dirs: &[PathBuf]) -> Vec<PathBuf> {
    dirs.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())).collect()
}

/// The first file below `dirs` that this process holds open, or has mapped.
///
/// # Errors
/// When it may not be looked at.
pub fn held(process: &Path, dirs: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    held_by(process, dirs, &mut Budget { files: PROOF_FILES_MAX, until: Instant::now() + PROOF_TIME_MAX })
}

fn held_by(process: &Path, dirs: &[PathBuf], budget: &mut Budget) -> io::Result<Option<PathBuf>> {
    let inside = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?.path();
        // A file that was closed meanwhile is not held; a directory may be, by whoever stands in it.
        if let Ok(path) = fs::read_link(&entry)
            && inside(&path)
            && fs::metadata(&entry).is_ok_and(|file| !file.is_dir())
        {
            return Ok(Some(path));
        }
        if !budget.spend() {
            return Ok(None);
        }
    }
    // `address perms offset dev inode path`; what is no file has no path that begins with /.
    let maps = fs::read_to_string(process.join("maps"))?;
    let mut mapped = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    Ok(mapped.find(|path| budget.spend() && inside(path)).map(Path::to_owned))
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
        Scan { dirs: vec![rig.work.clone()], group }.look()
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
    fn a_look_that_would_take_too_long_says_so() {
        let rig = rig();
        let _program = Program::start(&rig.programs, "asterisk", &rig.programs.join("asterisk"));
        let scan = Scan { dirs: vec![rig.work.clone()], group: None };
        let mut budget = Budget { files: 2, until: Instant::now() + TIME_MAX };
        assert!(matches!(scan.look_within(&mut budget), Look::Unknown(why) if why.contains("too many")));
    }
}
