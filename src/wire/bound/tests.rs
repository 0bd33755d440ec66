//! What is found, and what is not.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn primary() -> Names {
    let mut names = Names::default();
    for name in ["203.0.113.1", "2001:db8::10", "pbx-a.example.com."] {
        names.host(name);
    }
    names
}

/// Line and key of each hit, joined.
fn found(file: &str, text: &str) -> Vec<String> {
    let seen = look(text.as_bytes(), Path::new(file), &primary());
    seen.hits.iter().map(|hit| format!("{}:{}:{}", hit.line, hit.word, hit.announced_by.unwrap_or("-"))).collect()
}

#[test]
fn an_address_is_found_in_the_lines_that_pbxs_write() {
    for (file, line, expected) in [
        ("pjsip.conf", "external_media_address=203.0.113.1", "1:203.0.113.1:external_media_address"),
        ("pjsip.conf", "bind = [2001:DB8:0::10]:5060", "1:2001:DB8:0::10:bind"),
        ("pjsip.conf", "match=203.0.113.1/32", "1:203.0.113.1:-"),
        ("sip.conf", "register => 42@pbx-a.example.com:5061", "1:pbx-a.example.com:-"),
        ("kamailio.cfg", "listen=udp:203.0.113.1:5060", "1:203.0.113.1:listen"),
        ("kamailio.cfg", "listen=udp:10.0.0.1:5060 advertise PBX-A.example.com.:5060", "1:PBX-A.example.com:listen"),
        ("kamailio.cfg", "#!substdef \"!MY_IP!203.0.113.1!g\"", "1:203.0.113.1:-"),
        (
            "vars.xml",
            r#"<X-PRE-PROCESS cmd="set" data="external_rtp_ip=203.0.113.1"/>"#,
            "1:203.0.113.1:external_rtp_ip",
        ),
        ("internal.xml", r#"<param name="ext-sip-ip" value="203.0.113.1"/>"#, "1:203.0.113.1:ext-sip-ip"),
        ("dump.sql", "('externip','203.0.113.1'),", "1:203.0.113.1:externip"),
        ("phone.xml", "<server>sip://203.0.113.1</server>", "1:203.0.113.1:-"),
        ("mapped.txt", "::ffff:203.0.113.1", "1:::ffff:203.0.113.1:-"),
    ] {
        assert_eq!(found(file, line), [expected], "{file}: {line}");
    }
}

#[test]
fn neither_a_longer_word_nor_a_comment_is_the_host() {
    for (file, text) in [
        ("pjsip.conf", "bind=203.0.113.10"),
        ("pjsip.conf", "bind=1203.0.113.1"),
        ("pjsip.conf", "x=203.0.113.1.2"),
        ("pjsip.conf", "x=2.203.0.113.1"),
        ("pjsip.conf", "x=2001:db8::100"),
        ("pjsip.conf", "x=sip.pbx-a.example.com"),
        ("pjsip.conf", "x=pbx-a.example.com.au"),
        ("pjsip.conf", "x=old-pbx-a.example.com"),
        ("pjsip.conf", "x=pbx-a.example.com_old"),
        ("pjsip.conf", "; bind=203.0.113.1"),
        ("pjsip.conf", "bind=0.0.0.0 ; was 203.0.113.1"),
        ("pjsip.conf", ";--\nbind=203.0.113.1\n--;"),
        ("kamailio.cfg", "listen=udp:0.0.0.0:5060 # 203.0.113.1"),
        ("kamailio.cfg", "/* listen=\n203.0.113.1 */"),
        ("kamailio.cfg", "// 203.0.113.1"),
        ("vars.xml", "<!-- 203.0.113.1\n203.0.113.1 -->"),
        ("notes", "# 203.0.113.1"),
        ("pjsip.conf", "bind=203.0.113.1 ; pbx-failover: allow"),
        ("vars.xml", "203.0.113.1 <!-- pbx-failover: allow -->"),
    ] {
        assert_eq!(found(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn what_only_looks_like_a_comment_is_read() {
    for (file, text, line) in [
        ("pjsip.conf", "x=a\\;203.0.113.1", 1),
        ("pjsip.conf", ";--\n--; bind=203.0.113.1", 2),
        ("pjsip.conf", ";---------------\nbind=203.0.113.1", 2),
        ("pjsip.conf", "#include /srv/203.0.113.1/x.conf", 1),
        ("kamailio.cfg", "x=\"#\" + \"203.0.113.1\"", 1),
        ("kamailio.cfg", "/* a */ listen=203.0.113.1", 1),
        ("phone.js", "fetch(sip://203.0.113.1)", 1),
        ("x.xml", "<!-- a -->203.0.113.1", 1),
    ] {
        let found = found(file, text);
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert!(found[0].starts_with(&format!("{line}:")), "{found:?}");
    }
}

#[test]
fn what_both_hosts_are_called_by_is_not_looked_for() {
    let mut names = primary();
    let mut backup = Names::default();
    backup.host("203.0.113.1");
    names.without(&backup);
    assert_eq!(names.list(), ["2001:db8::10", "pbx-a.example.com"]);
    for nobody in ["0.0.0.0", "::", "127.0.0.1", "::1", ""] {
        let mut names = Names::default();
        names.host(nobody);
        assert!(names.is_empty(), "{nobody}");
    }
}

#[test]
fn the_files_of_certificates_are_told_and_a_comment_is_not() {
    let text = "cert_file=/etc/keys/a.pem ; ours\n;cert_file=/b\ntlscertfile => /c.pem\ncertificate = \"/d.pem\"\ncert_file=rel\n";
    let seen = look(text.as_bytes(), Path::new("http.conf"), &primary());
    let told: Vec<_> = seen.certificates.iter().map(|named| (named.line, named.path.as_str())).collect();
    assert_eq!(told, [(1, "/etc/keys/a.pem"), (3, "/c.pem"), (4, "/d.pem")]);
}

proptest! {
    #[test]
    fn an_address_is_a_whole_word_or_none(before in "[ =\"'(,;@0-9a-z.:_-]{0,3}", after in "[ \"'),;/0-9a-z.:_-]{0,3}") {
        // Read by the rule in words, not by the code: what touches the address on either side decides.
        let line = format!("{before}203.0.113.1{after}");
        let touches = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let left = before.trim_end_matches('.').chars().last();
        let right = after.trim_start_matches('.').chars().next();
        let glued = |side: Option<char>, dots: bool| side.is_some_and(touches) && dots;
        // A dot joins only what follows it: `203.0.113.1.` ends a sentence.
        let is_glued = glued(left, true) || glued(right, true);
        let has_colons = line.matches(':').count() >= 2;
        let is_comment = before.contains(';') || before.trim_start().starts_with("--");
        prop_assume!(!has_colons && !is_comment);
        prop_assert_eq!(found("x.conf", &line).is_empty(), is_glued, "{}", line);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), ending in "conf|cfg|xml|txt") {
        let _ = look(&bytes, Path::new(&format!("a.{ending}")), &primary());
    }
}
