//! What Kamailio's own configuration says where no command of it tells: numbers of `modparam`.
//!
//! Read from the file that its command line names. What may stand in an included file is not guessed.

use std::fs::File;
use std::io::Read;

use serde_json::Value;

use super::KamailioPbx;

/// Longest configuration that is read: the one that Kamailio comes with has 26 KB.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Where it lies unless `-f` says otherwise.
const CONFIG: &str = "/etc/kamailio/kamailio.cfg";

/// A number of a module, as one file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// This one.
    Number(u32),
    /// Its default: nothing sets it.
    Absent,
    /// Another file, or a define, may set it.
    Elsewhere,
}

impl KamailioPbx {
    /// The configuration that it was started with; `None` when that cannot be read.
    pub(super) async fn config_text(&self) -> Option<String> {
        let told = self.ask("core.arg", &[]).await.ok()?;
        let arguments: Vec<_> = told.as_array()?.iter().filter_map(Value::as_str).collect();
        let path = arguments.windows(2).find(|pair| pair[0] == "-f").map_or(CONFIG, |pair| pair[1]).to_owned();
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            File::open(path).ok()?.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        })
        .await
        .ok()?
    }
}

/// The last word of a configuration on the number `name` of `module`.
pub fn param(text: &str, module: &str, name: &str) -> Param {
    let mut last = Param::Absent;
    let mut is_whole = true;
    for line in text.lines().map(str::trim_start) {
        if ["include_file", "import_file"].iter().any(|word| line.trim_start_matches("#!").starts_with(word)) {
            is_whole = false;
        }
        let Some(rest) = line.strip_prefix("modparam") else { continue };
        // modparam("module", "name", value)
        let mut words = rest.trim_start_matches(['(', ' ', '\t']).split(',').map(|word| word.trim().trim_matches('"'));
        if words.next().is_some_and(|modules| modules.split('|').any(|one| one == module)) && words.next() == Some(name)
        {
            let value = words.next().unwrap_or_default();
            let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
            last = digits.parse().map_or(Param::Elsewhere, Param::Number);
        }
    }
    if last == Param::Absent && !is_whole { Param::Elsewhere } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_an_include_makes_silence_no_answer() {
        let retry = |text: &str| param(text, "uac", "reg_retry_interval");
        for (text, expected) in [
            ("loadmodule \"uac.so\"\n", Param::Absent),
            ("modparam(\"uac\", \"reg_retry_interval\", 0)\n", Param::Number(0)),
            ("  modparam(\"uac\",\"reg_retry_interval\",60) # often\n", Param::Number(60)),
            (
                "modparam(\"tm|uac\", \"reg_retry_interval\", 5)\nmodparam(\"uac\", \"reg_retry_interval\", 6)\n",
                Param::Number(6),
            ),
            ("# modparam(\"uac\", \"reg_retry_interval\", 60)\n", Param::Absent),
            ("modparam(\"uac\", \"reg_timer_interval\", 60)\n", Param::Absent),
            ("modparam(\"uac\", \"reg_retry_interval\", RETRY)\n", Param::Elsewhere),
            ("include_file \"local.cfg\"\n", Param::Elsewhere),
            ("#!import_file \"local.cfg\"\n", Param::Elsewhere),
        ] {
            assert_eq!(retry(text), expected, "{text}");
        }
    }
}
