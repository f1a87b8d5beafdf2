//! /proc sampling: server CPU time and RSS, own CPU, machine noise.
use std::fs;

#[derive(Debug, Clone, Copy, Default)]
pub struct ProcSample {
    pub utime_s: f64,
    pub stime_s: f64,
    pub rss_kb: u64,
    pub threads: u64,
}

fn tick() -> f64 {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// One process.
fn sample_one(pid: u32) -> Option<ProcSample> {
    let s = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &s[s.rfind(')')? + 2..];
    let f: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` starts at field 3 (state): utime is field 14, stime 15, num_threads 20.
    let ut: f64 = f.get(11)?.parse().ok()?;
    let st: f64 = f.get(12)?.parse().ok()?;
    let threads: u64 = f.get(17)?.parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss_kb = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    Some(ProcSample { utime_s: ut / tick(), stime_s: st / tick(), rss_kb, threads })
}

/// Sum over several processes (a server may be a master plus workers).
pub fn sample(pids: &[u32]) -> Option<ProcSample> {
    let mut t = ProcSample::default();
    if pids.is_empty() {
        return None;
    }
    for &p in pids {
        let s = sample_one(p)?;
        t.utime_s += s.utime_s;
        t.stime_s += s.stime_s;
        t.rss_kb += s.rss_kb;
        t.threads += s.threads;
    }
    Some(t)
}

/// CPU affinity list of a process, as text.
pub fn cpus_allowed(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).map(|v| v.trim().to_string())
}

/// Own CPU seconds (user, sys).
pub fn self_cpu() -> (f64, f64) {
    // SAFETY: an all-zero rusage is a valid one.
    let mut ru: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `ru` is a valid place for the result.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut ru) };
    let f = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (f(ru.ru_utime), f(ru.ru_stime))
}

/// (busy seconds over all CPUs, steal seconds).
pub fn machine_busy() -> (f64, f64) {
    let s = fs::read_to_string("/proc/stat").unwrap_or_default();
    let v: Vec<f64> = s
        .lines()
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|x| x.parse().ok())
        .collect();
    if v.len() < 8 {
        return (0.0, 0.0);
    }
    // user nice system idle iowait irq softirq steal
    ((v[0] + v[1] + v[2] + v[5] + v[6]) / tick(), v[7] / tick())
}
