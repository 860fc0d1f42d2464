//! The process table, as the tests see it.

/// A process that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    parent: u32,
    started: String,
    is_dead: bool,
}

impl Process {
    fn seen(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let (parent, started) = (fields[1].parse().ok()?, fields[19].to_owned());
        Some(Self { pid, parent, started, is_dead: matches!(fields[0], "Z" | "X") })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs; one that has ended and that its parent has not waited for does not.
    pub(crate) fn is_alive(&self) -> bool {
        Self::seen(self.pid).is_some_and(|now| now.started == self.started && !now.is_dead)
    }

    /// Whether it is a server, or was started by one.
    pub(crate) fn is_server(&self) -> bool {
        self.arguments().first().is_some_and(|program| !program.ends_with("cortex-mcp"))
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        self.texts("cmdline")
    }

    pub(crate) fn environment(&self) -> Vec<String> {
        self.texts("environ")
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.pid, self.arguments().join(" "))
    }

    fn texts(&self, file: &str) -> Vec<String> {
        let bytes = std::fs::read(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        let texts = bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }
}

fn all() -> Vec<Process> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::seen).collect()
}

/// The processes that run and have a text in their environment or their arguments, but for this one.
pub(crate) fn marked(marker: &str) -> Vec<Process> {
    let has_marker =
        |process: &Process| process.environment().iter().chain(&process.arguments()).any(|text| text.contains(marker));
    let others = all().into_iter().filter(|process| process.pid != std::process::id() && !process.is_dead);
    others.filter(has_marker).collect()
}

/// Every process below one.
pub(crate) fn descendants(of: u32) -> Vec<Process> {
    let (all, mut found, mut parents) = (all(), Vec::new(), vec![of]);
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}
