//! What `check` finds of what stands around the pair: the witness at the primary's site, the fence.
//!
//! It asks and looks, as all of [`super::readiness`] does, and cuts nobody off.

use crate::units::ProbeAnswer;
use crate::units::finding::Finding;

use super::world::World;

/// Asks each place at the primary's site once.
pub async fn site(world: &World, findings: &mut Vec<Finding>) {
    for (probe, place) in world.site.iter().zip(&world.config.witness.primary_site) {
        let about = format!("witness {}", place.name);
        findings.push(match probe.ask().await.answer {
            ProbeAnswer::Up { seen, .. } => Finding::ok(about, seen),
            ProbeAnswer::Down(why) => Finding::warning(
                about,
                why,
                "while all of them are silent, a dead primary looks like a dead site (see monitor.site_cut)",
            ),
            ProbeAnswer::Unknown(why) => {
                Finding::problem(about, why, "the question did not leave this host, so it witnesses nothing")
            }
        });
    }
}
