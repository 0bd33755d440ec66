//! The web check against nginx, and the Internet targets that look like it.

use super::*;

/// A check of `url`, whose host is only a name: the address is always loopback.
fn http(url: String) -> CheckTarget {
    CheckTarget::Http { url, expect_status: 200..=399, expect_body: String::new(), ca_file: None }
}

fn holding(url: String, text: &str) -> CheckTarget {
    CheckTarget::Http { url, expect_status: 200..=399, expect_body: text.to_owned(), ca_file: None }
}

fn trusting(url: String, text: &str, ca_file: PathBuf) -> CheckTarget {
    CheckTarget::Http { url, expect_status: 200..=399, expect_body: text.to_owned(), ca_file: Some(ca_file) }
}

fn plain(web: &Web, path: &str) -> String {
    format!("http://pbx.test:{}{path}", web.listen.port())
}

fn secure(web: &Web) -> String {
    format!("https://pbx.test:{}/", web.listen.port())
}

#[tokio::test]
async fn a_web_server_is_up_under_the_name_of_the_url_at_the_address_of_the_primary() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    assert_eq!(up(&ask(http(plain(&web, "/")), PATIENT).await), ("200 OK", None));
    let port = web.listen.port();
    assert_eq!(web.requests(1), [format!("/ 200 host=pbx.test:{port} sni=-")]);
}

#[tokio::test]
async fn an_address_in_the_url_does_not_lead_away_from_the_primary() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    let port = web.listen.port();
    let hosts = [format!("192.0.2.7:{port}"), format!("[2001:db8::7]:{port}")];
    for host in &hosts {
        assert_eq!(up(&ask(http(format!("http://{host}/")), PATIENT).await), ("200 OK", None));
    }
    assert_eq!(web.requests(2), hosts.map(|host| format!("/ 200 host={host} sni=-")));
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    let name = "checks::web::a_proxy_of_the_environment_is_not_asked";
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let env = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, nowhere.as_str()));
    if !have(&["nginx", "env"]) || run_inside(name, &["env"], &env) {
        return;
    }
    let web = Site::new().start();
    runtime().block_on(async {
        up(&ask(http(plain(&web, "/")), PATIENT).await);
        let url = format!("http://127.0.0.1:{}/", web.listen.port());
        up(&ask_internet(InternetKind::Http { url }, PATIENT).await);
    });
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    assert_eq!(up(&ask(http(plain(&web, "/redirect")), PATIENT).await).0, "302 Found");
    // One request more, so that all before it are in the log.
    down(&ask(http(plain(&web, "/teapot")), PATIENT).await);
    let requests = web.requests(2);
    assert!(requests[0].starts_with("/redirect 302 ") && requests[1].starts_with("/teapot "), "{requests:?}");
}

#[tokio::test]
async fn a_status_outside_of_the_range_is_down_and_told() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    assert_eq!(down(&ask(http(plain(&web, "/teapot")), PATIENT).await), "418 I'm a teapot, expected 200-399");
    web.unavailable(true);
    assert_eq!(down(&ask(http(plain(&web, "/")), PATIENT).await), "503 Service Unavailable, expected 200-399");
    web.unavailable(false);
    up(&ask(http(plain(&web, "/")), PATIENT).await);
}

#[tokio::test]
async fn the_expected_text_is_looked_for_in_the_first_bytes_only() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    web.says("<title>Login</title>");
    up(&ask(holding(plain(&web, "/"), "Login"), PATIENT).await);
    let why = ask(holding(plain(&web, "/"), "Logout"), PATIENT).await;
    assert!(down(&why).contains("\"Logout\" is not in"), "{why:?}");

    let bound = 256 * 1024;
    web.says(&("x".repeat(bound - 5) + "Login"));
    up(&ask(holding(plain(&web, "/"), "Login"), PATIENT).await);
    web.says(&("x".repeat(bound - 4) + "Login" + &"x".repeat(bound)));
    down(&ask(holding(plain(&web, "/"), "Login"), PATIENT).await);
}

#[tokio::test]
async fn the_expected_text_is_found_across_pieces() {
    let raw = RawTcp::saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxLo\r\n1\r\ng\r\n3\r\ninx\r\n0\r\n\r\n",
    );
    let url = format!("http://pbx.test:{}/", raw.address.port());
    up(&ask(holding(url, "Login"), PATIENT).await);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_down_at_the_time_out() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    web.says(&("x".repeat(2000) + "Login"));
    web.slow(true);
    let result = ask(holding(plain(&web, "/"), "Login"), SHORT).await;
    assert_eq!(down(&result), "no answer within 300ms");
    assert!(result.latency >= SHORT && result.latency < SHORT * 3, "{result:?}");
}

#[tokio::test]
async fn a_killed_server_is_down_at_once_and_a_hanging_one_at_the_time_out() {
    if !have(&["nginx"]) {
        return;
    }
    let mut web = Site::new().start();
    web.hang();
    assert_eq!(down(&ask(http(plain(&web, "/")), SHORT).await), "no answer within 300ms");
    web.resume();
    up(&ask(http(plain(&web, "/")), PATIENT).await);
    web.kill();
    let result = ask(http(plain(&web, "/")), PATIENT).await;
    assert_eq!(down(&result), "connection refused");
    assert!(result.latency < SHORT, "{result:?}");
}

#[tokio::test]
async fn a_good_certificate_under_an_own_authority_is_up_without_a_warning() {
    if !have(&["nginx"]) {
        return;
    }
    let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("directory"));
    let web = Site::new().tls(authority.good(&["pbx.test"])).start();
    let result = ask(trusting(secure(&web), "It works.", authority.file(&dir)), PATIENT).await;
    assert_eq!(up(&result), ("200 OK", None));
    assert_eq!(web.requests(1), [format!("/ 200 host=pbx.test:{} sni=pbx.test", web.listen.port())]);
}

#[tokio::test]
async fn an_address_in_an_https_url_is_what_the_certificate_must_name() {
    if !have(&["nginx"]) {
        return;
    }
    let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("directory"));
    let web = Site::new().tls(authority.good(&["192.0.2.7"])).start();
    let url = format!("https://192.0.2.7:{}/", web.listen.port());
    assert_eq!(up(&ask(trusting(url, "", authority.file(&dir)), PATIENT).await), ("200 OK", None));
}

#[tokio::test]
async fn certificate_trouble_is_a_warning_and_the_answer_still_counts() {
    if !have(&["nginx"]) {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("directory");
    for (papers, warning) in [
        (authority.expired(&["pbx.test"]), "certificate expired on 2020-01-01"),
        (authority.good(&["other.test"]), "certificate is for other.test, not for pbx.test"),
        (stranger.good(&["pbx.test"]), "certificate is signed by nobody whom this host knows; give its CA as ca_file"),
    ] {
        let web = Site::new().tls(papers).start();
        tls::install_provider();
        let target = trusting(secure(&web), "It works.", authority.file(&dir));
        let probe = checks::probe(&check(target, PATIENT), &host(LOOPBACK), None).expect("a good check");
        // More than once: a resumed TLS session would show no certificate.
        for _ in 0..3 {
            assert_eq!(up(&probe.ask().await), ("200 OK", Some(warning)));
        }
        web.says("Out of order.");
        assert!(down(&probe.ask().await).contains("is not in its first"));
        web.unavailable(true);
        assert!(down(&probe.ask().await).starts_with("503"));
    }
}

#[tokio::test]
async fn what_is_no_web_server_is_down() {
    for says in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"HTTP/1.1 two hundred\r\n\r\n"] {
        let raw = RawTcp::saying(says);
        for scheme in ["http", "https"] {
            let result = ask(http(format!("{scheme}://pbx.test:{}/", raw.address.port())), PATIENT).await;
            assert!(!down(&result).is_empty() && result.latency < PATIENT, "{result:?}");
        }
    }
}

#[tokio::test]
async fn a_tcp_check_only_connects() {
    let raw = RawTcp::saying(b"");
    let port = raw.address.port();
    assert_eq!(up(&ask(CheckTarget::Tcp { port }, PATIENT).await), ("connected", None));
    drop(raw);
    assert_eq!(down(&ask(CheckTarget::Tcp { port }, PATIENT).await), "connection refused");
}

#[tokio::test]
async fn an_unreadable_authority_refuses_the_check_with_a_line() {
    tls::install_provider();
    let target = trusting("https://pbx.test/".to_owned(), "", PathBuf::from("/nonexistent/ca.pem"));
    let why = checks::probe(&check(target, PATIENT), &host(LOOPBACK), None).err().expect("refused");
    assert!(why.starts_with("check it: ca_file /nonexistent/ca.pem: ") && !why.contains('\n'), "{why}");
}

#[test]
fn an_internet_target_needs_a_good_certificate() {
    if !have(&["nginx"]) {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("directory");
    let known = authority.file(&dir);
    let name = "checks::web::an_internet_target_needs_a_good_certificate";
    // The system's roots are loaded once for each process: another run has the test's authority among them.
    if std::env::var_os("PORTS").is_none() {
        let issued = [
            ("good", authority.good(&["127.0.0.1", "localhost"])),
            ("expired", authority.expired(&["127.0.0.1", "localhost"])),
            ("other", authority.good(&["192.0.2.1"])),
            ("stranger", stranger.good(&["127.0.0.1", "localhost"])),
        ];
        let sites: Vec<Web> = issued.into_iter().map(|(_, papers)| Site::new().tls(papers).start()).collect();
        let ports: Vec<String> = sites.iter().map(|site| site.listen.port().to_string()).collect();
        let env = [("SSL_CERT_FILE", known.to_str().expect("path")), ("PORTS", &ports.join(" "))];
        assert!(run_inside(name, &["env"], &env));
        return;
    }
    let ports: Vec<u16> =
        std::env::var("PORTS").expect("ports").split(' ').map(|port| port.parse().expect("port")).collect();
    runtime().block_on(async {
        for (port, trouble) in
            ports.into_iter().zip([None, Some("expired on"), Some("certificate is for"), Some("signed by nobody")])
        {
            for target in ["127.0.0.1", "localhost"] {
                let asked = [
                    InternetKind::Tls { host: target.to_owned(), port },
                    InternetKind::Http { url: format!("https://{target}:{port}/teapot") },
                ];
                for kind in asked {
                    let result = ask_internet(kind, PATIENT).await;
                    match trouble {
                        None => assert!(["certificate good", "418 I'm a teapot"].contains(&up(&result).0)),
                        Some(trouble) => {
                            assert!(down(&result).contains(trouble), "{result:?}");
                            assert!(down(&result).ends_with("(a captive portal?)"), "{result:?}");
                        }
                    }
                }
            }
        }
    });
}

#[tokio::test]
async fn an_internet_target_over_http_is_up_below_500_and_follows_nothing() {
    if !have(&["nginx"]) {
        return;
    }
    let web = Site::new().start();
    let url = |path: &str| InternetKind::Http { url: format!("http://localhost:{}{path}", web.listen.port()) };
    for (path, seen) in [("/", "200 OK"), ("/redirect", "302 Found"), ("/nothing", "404 Not Found")] {
        assert_eq!(up(&ask_internet(url(path), PATIENT).await).0, seen);
    }
    let requests = web.requests(3);
    assert!(requests[2].starts_with("/nothing 404"), "{requests:?}");
    web.unavailable(true);
    assert_eq!(down(&ask_internet(url("/"), PATIENT).await), "503 Service Unavailable");
}

#[tokio::test]
async fn an_internet_target_over_tcp_connects_to_a_name_or_an_address() {
    let raw = RawTcp::saying(b"");
    for target in ["127.0.0.1", "localhost"] {
        let kind = InternetKind::Tcp { host: target.to_owned(), port: raw.address.port() };
        assert_eq!(up(&ask_internet(kind, PATIENT).await).0, "connected");
    }
    let kind = InternetKind::Tcp { host: "no-such-name.invalid".to_owned(), port: 1 };
    assert!(down(&ask_internet(kind, PATIENT).await).contains("no-such-name.invalid cannot be resolved"));
}

#[tokio::test]
async fn an_internet_target_over_dns_takes_any_answer_with_our_id_and_asks_twice() {
    // The first question is lost, the second gets a stranger's answer first, then REFUSED with our id.
    let raw = RawUdp::answering(|number, question| {
        if number == 0 {
            return Vec::new();
        }
        let mut refused = question.to_vec();
        refused[2..4].copy_from_slice(&[0x80, 0x05]);
        let mut stray = refused.clone();
        (stray[0], stray[3]) = (!stray[0], 0x03);
        vec![b"noise".to_vec(), stray, question.to_vec(), refused]
    });
    let kind = InternetKind::Dns { host: "127.0.0.1".to_owned(), port: raw.address.port() };
    let result = ask_internet(kind, PATIENT).await;
    assert_eq!(up(&result).0, "DNS answers Query Refused");
    let seen = raw.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    let kind = InternetKind::Dns { host: "127.0.0.1".to_owned(), port: free_port() };
    assert_eq!(down(&ask_internet(kind, PATIENT).await), "connection refused");
}
