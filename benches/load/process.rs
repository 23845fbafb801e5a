//! Servers in processes of their own, and their figures from the kernel.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server on a free port, ended with its value.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    /// What it printed up to the line with its address.
    #[allow(dead_code, reason = "the scale benchmark reads it")]
    pub(crate) greeting: Vec<String>,
}

impl Process {
    /// Starts safeserve on a model repository, with settings such as `limits.max_request_rows=9`.
    pub(crate) fn safeserve(binary: &str, repository: &Path, settings: &[&str]) -> Self {
        let mut command = Command::new(binary);
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--models"])
            .arg(repository);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::start(command)
    }

    /// Starts a process and waits for the line in which it says where it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the process starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = output.lines().map(|line| line.expect("text"));
        let mut greeting = Vec::new();
        let address = lines
            .by_ref()
            .find_map(|line| {
                let address = address(&line).map(str::to_owned);
                greeting.push(line);
                address
            })
            .expect("the process says where it listens");
        // Keeps the pipe open and empty, so that the process never waits on it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            greeting,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already if it failed; there is nothing to end then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line that names one.
fn address(line: &str) -> Option<&str> {
    let (_, address) = line.split_once("http://")?;
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    Some(&address[..end.unwrap_or(address.len())])
}

/// The CPU time that a process and all that descend from it have used so far, user and system.
pub(crate) fn cpu_time(root: u32) -> Duration {
    let mut family = HashMap::new();
    for entry in fs::read_dir("/proc").expect("a Linux").flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.parse::<u32>().ok());
        // A process may end while it is looked at.
        if let Some(id) = id
            && let Some(stat) = stat(id)
        {
            family.insert(id, stat);
        }
    }
    let is_descendant = |mut id: u32| {
        while id != root {
            match family.get(&id) {
                Some(stat) => id = stat.parent,
                None => return false,
            }
        }
        true
    };
    family
        .iter()
        .filter(|(id, _)| is_descendant(**id))
        .map(|(_, stat)| stat.cpu)
        .sum()
}

/// The CPU time that this process has used so far, its children's not counted.
pub(crate) fn own_cpu_time() -> Duration {
    stat(std::process::id()).expect("this process runs").cpu
}

/// What counts of a process's `/proc/<id>/stat`.
struct Stat {
    parent: u32,
    cpu: Duration,
}

fn stat(process: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The fields follow the command's name, which is in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // Field 4 was the parent, 14 and 15 are utime and stime, in ticks of 10 ms on every Linux
    // that there is.
    (5..14).try_for_each(|_| ticks().or(Some(0)).map(drop))?;
    let (user, system) = (ticks()?, ticks()?);
    Some(Stat {
        parent,
        cpu: Duration::from_millis((user + system) * 10),
    })
}

/// The processor as the kernel names it; virtual machines tend to hide the marketing name, so
/// family and model are given with it.
pub(crate) fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        });
        line.and_then(|line| line.split_once(": "))
            .map_or("unknown", |(_, value)| value)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if text.contains("CPU implementer") {
        // ARM has no names, only numbers of the maker and of the design.
        let [maker, part] = ["CPU implementer", "CPU part"].map(field);
        return format!("ARM, implementer {maker}, part {part}, {cores} cores");
    }
    format!(
        "{}, family {}, model {}, {cores} cores",
        field("model name"),
        field("cpu family"),
        field("model"),
    )
}
