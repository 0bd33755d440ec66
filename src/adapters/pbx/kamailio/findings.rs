//! What `check` shows of Kamailio before the bad day; nothing is changed.

use serde_json::Value;

use super::gate::Rereads;
use super::rpc::{KEY, Trouble};
use super::settings::{Param, param};
use super::{KamailioPbx, WHERE_TO};
use crate::adapters::pbx::registrar::Heard;
use crate::config::KamailioPassive;
use crate::units::Guarded;
use crate::units::finding::Finding;

/// What they are about.
const ABOUT: &str = "pbx";

impl KamailioPbx {
    /// Looks at what can be seen of it now.
    pub(super) async fn find(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(finding) = self.find_boot().await {
            found.push(finding);
        }
        if let Some(finding) = self.unit.missing().await {
            found.push(finding);
            return found;
        }
        let is_idle = self.unit.gone().await;
        if let (Some(idle), KamailioPassive::Stopped) = (&is_idle, &self.passive) {
            found.push(Finding::ok(ABOUT, format!("{idle}: passive; its settings are seen while it runs")));
            return found;
        }
        if let Some(idle) = is_idle {
            let hint = format!("start it: `systemctl start {}`; until then a takeover has to", self.unit.name());
            found.push(Finding::warning(ABOUT, format!("passive: gate, but {idle}"), hint));
            return found;
        }
        let version = match self.ask("core.version", &[]).await {
            Ok(version) => version.as_str().unwrap_or("kamailio").trim().to_owned(),
            Err(trouble) => {
                let hint = format!("see {KEY}.jsonrpc and the module jsonrpcs in kamailio.cfg");
                found.push(Finding::problem(ABOUT, trouble.line(), hint));
                return found;
            }
        };
        found.push(Finding::ok(ABOUT, format!("{version} answers over JSON-RPC")));
        if let KamailioPassive::Gate { htable, key } = &self.passive {
            found.push(self.find_gate(htable, key).await);
            if self.rereads().await == Rereads::No {
                let text =
                    "kamailio's module db_text keeps its tables: a takeover restarts it instead of reloading them";
                found.push(Finding::warning(ABOUT, text, r#"write modparam("db_text", "db_mode", 1)"#));
            }
        }
        if let Err(Trouble::NoCommand(_)) = self.ask("stats.fetchn", &["usrloc:".into()]).await {
            let text = "kamailio tells no numbers: how many phones are registered is not seen";
            found.push(Finding::warning(ABOUT, text, "load its module kex"));
        }
        if let Err(Trouble::NoCommand(_)) = self.calls().await {
            let text = "kamailio counts no calls: a failback does not wait for their end";
            found.push(Finding::warning(ABOUT, text, "load its module dialog, and call dlg_manage() for each INVITE"));
        }
        if self.registering().next().is_some() {
            self.find_trunks(&mut found).await;
        }
        found
    }

    /// Whether a boot does with its unit what passive needs.
    async fn find_boot(&self) -> Option<Finding> {
        let name = self.unit.name();
        if self.unit.guarded().await == Guarded::Yes {
            // The primary's starts at boot, and asks the guard.
            return None;
        }
        match (self.unit.enabled_at_boot().await?.as_str(), &self.passive) {
            ("enabled", KamailioPassive::Stopped) => {
                let text = format!("{name} starts at boot, although passive means stopped");
                Some(Finding::warning(ABOUT, text, format!("`systemctl disable {name}`")))
            }
            ("disabled", KamailioPassive::Gate { .. }) => {
                let text = format!("{name} does not start at boot, although it should run behind its gate");
                Some(Finding::warning(ABOUT, text, format!("`systemctl enable {name}`")))
            }
            _ => None,
        }
    }

    async fn find_gate(&self, htable: &str, key: &str) -> Finding {
        let recipe = "take over the gate of docs/recipes/kamailio.md into kamailio.cfg";
        let told = match self.ask("htable.get", &[htable.into(), key.into()]).await {
            Ok(told) => told,
            // An entry that was never set is a shut gate.
            Err(Trouble::Refused { line, .. }) if !line.contains("No such htable") => Value::Null,
            Err(trouble) => return Finding::problem(ABOUT, format!("no gate {htable}: {}", trouble.line()), recipe),
        };
        let is_open = told["item"]["value"].as_u64() == Some(1);
        match (is_open, self.site.registrar.ask().await) {
            (false, Heard::Serves(answer)) => {
                Finding::problem(ABOUT, format!("the gate {htable}=>{key} is shut, yet {answer}"), recipe)
            }
            (false, Heard::Refuses(why)) => match self.held().await {
                Ok(None) => Finding::ok(ABOUT, format!("the gate {htable}=>{key} is shut: {why}")),
                Ok(Some(path)) => {
                    let text = format!("it holds {} open while passive", path.display());
                    Finding::problem(ABOUT, text, "keep that file outside pbx.working_dir, or write passive: stopped")
                }
                Err(line) => Finding::warning(ABOUT, line, "until then it is stopped instead of kept behind its gate"),
            },
            (false, Heard::Nobody(why) | Heard::NotAsked(why)) => {
                Finding::warning(ABOUT, format!("the gate cannot be seen: {why}"), "correct pbx.probe")
            }
            (true, _) => Finding::ok(ABOUT, format!("the gate {htable}=>{key} is open")),
        }
    }

    async fn find_trunks(&self, found: &mut Vec<Finding>) {
        let records = match self.records().await {
            Ok(records) => records,
            Err(trouble) => {
                found.push(Finding::problem(ABOUT, trouble.line(), "load the module uac with reg_db_url"));
                return;
            }
        };
        for name in self.registering().filter(|name| !records.iter().any(|record| record.name == *name)) {
            found.push(Finding::problem(ABOUT, format!("kamailio has no trunk {name}"), WHERE_TO));
        }
        for record in records.iter().filter(|record| record.is_disabled()) {
            let text = format!("trunk {}: {}", record.name, record.said().unwrap_or_default());
            found.push(Finding::warning(ABOUT, text, format!("`kamcmd uac.reg_enable l_uuid {}`", record.name)));
        }
        // No command tells it.
        let retry = self.config_text().await.map(|text| param(&text, "uac", "reg_retry_interval"));
        if matches!(retry, Some(Param::Absent | Param::Number(0))) {
            let text =
                "reg_retry_interval of kamailio's module uac is 0: one failed REGISTER disables a trunk for good";
            found.push(Finding::warning(ABOUT, text, r#"write modparam("uac", "reg_retry_interval", 60)"#));
        }
    }
}
