//! How much memory the process may use.

use std::fs;
use std::path::Path;

/// The bytes of memory that this process may use: the least of its cgroup's limit and those above,
/// its own limit of address space, and the machine's memory. `None` where the operating system does
/// not say.
#[must_use]
pub fn memory_budget() -> Option<u64> {
    budget(&|path| fs::read_to_string(path).ok())
}

fn budget(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut limits = cgroup_limits(read);
    limits.extend(address_space(read));
    limits.extend(machine_bytes(read));
    limits.into_iter().min()
}

/// The limits of the process's cgroups, of version 2 (`memory.max`) and 1
/// (`memory.limit_in_bytes`). A container sees its own cgroup as the root of the tree.
fn cgroup_limits(read: &dyn Fn(&Path) -> Option<String>) -> Vec<u64> {
    let memberships = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in memberships.lines() {
        // number:controllers:/path
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (tree, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        // From the process's own group to the root: each may have a limit, or not be mounted here.
        limits.extend(path.ancestors().filter_map(|group| {
            let text = read(&Path::new(tree).join(group).join(file))?;
            text.trim().parse::<u64>().ok()
        }));
    }
    limits
}

/// What `ulimit -v` allows, if it does not allow all.
fn address_space(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/self/limits"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn machine_bytes(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The budget of a process that can read these files.
    fn with(files: &[(&str, &str)]) -> Option<u64> {
        budget(&|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       16 kB\nMemFree:  4 kB\n");

    #[test]
    fn without_a_limit_it_is_the_machines_memory() {
        assert_eq!(with(&[MACHINE]), Some(16 << 10));
        let unlimited = [
            MACHINE,
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "max\n"),
        ];
        assert_eq!(with(&unlimited), Some(16 << 10));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let nested = [
            MACHINE,
            ("/proc/self/cgroup", "0::/kubepods/pod7/main\n"),
            ("/sys/fs/cgroup/kubepods/pod7/main/memory.max", "max\n"),
            ("/sys/fs/cgroup/kubepods/pod7/memory.max", "4096\n"),
            ("/sys/fs/cgroup/kubepods/memory.max", "8192\n"),
        ];
        assert_eq!(with(&nested), Some(4096));
    }

    #[test]
    fn the_first_version_of_cgroups_has_its_own_tree() {
        let first = [
            MACHINE,
            (
                "/proc/self/cgroup",
                "5:cpu,cpuacct:/x\n4:memory:/docker/a\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2048\n"),
            ("/sys/fs/cgroup/x/memory.max", "1\n"),
        ];
        assert_eq!(with(&first), Some(2048));
    }

    #[test]
    fn a_limit_of_address_space_counts() {
        let limits = |text| with(&[MACHINE, ("/proc/self/limits", text)]);
        let header = "Limit  Soft Limit  Hard Limit  Units\n";
        let some = format!("{header}Max address space  8192  unlimited  bytes\n");
        assert_eq!(limits(&some), Some(8192));
        let none = format!("{header}Max address space  unlimited  unlimited  bytes\n");
        assert_eq!(limits(&none), Some(16 << 10));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_budget().is_none_or(|bytes| bytes > 1 << 20));
    }
}
