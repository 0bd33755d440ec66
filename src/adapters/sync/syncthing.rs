//! A folder of Syncthing, paused and resumed through its REST interface (docs.syncthing.net, "Config Endpoints", from
//! version 1.12), and read back.

use std::time::Duration;

use reqwest::{Method, Response};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::Stand;
use crate::config;
use crate::host::{http, secret};

/// It answers from memory; a pause waits for the end of what is being written.
const LIMIT: Duration = Duration::from_secs(10);

/// A folder's configuration has some KiB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The Syncthing of this host.
pub struct Syncthing {
    at: config::Syncthing,
}

/// What is read of a folder's configuration.
#[derive(Deserialize)]
struct Folder {
    paused: bool,
}

/// Why a question was not answered.
enum Trouble {
    /// Nobody listens there.
    Refused(String),
    Other(String),
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Refused(why) | Self::Other(why) => why,
        }
    }
}

impl Syncthing {
    /// That of this configuration.
    pub fn new(at: config::Syncthing) -> Self {
        Self { at }
    }

    /// Its folders that are ours, by their ids.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.at.folders.iter().map(String::as_str)
    }

    /// How a folder stands.
    pub async fn stand(&self, folder: &str) -> Stand {
        match self.is_paused(folder).await {
            Ok(true) => Stand::Rests(format!("Syncthing's folder {folder} is paused")),
            Ok(false) => Stand::Runs(format!("Syncthing syncs the folder {folder}")),
            Err(trouble) => Stand::Unknown(trouble.text()),
        }
    }

    /// Pauses it and reads that back.
    pub async fn pause(&self, folder: &str) -> Result<String, String> {
        match self.set(folder, true).await {
            Ok(()) => Ok(format!("Syncthing's folder {folder} is paused")),
            // It writes nothing now. Whoever starts it starts the folder as well, which the next look sees and pauses.
            Err(Trouble::Refused(why)) => {
                Ok(format!("WARNING, Syncthing does not run, and {folder} is not paused: {why}"))
            }
            Err(Trouble::Other(why)) => Err(why),
        }
    }

    /// Lets it sync again, and reads that back.
    pub async fn resume(&self, folder: &str) -> Result<String, String> {
        self.set(folder, false).await.map_err(Trouble::text)?;
        Ok(format!("Syncthing syncs the folder {folder}"))
    }

    async fn set(&self, folder: &str, paused: bool) -> Result<(), Trouble> {
        let asked = serde_json::json!({ "paused": paused }).to_string();
        self.ask(Method::PATCH, folder, Some(asked)).await?;
        if self.is_paused(folder).await? == paused {
            return Ok(());
        }
        let (what, back) = if paused { ("pause", "syncs") } else { ("resume", "is paused") };
        Err(Trouble::Other(format!("Syncthing did not {what} the folder {folder}: it {back} still")))
    }

    async fn is_paused(&self, folder: &str) -> Result<bool, Trouble> {
        let text = self.ask(Method::GET, folder, None).await?;
        let read: Result<Folder, _> = serde_json::from_str(&text);
        read.map(|folder| folder.paused)
            .map_err(|_| Trouble::Other(format!("{} does not answer as Syncthing", self.place())))
    }

    async fn ask(&self, method: Method, folder: &str, body: Option<String>) -> Result<String, Trouble> {
        let other = Trouble::Other;
        let at = &self.at;
        let source = at.api_key.clone();
        let key = tokio::task::spawn_blocking(move || secret::read(&source)).await;
        let key = key.map_err(|_| other("the key could not be read".to_owned()))?.map_err(other)?;
        let is_tls = at.url.starts_with("https:");
        let client = http::client(is_tls, at.ca_file.clone(), LIMIT).await.map_err(other)?;
        let url = format!("{}/rest/config/folders/{}", at.url, http::percent(folder));
        let mut request = client.request(method, url).header("X-API-Key", key.expose_secret());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let answer = request.send().await.map_err(|error| {
            let said = http::unanswered(&error, &self.place(), LIMIT);
            if is_refused(&error) { Trouble::Refused(said) } else { Trouble::Other(said) }
        })?;
        let status = answer.status();
        let text = read(answer).await.map_err(|why| other(format!("{}: {why}", self.place())))?;
        match status.as_u16() {
            200 => Ok(text),
            401 | 403 => {
                Err(other(format!("{} refuses the key ({status}); see sync.fence.syncthing.api_key", self.place())))
            }
            404 if text.contains("No folder") => Err(other(format!(
                "Syncthing has no folder with the id {folder}; correct sync.fence.syncthing.folders"
            ))),
            404 => Err(other(format!("{} knows no /rest/config (404); Syncthing 1.12 or newer does", self.place()))),
            _ => Err(other(format!("{} answered {status}", self.place()))),
        }
    }

    fn place(&self) -> String {
        format!("Syncthing at {}", self.at.url)
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if at.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = at.source();
    }
    false
}

async fn read(mut answer: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| http::plain(&error.without_url().to_string()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
