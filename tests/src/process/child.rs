//! One child process, ended when dropped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The folder of the programs: the one that the running program lies in, without `deps/`.
///
/// # Errors
/// When the running program cannot tell where it lies.
pub fn program_dir() -> io::Result<PathBuf> {
    let mut dir = std::env::current_exe()?;
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// The path of a program of this project.
///
/// # Errors
/// When it is not built; the message says how to build it.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let path = program_dir()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let text = format!("{} is not built; run 'cargo build --release --workspace --bins'", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// A process that is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`; what it prints goes to the end of `log`. The child is in a process group of
    /// its own, so that a terminal's Ctrl-C reaches only the program that started it, which ends it in order.
    ///
    /// # Errors
    /// When the program or the log cannot be opened.
    pub fn start(name: &str, program: &Path, arguments: &[&str], log: &Path) -> io::Result<Process> {
        use std::os::unix::process::CommandExt;
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        match self.child.kill() {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            _ => {}
        }
        self.child.wait().map(|_| ())
    }

    /// SIGTERM, a while to end in order, then SIGKILL. True when it ended by itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stop(&mut self, patience: Duration) -> io::Result<bool> {
        if self.ended()?.is_some() {
            return Ok(true);
        }
        Command::new("kill").arg("-TERM").arg(self.pid().to_string()).stderr(Stdio::null()).status()?;
        if self.wait_for(patience)?.is_some() {
            return Ok(true);
        }
        self.kill().map(|()| false)
    }

    /// How it ended, after at most `patience`.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait_for(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.ended()? {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                status => return Ok(status),
            }
        }
    }

    /// The last lines of its log, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The most memory it has used so far, bytes; 0 when it is gone.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
