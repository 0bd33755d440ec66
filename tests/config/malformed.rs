//! The mistakes of `malformed.txt`, one by one: each is refused, at the right line, with the right advice.

use crate::{EXAMPLE, SHORT, read};

/// One mistake.
struct Case {
    name: String,
    text: String,
    /// Line (0: the file as a whole), key, words of the remark.
    says: Vec<(usize, String, Vec<String>)>,
}

/// Reads `malformed.txt`:
/// `--- NAME` begins a case; `< TEXT` lines stand once in the example (after `@ short`: in the shortest file),
/// `> TEXT` lines replace them (without `<` they are the whole file); each `= KEY: WORDS … WORDS` is a remark about the next line marked with `◀` (one
/// marked line may have several), or with `=0` about the whole file.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for block in include_str!("malformed.txt").split("--- ").skip(1) {
        let name = block.lines().next().expect("name").to_owned();
        let lines = |mark: &str| -> Vec<String> {
            block.lines().filter_map(|line| line.strip_prefix(mark)).map(|line| line.trim_end().to_owned()).collect()
        };
        let (old, new) = (lines("< ").join("\n"), lines("> ").join("\n"));
        let marked = if old.is_empty() {
            new
        } else {
            let base = if block.contains("\n@ short\n") { SHORT } else { EXAMPLE };
            assert_eq!(base.matches(&old).count(), 1, "{name}: `{old}` must stand once in the text");
            base.replacen(&old, &new, 1)
        };
        let at: Vec<usize> =
            marked.lines().enumerate().filter(|(_, line)| line.contains('◀')).map(|(index, _)| index + 1).collect();
        let mut says = Vec::new();
        for line in block.lines().filter(|line| line.starts_with('=')) {
            let (place, rest) = line.split_once(' ').expect("= KEY: WORDS");
            let place = match place {
                "=0" => 0,
                "=" => *at.get(says.len()).or(at.last()).unwrap_or_else(|| panic!("{name}: no line is marked ◀")),
                number => at[number[1..].parse::<usize>().expect("=N") - 1],
            };
            let (key, words) = rest.split_once(": ").unwrap_or_else(|| panic!("{name}: {line}"));
            says.push((place, key.to_owned(), words.split(" … ").map(str::to_owned).collect()));
        }
        assert!(!says.is_empty(), "{name}: expects nothing");
        cases.push(Case { name, text: marked.replace('◀', ""), says });
    }
    cases
}

#[test]
fn each_mistake_is_refused_with_its_line_its_key_and_the_fix() {
    let cases = cases();
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let Err(refused) = read(&case.text) else {
            wrong.push(format!("--- {}: loads", case.name));
            continue;
        };
        let missing: Vec<_> = case
            .says
            .iter()
            .filter(|(line, key, words)| {
                !refused.remarks.iter().any(|remark| {
                    let said = format!("{}; {}", remark.what, remark.fix);
                    remark.line == *line && remark.key == *key && words.iter().all(|word| said.contains(word))
                })
            })
            .collect();
        if !missing.is_empty() || refused.remarks.len() != case.says.len() {
            wrong.push(format!("--- {}: wanted {:?}, got\n{refused}", case.name, case.says));
        }
        for remark in &refused.remarks {
            assert!(!remark.what.is_empty() && !remark.fix.is_empty(), "{}: {remark:?}", case.name);
            assert!(!remark.to_string().contains('\n'), "{}: several lines: {remark}", case.name);
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = EXAMPLE
        .replace("interval: 5s ", "interval: 5 ")
        .replace("need: 2", "need: 9")
        .replace("automatic: true", "automatic: yes")
        .replace("if_changed: stop", "if_changd: stop")
        .replace("unit: pbx.service", "unit: pbx")
        .replace("page: 127.0.0.1:8470", "page: localhost");
    let refused = read(&text).expect_err("six mistakes");
    let keys: Vec<_> = refused.remarks.iter().map(|remark| remark.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "monitor.interval",
            "internet.need",
            "takeover.automatic",
            "pbx.driver.systemd.unit",
            "dns.updates[0].if_changd",
            "page"
        ]
    );
    let said = refused.to_string();
    assert!(said.lines().all(|line| line.starts_with("/etc/pbx-failover/failover.yaml:")), "{said}");
    let line = text.lines().position(|line| line.contains("if_changd")).expect("there") + 1;
    let wanted = format!("failover.yaml:{line}:7: dns.updates[0].if_changd: unknown key; did you mean if_changed?");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn a_refusal_as_json_has_every_field_of_each_remark() {
    let refused = read("primary: 5").expect_err("bad");
    let json = serde_json::to_value(&refused).expect("json");
    assert_eq!(json["file"], "/etc/pbx-failover/failover.yaml");
    assert_eq!(json["remarks"][0]["line"], 1);
    for field in ["column", "key", "what", "fix"] {
        assert!(!json["remarks"][0][field].is_null(), "{field}: {json}");
    }
}
