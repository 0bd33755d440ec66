//! Asterisk at a provider that allows one registration and still holds the dead primary's.

use pbx_failover::adapters::pbx::{Accounts, Proved};
use pbx_failover::config::OldBinding;

use super::*;
use crate::lab::kamailio::Second;
use crate::pbx::providers::{Dead, carrier, here};

#[tokio::test(flavor = "multi_thread")]
async fn at_a_provider_of_one_registration_asterisk_is_refused_until_the_dead_primary_s_is_removed() {
    for suite in suites() {
        let dead = Dead::at(Second::Refused);
        let mut rig = Rig::with(&suite, |setup| {
            setup.without_trunks().trunk("carrier", dead.provider.address(), "trunk1", "secret")
        });
        let proved = |rig: &Rig, old| {
            let accounts = Accounts::Pjsip(vec![rig.pbx.pjsip_conf()]);
            Proved::with(Box::new(rig.driver()), vec![carrier(old)], here("127.0.0.1"), accounts)
        };
        let pbx = proved(&rig, OldBinding::Shown);
        done(pbx.reload(Mode::Act, Load::First).await);
        let outcome = pbx.register_trunks(Mode::Act).await;
        println!("shown: {outcome:?}");
        assert!(!matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
        assert!(outcome.text().contains(&dead.named()), "{outcome:?}");
        let status = pbx.status().await;
        assert_eq!(status.serving, Serving::Yes, "phones are served all the same");
        assert_eq!(status.trunks[0].foreign[0].place, dead.place);
        assert_eq!(dead.held(), [dead.contact.as_str()]);

        let pbx = proved(&rig, OldBinding::Cleared);
        let proof = done(pbx.register_trunks(Mode::Act).await);
        println!("cleared: {proof}");
        assert!(proof.contains(&format!("of carrier the old binding was removed: {} (3", dead.place)), "{proof}");
        assert_eq!(dead.held(), [format!("sip:carrier@{}", rig.pbx.address())]);
        let status = pbx.status().await;
        assert_eq!((status.trunks[0].state, &status.trunks[0].foreign), (TrunkState::Up, &Vec::new()));
        done(pbx.stop_accepting().await);
        rig.pbx.kill();
    }
}
