//! What processes and the machine have used: CPU and memory, as /proc tells.
//!
//! Linux scales user and system time of a process so that they add up to the scheduler's own sum of
//! nanoseconds on a CPU (`cputime_adjust`), so a tick's resolution is all that is lost; the machine's
//! line in /proc/stat is sampled by ticks, and good to one or two per cent of a second.

use std::collections::{BTreeMap, BTreeSet};

/// Ticks in a second, of every figure of CPU time in /proc (`USER_HZ`, proc_pid_stat(5)).
const TICKS: f64 = 100.0;
/// Flag of kernel threads in field 9 of /proc/PID/stat (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

struct Task {
    parent: u32,
    kernel: bool,
    ticks: f64,
}

/// CPU time of everything, at one moment.
pub struct Cpu {
    tasks: BTreeMap<u32, Task>,
    busy: f64,
    stolen: f64,
}

/// CPU seconds between two moments.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct CpuUsed {
    /// Of the processes that were named, with their children.
    pub target: f64,
    /// Of the whole machine but foreign processes: target, client, backend, and the kernel's own threads.
    pub chain: f64,
    /// Of processes that have no part in the measurement, and what the hypervisor gave to others.
    pub foreign: f64,
}

impl Cpu {
    /// Looks now.
    pub fn now() -> Self {
        let mut tasks = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some((pid, task)) = pid.and_then(|pid| Some((pid, task(pid)?))) {
                tasks.insert(pid, task);
            }
        }
        let (busy, stolen) = machine().unwrap_or_default();
        Self {
            tasks,
            busy,
            stolen,
        }
    }

    /// What was used since `earlier`: by `targets` and by `known`, each with their children, and by
    /// everything else.
    pub fn since(&self, earlier: &Self, targets: &[u32], known: &[u32]) -> CpuUsed {
        // What a child used before it ended is in its parent's sum by then, and was in its own before:
        // sums over the whole trees at either moment agree, differences child by child would not.
        let foreign = (self.foreign(targets, known) - earlier.foreign(targets, known)).max(0.0);
        let stolen = (self.stolen - earlier.stolen).max(0.0);
        let target = self.sum(targets) - earlier.sum(targets);
        CpuUsed {
            target: target.max(0.0) / TICKS,
            chain: (self.busy - earlier.busy - foreign).max(0.0) / TICKS,
            foreign: (foreign + stolen) / TICKS,
        }
    }

    fn sum(&self, roots: &[u32]) -> f64 {
        self.tree(roots).iter().map(|pid| self.ticks(*pid)).sum()
    }

    /// Ticks of all processes but the kernel's and those below `targets`, `known` and this one itself.
    fn foreign(&self, targets: &[u32], known: &[u32]) -> f64 {
        let (targets, known) = (self.tree(targets), self.tree(known));
        let own = std::process::id();
        self.tasks
            .iter()
            .filter(|(pid, task)| {
                !task.kernel && **pid != own && !targets.contains(pid) && !known.contains(pid)
            })
            .map(|(_, task)| task.ticks)
            .sum()
    }

    /// The processes and all below them.
    pub fn tree(&self, roots: &[u32]) -> BTreeSet<u32> {
        let mut tree: BTreeSet<u32> = roots.iter().copied().collect();
        loop {
            let more: Vec<u32> = self
                .tasks
                .iter()
                .filter(|(pid, task)| tree.contains(&task.parent) && !tree.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                return tree;
            }
            tree.extend(more);
        }
    }

    fn ticks(&self, pid: u32) -> f64 {
        self.tasks.get(&pid).map_or(0.0, |task| task.ticks)
    }
}

/// Fields of /proc/PID/stat after the name: state, ppid (4), …, flags (9), …, utime, stime, cutime,
/// cstime (14 to 17). The last two are of children that have ended.
fn task(pid: u32) -> Option<Task> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = (14..=17).filter_map(number).sum::<u64>();
    Some(Task {
        parent: u32::try_from(number(4)?).ok()?,
        kernel: number(9)? & KERNEL_THREAD != 0,
        ticks: ticks as f64,
    })
}

/// Busy and stolen ticks: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
fn machine() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let at = |index: usize| fields.get(index).copied();
    let busy = at(0)? + at(1)? + at(2)? + at(5)? + at(6)?;
    Some((busy, at(7)?))
}

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident set of the processes, summed.
    pub resident: f64,
    /// The same with shared pages divided among their users.
    pub proportional: f64,
    /// The kernel's slab, machine-wide.
    pub slab: f64,
    /// Pages in the buffers of TCP sockets, machine-wide.
    pub sockets: f64,
}

impl Memory {
    /// Looks now at `targets` with their children, and at the machine.
    pub fn now(targets: &[u32]) -> Self {
        let mut memory = Self::default();
        for pid in Cpu::now().tree(targets) {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            let rollup = rollup.unwrap_or_default();
            memory.resident += kib(&rollup, "Rss:") * 1024.0;
            memory.proportional += kib(&rollup, "Pss:") * 1024.0;
        }
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        memory.slab = kib(&machine, "Slab:") * 1024.0;
        memory.sockets = socket_pages().unwrap_or_default() * 4096.0;
        memory
    }
}

fn kib(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1`
fn socket_pages() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_whitespace()
        .skip_while(|word| *word != "mem")
        .nth(1)?
        .parse()
        .ok()
}
