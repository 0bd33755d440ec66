//! What `check` says of a trunk long before the bad day: whether its provider lets this host in, what it holds of the
//! other, and whether inbound calls would follow.

use super::ledger::Ledger;
use crate::config::{OldBinding, Trunk, TrunkProof};
use crate::units::finding::{Finding, Level};
use crate::units::{TrunkKind, TrunkState};

/// A binding that lasts longer keeps calls at a dead host for so long.
const EXPIRY_MAX_S: u32 = 300;

/// All that there is to say of one trunk; `moved` are the names that DNS moves with the service.
pub async fn of(trunk: &Trunk, ledger: &Ledger, moved: &[String], findings: &mut Vec<Finding>) {
    findings.extend(provider(trunk, ledger).await);
    match trunk.kind {
        TrunkKind::Register if ledger.knows_accounts() => findings.push(bindings(trunk, ledger).await),
        TrunkKind::Register => {}
        TrunkKind::Ip | TrunkKind::Fqdn => findings.push(inbound(trunk, moved)),
    }
}

fn about(trunk: &Trunk) -> String {
    format!("trunk {}", trunk.name)
}

/// Whether its provider answers OPTIONS from this host's address.
async fn provider(trunk: &Trunk, ledger: &Ledger) -> Option<Finding> {
    let about = about(trunk);
    let Some(said) = ledger.ask(trunk).await else {
        let is_told = trunk.kind == TrunkKind::Register;
        return (!is_told).then(|| Finding {
            level: Level::Skipped,
            hint: Some("write provider: \"sip:HOST\" beside it".to_owned()),
            ..Finding::ok(about, "nobody knows whom to ask whether this host's address is allowed")
        });
    };
    let advice = said.advice.unwrap_or_else(|| "see pbx.trunks.NAME.provider".to_owned());
    Some(match said.state {
        TrunkState::Up => Finding::ok(about, said.text),
        _ if trunk.required && trunk.proof == TrunkProof::Options => Finding::problem(about, said.text, advice),
        _ => Finding::warning(about, said.text, advice),
    })
}

/// What its provider holds now, asked with the trunk's own password.
async fn bindings(trunk: &Trunk, ledger: &Ledger) -> Finding {
    let about = about(trunk);
    if let Some(why) = ledger.sleeps().await {
        return Finding { level: Level::Skipped, ..Finding::ok(about, format!("its provider is not asked: {why}")) };
    }
    let held = match ledger.look(&trunk.name).await {
        Ok(held) => held,
        Err(why) => {
            let text = format!("its provider was not heard of from here: {why}");
            return Finding::warning(
                about,
                text,
                "a trunk that this host cannot register is no trunk after a takeover",
            );
        }
    };
    let shown = held.shown();
    if shown.is_empty() {
        return Finding::ok(about, "its provider takes the password from here, and holds nothing of another host");
    }
    let listed = shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let text = format!("its provider takes the password from here, and holds {listed}");
    let longest = shown.iter().map(|binding| binding.expires_s).max().unwrap_or_default();
    if longest > EXPIRY_MAX_S && trunk.old_binding == OldBinding::Shown {
        let hint = format!(
            "calls would go there for up to {longest} s after that host died: let the primary register for 300 s, or set \
             clear_old_binding"
        );
        return Finding::warning(about, text, hint);
    }
    Finding::ok(about, text)
}

/// Whether inbound calls would follow the service.
fn inbound(trunk: &Trunk, moved: &[String]) -> Finding {
    let (name, about) = (&trunk.name, about(trunk));
    match (&trunk.move_url, trunk.kind, &trunk.fqdn) {
        (Some(url), ..) => Finding::ok(about, format!("inbound calls are moved by the action URL {url}")),
        (None, TrunkKind::Fqdn, Some(fqdn)) if moved.iter().any(|moved| moved.eq_ignore_ascii_case(fqdn)) => {
            Finding::ok(about, format!("inbound calls follow {fqdn}, which DNS moves"))
        }
        (None, TrunkKind::Fqdn, Some(fqdn)) => Finding::problem(
            about,
            format!("inbound calls of trunk {name} follow {fqdn}, which nobody moves"),
            format!("write {fqdn} into the records of dns.updates, or set move: NAME of an action URL"),
        ),
        (None, TrunkKind::Fqdn, None) if moved.is_empty() => Finding::problem(
            about,
            format!("inbound calls of trunk {name} follow a name, and DNS moves none"),
            "give dns.updates the name that the provider looks up, or set move: NAME of an action URL",
        ),
        (None, TrunkKind::Fqdn, None) => Finding::warning(
            about,
            format!(
                "inbound calls of trunk {name} follow a name that is not written here; DNS moves {}",
                moved.join(", ")
            ),
            "write the name that the provider looks up as its fqdn",
        ),
        (None, ..) => Finding::warning(
            about,
            format!("inbound calls of trunk {name} still go to the primary's address after a takeover"),
            "set move: NAME of an action URL that tells the provider, or have the provider know both addresses",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(trunk: &Trunk, moved: &[&str]) -> (Level, String) {
        let moved: Vec<_> = moved.iter().map(|&name| name.to_owned()).collect();
        let Finding { level, text, .. } = inbound(trunk, &moved);
        (level, text)
    }

    #[test]
    fn inbound_calls_of_a_trunk_by_address_stay_behind_unless_an_action_url_moves_them() {
        let mut trunk = Trunk::new("carrier", TrunkKind::Ip);
        let (level, text) = found(&trunk, &["pbx.example.com"]);
        assert_eq!(level, Level::Warning);
        assert!(text.contains("carrier still go to the primary's address"), "{text}");
        trunk.move_url = Some("provider".to_owned());
        assert_eq!(found(&trunk, &[]).0, Level::Ok);
    }

    #[test]
    fn inbound_calls_of_a_trunk_by_name_follow_only_a_name_that_is_moved() {
        let mut trunk = Trunk::new("carrier", TrunkKind::Fqdn);
        assert_eq!(found(&trunk, &[]).0, Level::Problem);
        assert_eq!(found(&trunk, &["pbx.example.com"]).0, Level::Warning);
        trunk.fqdn = Some("PBX.example.com".to_owned());
        assert_eq!(found(&trunk, &["pbx.example.com"]).0, Level::Ok);
        let (level, text) = found(&trunk, &["sip.example.com"]);
        assert_eq!(level, Level::Problem);
        assert!(text.contains("PBX.example.com, which nobody moves"), "{text}");
    }
}
