//! Asks Kamailio over JSON-RPC: through its unix datagram socket, or over HTTP (module xhttp).
//!
//! Each question has a socket and an id of its own, so a late answer to an earlier one meets nobody. What is asked, and
//! what the answer means, is the driver's.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::config::JsonRpc;
use crate::host::http;
use crate::units::StepOutcome;
use crate::wire::json_rpc::{self, DOCUMENT_BYTES_MAX, NoReply, Reply};

/// How long an answer may take: Kamailio answers within milliseconds, and a reload of its tables within a second.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Documents that are no answer to our question, before we cease to wait for ours.
const STRANGE_MAX: u32 = 16;

/// What the driver is called in the configuration.
pub const KEY: &str = "pbx.driver.kamailio";

/// Where Kamailio is asked.
#[derive(Debug, Clone)]
pub struct Rpc {
    place: JsonRpc,
    limit: Duration,
}

/// Why there is no answer that one could go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Kamailio does not have this command: a module is not loaded, or the version is another.
    NoCommand(String),
    /// It answered that it did not.
    Refused {
        /// Its code; 0 where it gave none.
        code: i64,
        /// The command and its words.
        line: String,
    },
    /// Nobody is there: nothing was carried out.
    Nobody(String),
    /// It was not asked, for a reason of this host's: nothing was carried out.
    NotAsked(String),
    /// The question left, and no answer came: it may have been carried out.
    Silent(String),
    /// What answered is not what we can read: another program, or another version. It says nothing of whether it hangs.
    Strange(String),
}

impl Trouble {
    /// One line: what failed, and what to do.
    pub fn line(&self) -> &str {
        match self {
            Self::NoCommand(line)
            | Self::Refused { line, .. }
            | Self::Nobody(line)
            | Self::NotAsked(line)
            | Self::Silent(line)
            | Self::Strange(line) => line,
        }
    }

    /// What it means to a step that needed the answer.
    pub fn outcome(&self) -> StepOutcome {
        let line = self.line().to_owned();
        match self {
            Self::NoCommand(_) | Self::Refused { .. } | Self::Nobody(_) => StepOutcome::Failed(line),
            Self::NotAsked(_) | Self::Silent(_) | Self::Strange(_) => StepOutcome::Unknown(line),
        }
    }
}

impl Rpc {
    /// The server at `place`.
    pub fn new(place: JsonRpc) -> Self {
        Self { place, limit: ANSWER_LIMIT }
    }

    /// The same with less patience, for tests.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn ask(&self, method: &str, params: &[Value]) -> Result<Value, Trouble> {
        // 53 bits: more are no whole number to a server that counts in floating point.
        let id = fastrand::u64(1..1 << 53);
        let question = json_rpc::question(id, method, params);
        let reply = match &self.place {
            JsonRpc::Unix(path) => self.by_datagram(path, id, &question).await?,
            JsonRpc::Http(url) => self.by_http(url.as_str(), id, question).await?,
        };
        match reply {
            Reply::Result(value) => Ok(value),
            // 5.6 says 500, JSON-RPC 2.0 §5.1 wants -32601: its words are the same in all versions.
            Reply::Error { code, message } if code == -32601 || message.eq_ignore_ascii_case("method not found") => {
                Err(Trouble::NoCommand(no_command(method)))
            }
            Reply::Error { code, message } => {
                Err(Trouble::Refused { code, line: format!("kamailio refuses {method}: {message}") })
            }
        }
    }

    async fn by_datagram(&self, path: &Path, id: u64, question: &[u8]) -> Result<Reply, Trouble> {
        let socket = connected(path, id).map_err(|error| unreachable(path, &error))?;
        let silent = || {
            let (path, limit) = (path.display(), self.limit);
            let hint =
                "it hangs: see `systemctl status` of its unit, and the answer's size if this command alone fails";
            Trouble::Silent(format!("kamailio at {path} did not answer within {limit:?}; {hint}"))
        };
        let exchange = async {
            // A connected socket hears its peer only: Kamailio answers from the socket that it listens at.
            socket.send(question).await.map_err(|error| unreachable(path, &error))?;
            let mut document = vec![0; DOCUMENT_BYTES_MAX + 1];
            for _ in 0..STRANGE_MAX {
                let length = socket.recv(&mut document).await.map_err(|error| {
                    Trouble::Silent(format!("kamailio at {} went away while it was asked: {error}", path.display()))
                })?;
                match json_rpc::reply(id, &document[..length]) {
                    Ok(reply) => return Ok(reply),
                    Err(NoReply::Another) => {}
                    Err(why) => return Err(strange(&path.display().to_string(), &why)),
                }
            }
            Err(silent())
        };
        timeout(self.limit, exchange).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn by_http(&self, url: &str, id: u64, question: Vec<u8>) -> Result<Reply, Trouble> {
        let parsed = reqwest::Url::parse(url).map_err(|error| Trouble::NotAsked(format!("{KEY}.jsonrpc: {error}")))?;
        let place = http::place(&parsed);
        let client = http::client(false, None, self.limit).await.map_err(Trouble::NotAsked)?;
        let request = client.post(parsed).header("content-type", "application/json").body(question);
        let mut answer = request.send().await.map_err(|error| {
            let line = http::unanswered(&error, &place, self.limit);
            if error.is_connect() {
                let hint = "start it, or correct the address in";
                Trouble::Nobody(format!("kamailio is not there: {line}; {hint} {KEY}.jsonrpc"))
            } else {
                Trouble::Silent(line)
            }
        })?;
        let status = answer.status();
        let mut document = Vec::new();
        while let Some(part) =
            answer.chunk().await.map_err(|_| Trouble::Silent(format!("the answer of {place} broke off")))?
        {
            document.extend_from_slice(&part);
            if document.len() > DOCUMENT_BYTES_MAX {
                break;
            }
        }
        // What it refuses has a status of its own too, and the reason in the document.
        json_rpc::reply(id, &document).map_err(|why| {
            if status.is_success() {
                return strange(&place, &why);
            }
            let hint = "let event_route[xhttp:request] call jsonrpc_dispatch() for this path and this host's address";
            let line = format!("kamailio at {place} answers HTTP {} to {KEY}.jsonrpc; {hint}", status.as_u16());
            Trouble::Refused { code: 0, line }
        })
    }
}

/// A socket with a name of its own: to one without, Kamailio cannot answer.
///
/// The name is abstract (unix(7)): no file that a crash would leave behind, and none whose mode would have to let
/// Kamailio's user write.
fn connected(path: &Path, id: u64) -> std::io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("pbx-failover-{}-{id:x}", std::process::id()))?;
    let socket = StdUnixDatagram::bind_addr(&name)?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    UnixDatagram::from_std(socket)
}

fn no_command(method: &str) -> String {
    let module = method.split('.').next().unwrap_or_default();
    let module = match module {
        "dlg" => "dialog",
        "ul" => "usrloc",
        "stats" => "kex",
        other => other,
    };
    format!("kamailio has no command {method}; load its module {module}, or use a version that has it")
}

fn strange(place: &str, why: &NoReply) -> Trouble {
    let line = format!("what answers at {place} is not kamailio's module jsonrpcs: {why}; correct {KEY}.jsonrpc");
    Trouble::Strange(line)
}

fn unreachable(path: &Path, error: &std::io::Error) -> Trouble {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => Trouble::Nobody(format!(
            "kamailio is not there: no socket {path}; start it, or write in {KEY}.jsonrpc what its jsonrpcs has as \
             dgram_socket"
        )),
        ErrorKind::ConnectionRefused => {
            Trouble::Nobody(format!("kamailio is not there: nobody listens at {path}; start it"))
        }
        ErrorKind::PermissionDenied => Trouble::NotAsked(format!(
            "the robot may not write to {path}; put its user into kamailio's group (usermod -aG kamailio pbx-failover) and restart it"
        )),
        // EPROTOTYPE: a stream socket, such as that of the module ctl.
        _ if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => Trouble::NotAsked(format!(
            "{path} is no datagram socket; write in {KEY}.jsonrpc the dgram_socket of jsonrpcs, not the socket of ctl"
        )),
        _ => Trouble::NotAsked(format!("cannot ask kamailio at {path}: {error}; correct {KEY}.jsonrpc")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A server at a path of its own, which does this with the first question and the asker's address.
    async fn asked(
        limit: Duration,
        serve: impl FnOnce(&StdUnixDatagram, Value, &SocketAddr) + Send + 'static,
    ) -> Result<Value, Trouble> {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("rpc.sock");
        let server = StdUnixDatagram::bind(&path).expect("socket");
        let serving = std::thread::spawn(move || {
            let mut question = vec![0; 4096];
            let (length, from) = server.recv_from(&mut question).expect("a question");
            serve(&server, serde_json::from_slice(&question[..length]).expect("JSON"), &from);
            server
        });
        let answer = Rpc::new(JsonRpc::Unix(path)).with_limit(limit).ask("core.uptime", &[]).await;
        drop(serving.join().expect("the server"));
        answer
    }

    fn answer(id: &Value, result: u32) -> Vec<u8> {
        json!({"jsonrpc": "2.0", "result": result, "id": id}).to_string().into_bytes()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_late_answer_to_another_question_and_a_strangers_word_are_passed_over() {
        let heard = asked(ANSWER_LIMIT, |server, question, from| {
            let stranger = StdUnixDatagram::unbound().expect("socket");
            stranger.send_to_addr(&answer(&question["id"], 666), from).expect_err("only its server is heard");
            server.send_to_addr(&answer(&json!(1_u64 << 60), 1), from).expect("sent");
            server.send_to_addr(&answer(&question["id"], 2), from).expect("sent");
        });
        assert_eq!(heard.await, Ok(json!(2)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_does_not_answer_or_is_another_leaves_it_unknown_with_advice() {
        let limit = Duration::from_millis(100);
        let trouble = asked(limit, |_, _, _| {}).await.expect_err("silence");
        assert!(matches!(trouble.outcome(), StepOutcome::Unknown(why) if why.contains("did not answer within 100ms")));
        let trouble = asked(limit, |server, _, from| {
            for _ in 0..=STRANGE_MAX {
                let _ = server.send_to_addr(&answer(&json!(1_u64 << 60), 1), from);
            }
        });
        assert!(matches!(trouble.await, Err(Trouble::Silent(_))), "not waited for without end");
        let trouble = asked(ANSWER_LIMIT, |server, _, from| drop(server.send_to_addr(b"hello", from)));
        let trouble = trouble.await.expect_err("no JSON");
        assert!(matches!(&trouble, Trouble::Strange(line) if line.contains("is not kamailio's module jsonrpcs")));
        assert!(matches!(trouble.outcome(), StepOutcome::Unknown(_)));
    }

    #[test]
    fn each_way_of_not_reaching_it_says_what_to_do() {
        let told = |kind: ErrorKind| unreachable(Path::new("/run/kamailio/kamailio_rpc.sock"), &kind.into());
        for (kind, said) in [
            (ErrorKind::NotFound, "write in pbx.driver.kamailio.jsonrpc what its jsonrpcs has as dgram_socket"),
            (ErrorKind::ConnectionRefused, "nobody listens at /run/kamailio/kamailio_rpc.sock; start it"),
            (ErrorKind::PermissionDenied, "put its user into kamailio's group"),
            (ErrorKind::OutOfMemory, "correct pbx.driver.kamailio.jsonrpc"),
        ] {
            assert!(told(kind).line().contains(said), "{}", told(kind).line());
        }
        assert!(matches!(told(ErrorKind::NotFound).outcome(), StepOutcome::Failed(_)), "nothing was carried out");
        assert!(no_command("dlg.stats_active").ends_with("load its module dialog, or use a version that has it"));
    }
}
