//! Numbers and how they are printed: as lines of Markdown tables, so that the page is a copy of the output.

/// What was measured again and again, in one unit.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more, in the unit that all of them have.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        assert!(n > 0, "nothing was measured");
        f64::midpoint(self.0[(n - 1) / 2], self.0[n / 2])
    }

    /// The smallest.
    pub fn least(&self) -> f64 {
        self.0[0]
    }

    /// The largest.
    pub fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// The head of a table.
pub fn head(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|{}", " --- |".repeat(columns.len()));
}

/// The line above the tables: when, and on what.
pub fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    println!("{day}, {cores} cores (load {load} at the start), release build of {}", env!("CARGO_PKG_VERSION"));
}
