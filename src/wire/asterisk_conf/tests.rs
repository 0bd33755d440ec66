//! What the reader makes of a text: the format's own rules, its limits, and any bytes at all.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 6] = ["type", "a", "b", "password", "aors", "match"];
const A: usize = 1;
const B: usize = 2;

/// Texts by name, as a folder of files.
#[derive(Default)]
struct Folder(BTreeMap<&'static str, Vec<u8>>);

impl Files for Folder {
    fn find(&mut self, include: &Include<'_>) -> Found {
        let prefix = include.path.trim_end_matches('*');
        let fits = |name: &str| name == include.path || (prefix != include.path && name.starts_with(prefix));
        let texts = self.0.iter().filter(|(name, _)| fits(name));
        let texts = texts.map(|(name, bytes)| Text { name: (*name).to_owned(), bytes: bytes.clone() }).collect();
        Found { texts, troubles: Vec::new() }
    }
}

fn read_bytes(root: &[u8], others: &[(&'static str, &str)]) -> Conf {
    let mut folder = Folder(others.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect());
    folder.0.insert("root", root.to_vec());
    read(Text { name: "root".into(), bytes: root.to_vec() }, &mut folder, &KEYS)
}

fn read_with(root: &str, others: &[(&'static str, &str)]) -> Conf {
    read_bytes(root.as_bytes(), others)
}

/// Each section in one line: `name key=value key=value`.
fn shown(conf: &Conf) -> Vec<String> {
    let words = |section: Section<'_>| {
        let entries = section.entries().map(|(key, value)| format!("{}={}", KEYS[key], value.text));
        std::iter::once(section.name().to_owned()).chain(entries).collect::<Vec<_>>().join(" ")
    };
    conf.sections().map(words).collect()
}

fn sections(root: &str) -> Vec<String> {
    let conf = read_with(root, &[]);
    let remarks = remarks(&conf);
    assert!(remarks.is_empty(), "{remarks:?}");
    shown(&conf)
}

fn remarks(conf: &Conf) -> Vec<String> {
    conf.remarks
        .clone()
        .into_list()
        .iter()
        .map(|r| format!("{:?} {}:{} {}", r.weight, r.file, r.line, r.what))
        .collect()
}

#[test]
fn keys_and_values_are_trimmed_and_both_signs_mean_the_same() {
    assert_eq!(sections("[x]\n a = 1 \r\nb=>2\n B  =>  3=4\nother=5\na=\n"), ["x a=1 b=2 b=3=4 a="]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    assert_eq!(sections("\u{feff}[x]\na=1\n"), ["x a=1"]);
}

#[test]
fn comments_end_a_line_unless_they_are_escaped() {
    let text = "; all\n[x] ; of it\na=1;2\nb=1\\;2 ; three\n;--- no block\na=3 ;---- nor this\na=4\n";
    assert_eq!(sections(text), ["x a=1 b=1;2 a=3 a=4"]);
}

#[test]
fn block_comments_nest_and_may_end_within_a_line() {
    let text = "[x]\n;-- a=1\n;-- a=2 --;\na=3 ; not here\n--; a=4\na=5 ;-- 6 --; 7\nb=1 ;--\nb=2\n--;\n";
    assert_eq!(sections(text), ["x a=4 a=5  7 b=1"]);
}

#[test]
fn a_template_is_copied_into_those_that_name_it_and_is_none_itself() {
    let text = "[t](!)\na=1\nb=1\n[u](!,t)\nb=2\n[x](u)\na=3\n[y](x,t)\n[T2](!)\n[z](t2)\n";
    assert_eq!(sections(text), ["x a=1 b=1 b=2 a=3", "y a=1 b=1 b=2 a=3 a=1 b=1", "z"]);
    let conf = read_with(text, &[]);
    let x = conf.sections().next().expect("a section");
    assert_eq!(x.last(B).map(|v| v.text), Some("2"), "what is written later counts");
    assert_eq!(x.all(B).count(), 2);
}

#[test]
fn an_addition_goes_to_the_first_section_of_its_name_or_to_the_one_that_it_describes() {
    let text = "[x]\ntype=endpoint\n[x]\ntype=aor\n[t](!)\nb=9\n[x](+)\na=1\n[X](+type=aor)\na=2\n[x](+,t)\n";
    assert_eq!(sections(text), ["x type=endpoint a=1 b=9", "x type=aor a=2"]);
}

#[test]
fn a_value_can_be_added_to() {
    assert_eq!(sections("[x]\na=1\na=2\na += 3 \nb+= 4\nb+=> 5\n"), ["x a=1 a=2 3 b=4> 5"]);
}

#[test]
fn the_corners_of_the_format_are_read_as_asterisk_reads_them() {
    let root = include_bytes!("../../../tests/data/pjsip/odd/pjsip.conf");
    let included = include_str!("../../../tests/data/pjsip/odd/inc.conf");
    let mut folder = Folder(BTreeMap::from([("inc.conf", included.as_bytes().to_vec())]));
    let conf = read(Text { name: "root".into(), bytes: root.to_vec() }, &mut folder, &["username", "password"]);
    assert_eq!(remarks(&conf), [""; 0]);
    let told = conf.sections().map(|section| {
        let value = |key: usize| section.last(key).map_or("", |value| value.text);
        format!("{}/{} {}", section.name(), value(0), value(1))
    });
    // What `pjsip show auths` and `pjsip show auth NAME` of Asterisk 22.10.1 printed.
    let printed = [
        "o1/o1 b c",
        "o2/o2b p;q",
        "O3/o3 three",
        "o4/o4 b",
        "o5/o5 b c",
        "o7/o7 ab => c",
        "o8/o8 > 4",
        "o9/o9 after",
        "oa/oa pa",
        "p1/p1by a",
    ];
    assert_eq!(told.collect::<Vec<_>>(), printed);
}

#[test]
fn an_included_file_goes_on_with_the_section_and_the_including_one_comes_back_to_its_own() {
    let conf = read_with(
        "[x]\n#include \"f\"\nb=2\n#tryinclude <gone>\n#TryInclude d/*\n",
        &[("f", "a=1\n[y]\na=2\n"), ("d/1", "a=3\n"), ("d/2", "[z]\n")],
    );
    assert_eq!(remarks(&conf), [""; 0]);
    assert_eq!(shown(&conf), ["x a=1 b=2", "y a=2 a=3", "z"]);
    assert_eq!(conf.files(), ["root", "f", "d/1", "d/2"]);
}

#[test]
fn each_fault_is_told_with_its_place_and_the_rest_is_read() {
    let text = "a=1\n[x\npassword=a-secret\n[x](y)\na=1\nsecret words\n#exec /bin/true\n#include gone\n#include\n#wat f\n\
                [q](+)\npassword=lost\n[z](t\na=9\n[w] (x)\nb=2\n;-- never closed\n";
    let conf = read_with(text, &[]);
    assert_eq!(shown(&conf), ["x a=1", "w b=2"]);
    let told: Vec<String> = remarks(&conf);
    assert_eq!(
        told,
        [
            "Fault root:1 a key before any section",
            "Fault root:2 the name of the section is not closed",
            "Fault root:4 the template [y] is not there",
            "Fault root:6 neither a section nor a key with its value",
            "Fault root:7 #exec is not carried out here",
            "Fault root:8 gone is not there",
            "Fault root:9 names no file to include",
            "Fault root:10 a directive that Asterisk does not know",
            "Fault root:11 adds to [q], which is not there",
            "Fault root:13 the templates of the section are not closed",
            "Fault root:15 a space before the parentheses of a section",
            "Fault root:17 the comment that begins here is never closed",
        ]
    );
    let all =
        format!("{conf:?} {:?} {:?}", conf.remarks, conf.sections().flat_map(|s| s.entries()).collect::<Vec<_>>());
    assert!(!all.contains("secret"), "{all}");
}

#[test]
fn a_file_that_ends_within_a_header_a_key_or_a_comment_is_broken_and_one_without_a_last_line_end_is_not() {
    for cut in ["[x]\na=1\n[y", "[x]\n[y](te", "[x]\na=1\npassw", "[x]\n;-- comment", "[x]\n#includ", "[x]\n#include "]
    {
        let conf = read_with(cut, &[]);
        assert!(remarks(&conf).iter().all(|r| r.starts_with("Broken root:")), "{cut}: {:?}", remarks(&conf));
        assert_eq!(remarks(&conf).len(), 1, "{cut}");
    }
    assert_eq!(sections("[x]\na=1"), ["x a=1"]);
}

#[test]
fn nul_bytes_break_a_file_and_what_follows_in_that_section_is_not_trusted() {
    let conf = read_bytes(b"[x]\na=1\n[y]\n\0\0\0\na=2\n[z]\nb=3\n", &[]);
    assert_eq!(remarks(&conf), ["Broken root:0 holds NUL bytes, as a file that was being copied when its host died"]);
    assert_eq!(shown(&conf), ["x a=1", "y", "z b=3"]);
}

#[test]
fn bytes_that_are_not_utf8_cost_their_value_alone() {
    let conf = read_bytes(b"[caf\xe9]\na=caf\xe9\nb=ok\n", &[]);
    let section = conf.sections().next().expect("a section");
    assert_eq!(section.name(), "caf\u{fffd}");
    assert_eq!(section.last(A).map(|v| v.encoding), Some(Encoding::Other));
    assert_eq!(section.last(B).map(|v| v.encoding), Some(Encoding::Utf8));
}

#[test]
fn files_that_include_themselves_or_too_deep_end() {
    let conf = read_with("#include f\n", &[("f", "#include root\n#include f\n[x]\n")]);
    assert_eq!(remarks(&conf), ["Fault f:1 root includes itself", "Fault f:2 f includes itself"]);
    assert_eq!(shown(&conf), ["x"]);

    let names = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "g"];
    let texts: Vec<String> = (1..11).map(|n| format!("#include {}\n", names[n])).collect();
    let files: Vec<_> = names.into_iter().zip(texts.iter().map(String::as_str).chain(["[deep]\n"])).collect();
    let conf = read_with("#include f0\n", &files);
    assert_eq!(remarks(&conf), ["Fault f8:1 files include files more than 10 deep"]);
}

#[test]
fn a_bush_of_includes_ends_at_the_limit_of_files() {
    let bush = "#include b/*\n".repeat(20);
    let names = ["b/0", "b/1", "b/2", "b/3", "b/4", "b/5", "b/6", "b/7"];
    let files: Vec<_> = names.into_iter().map(|name| (name, bush.as_str())).collect();
    let conf = read_with("#include b/*\n[x]\n", &files);
    assert_eq!(conf.files().len(), FILES_MAX);
    assert!(remarks(&conf)[0].contains("more than 1000 files"), "{:?}", remarks(&conf)[0]);
    assert_eq!(shown(&conf), ["x"]);
}

#[test]
fn copies_of_copies_of_a_template_end_at_the_limit_of_a_section() {
    let copies: Vec<String> = (1..40).map(|n| format!("[t{n}](!,t{0},t{0})", n - 1)).collect();
    let conf = read_with(&format!("[t0](!)\na=1\n{}\n[x](t39)\n", copies.join("\n")), &[]);
    assert_eq!(conf.sections().next().map(|x| x.entries().count()), Some(SECTION_ENTRIES_MAX));
    assert_eq!(remarks(&conf).len(), 31, "once for each template from t9 on");
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let conf = read_with(&format!("[x]\na={}\nb=1\n", "1".repeat(LINE_BYTES_MAX)), &[]);
    assert_eq!(remarks(&conf), ["Fault root:2 is longer than Asterisk reads"]);
    assert_eq!(shown(&conf), ["x b=1"]);
}

#[test]
fn of_many_remarks_the_gravest_are_shown() {
    let conf = read_with(&("wrong\n".repeat(REMARKS_MAX + 20) + "[cut"), &[]);
    let list = conf.remarks.into_list();
    assert_eq!(list.len(), REMARKS_MAX + 1);
    assert_eq!(list[0].weight, Weight::Broken);
    assert_eq!(list[REMARKS_MAX].what, "21 more remarks are not shown");
}

/// Bytes of which a file is made, so that random texts meet the rules.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "\n",
        "\r\n",
        "[",
        "]",
        "(",
        ")",
        "!",
        "+",
        ",",
        "=",
        ">",
        ";",
        ";--",
        "--;",
        "\\",
        "\\;",
        "#include ",
        "root",
        "f",
        "*",
        "#exec",
        "a",
        "b",
        "password",
        "type=aor",
        " ",
        "\0",
        "\u{feff}",
        "[x]\n",
        "[t](!)\n",
        "(t)",
        "(+)",
    ]);
    let any = prop::collection::vec(any::<u8>(), 0..4);
    let part = prop_oneof![9 => piece.prop_map(|p| p.as_bytes().to_vec()), 1 => any];
    prop::collection::vec(part, 0..120).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_place_of_a_byte_is_found(text in prop::collection::vec(0_u8..4, 0..40), high in any::<bool>()) {
        let text: Vec<u8> = text.into_iter().map(|byte| if high { byte | 0x7e } else { byte }).collect();
        for byte in [0, 1, 0x7e, 0x7f, 0x80, 0xff] {
            prop_assert_eq!(lines::position(&text, byte), text.iter().position(|other| *other == byte));
        }
    }

    #[test]
    fn no_bytes_panic_and_the_reading_is_bounded(root in pieces(), f in pieces()) {
        let mut folder = Folder(BTreeMap::from([("f", f)]));
        let conf = read(Text { name: "root".into(), bytes: root }, &mut folder, &KEYS);
        prop_assert!(conf.files().len() <= FILES_MAX);
        for section in conf.sections() {
            prop_assert!(section.entries().count() <= SECTION_ENTRIES_MAX);
            prop_assert!(section.entries().all(|(_, value)| value.text.len() <= 3 * LINE_BYTES_MAX));
        }
        prop_assert!(conf.remarks.into_list().len() <= REMARKS_MAX + 1);
    }
}
