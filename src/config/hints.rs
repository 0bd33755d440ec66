//! Words for people: "did you mean", and what of a file may be shown in a remark.

/// Longest key that is compared or shown; the longest real one has 22.
const KEY_CHARS_MAX: usize = 40;

/// The candidate that `word` was probably meant to be.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > KEY_CHARS_MAX {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let near = |candidate: &&str| {
        let candidate = plain(candidate);
        let allowed = 1 + candidate.chars().count().min(word.chars().count()) / 6;
        let distance = distance(&word, &candidate);
        (distance <= allowed).then_some(distance)
    };
    candidates.into_iter().filter_map(|c| Some((near(&c)?, c))).min_by_key(|(distance, _)| *distance).map(|(_, c)| c)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// A key as a path shows it. What does not look like a key may be a secret that slipped into its place
/// (`password:hunter2`), and is shown as `?`.
pub fn shown(key: &str) -> &str {
    let is_word = (1..=KEY_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if is_word { key } else { "?" }
}

/// A value in quotes, cut and without control characters. Only for values that cannot be secrets.
pub fn quote(value: &str) -> String {
    let cut: String = value.chars().filter(|c| !c.is_control()).take(80).collect();
    format!("`{cut}`")
}

/// `a`, `a or b`, `a, b or c`.
pub fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let keys = ["interval", "fast_interval", "timeout", "fall", "rise"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("fast-interval", Some("fast_interval")),
            ("Timeout", Some("timeout")),
            ("timoeut", Some("timeout")),
            ("fal", Some("fall")),
            ("colour", None),
            ("rest", None),
        ] {
            assert_eq!(did_you_mean(word, keys), meant, "{word}");
        }
    }

    #[test]
    fn what_does_not_look_like_a_key_is_not_shown() {
        assert_eq!(shown("fast_interval"), "fast_interval");
        assert_eq!(shown("password:hunter2"), "?");
        assert_eq!(shown(""), "?");
    }
}
