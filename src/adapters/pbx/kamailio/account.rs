//! What a trunk registers as, and with which password, by the record of Kamailio's module uac.

use std::time::Duration;

use serde_json::Value;

use super::rpc::{Rpc, Trouble};
use crate::adapters::pbx::builtin::accounts::{Algorithm, Credentials, Login, TrunkAccount};

/// Asks the running Kamailio for the record `name`.
///
/// # Errors
/// One line: it does not run, or has no such record. The password is in no line.
pub async fn account(rpc: &Rpc, name: &str) -> Result<TrunkAccount, String> {
    match rpc.ask("uac.reg_info", &[Value::from("l_uuid"), Value::from(name)]).await {
        Ok(told) => read(name, &told).ok_or_else(|| format!("the record {name} of uacreg names no provider or user")),
        Err(Trouble::Refused { code: 404, .. }) => Err(format!("uacreg has no record {name}")),
        Err(trouble) => Err(trouble.line().to_owned()),
    }
}

/// Whether nobody is there who could be asked; for people.
pub async fn sleeps(rpc: &Rpc) -> Option<String> {
    match rpc.ask("core.version", &[]).await {
        Err(Trouble::Nobody(_)) => Some("kamailio, which knows the trunk's password, does not run here now".to_owned()),
        _ => None,
    }
}

fn read(name: &str, told: &Value) -> Option<TrunkAccount> {
    // `.` is uac's word for "none".
    let text = |field: &str| told.get(field).and_then(Value::as_str).filter(|text| !text.is_empty() && *text != ".");
    let (user, domain) = (text("r_username")?, text("r_domain")?);
    // It says `none` where there is no digest.
    let is_md5 = |digest: &&str| digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let credentials = match (text("auth_ha1").filter(is_md5), text("auth_password")) {
        (Some(digest), _) => Credentials::of_md5(digest),
        (None, Some(password)) => Credentials::of_password(password),
        (None, None) => Credentials::default(),
    };
    Some(TrunkAccount {
        name: name.to_owned(),
        server_uri: format!("sip:{domain}"),
        client_uri: format!("sip:{user}@{domain}"),
        contact_user: None,
        outbound_proxy: text("auth_proxy").map(str::to_owned),
        transport: None,
        expiration: Duration::from_secs(told.get("expires").and_then(Value::as_u64).unwrap_or_default()),
        retry_interval: Duration::ZERO,
        logins: vec![Login {
            username: text("auth_username").unwrap_or(user).to_owned(),
            realm: text("realm").map(str::to_owned),
            credentials,
            algorithms: [Algorithm::Md5, Algorithm::Sha256].into_iter().collect(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_becomes_what_its_provider_is_asked_with() {
        // As Kamailio 5.6.3 tells it.
        let told = json!({"l_uuid": "carrier", "l_username": "office", "l_domain": "pbx.example.com",
            "r_username": "office", "r_domain": "192.0.2.1:5060", "realm": "example.net", "auth_username": "user",
            "auth_ha1": "none", "auth_password": "secret", "auth_proxy": "sip:proxy.example.net", "expires": 300, "flags": 20});
        let account = read("carrier", &told).expect("an account");
        assert_eq!(
            (account.server_uri.as_str(), account.client_uri.as_str()),
            ("sip:192.0.2.1:5060", "sip:office@192.0.2.1:5060")
        );
        assert_eq!(account.outbound_proxy.as_deref(), Some("sip:proxy.example.net"));
        let login = &account.logins[0];
        assert_eq!((login.username.as_str(), login.realm.as_deref()), ("user", Some("example.net")));
        assert!(login.credentials.proof(Algorithm::Sha256).is_some());
        assert!(!format!("{account:?}").contains("secret"));
        let digest = json!({"r_username": "office", "r_domain": "192.0.2.1", "auth_ha1": "0123456789abcdef0123456789abcdef", "auth_password": "."});
        let login = &read("carrier", &digest).expect("an account").logins[0];
        assert!(
            login.credentials.proof(Algorithm::Md5).is_some() && login.credentials.proof(Algorithm::Sha256).is_none()
        );
        assert_eq!(read("carrier", &json!({"r_username": "office"})), None);
    }
}
