//! What `check` finds of what stands around the pair: the witness at the primary's site, the fence.
//!
//! It asks and looks, as all of [`super::readiness`] does, and cuts nobody off.

use crate::config::FenceNeed;
use crate::ports::Power;
use crate::units::ProbeAnswer;
use crate::units::finding::Finding;

use crate::daemon::world::World;

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
                Finding::problem(about, why, "this host could not ask, so it witnesses nothing; while none can be asked it is as if no witness were configured (monitor.site_cut has no say)")
            }
        });
    }
}

/// Whether the primary answers any check now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// One at least.
    Yes,
    /// None.
    No,
}

/// Reads back whether the primary is off; never cuts.
pub async fn fence(world: &World, answering: Answering, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "fence";
    let Some(settings) = &world.config.fence else { return };
    let primary = &world.config.primary.node;
    findings.push(match (world.fence.read_back().await, answering, settings.need) {
        (Power::NotAsked, ..) => Finding::warning(
            ABOUT,
            format!("nothing tells whether {primary} is off: the fence is believed by its own word"),
            "write fence.read_back",
        ),
        (Power::On(seen), ..) => Finding::ok(ABOUT, format!("{primary} reads on ({seen}); it was not cut off")),
        // It would count as fenced while it serves.
        (Power::Off(seen), Answering::Yes, _) => Finding::problem(
            ABOUT,
            format!("{primary} reads off although it answers ({seen})"),
            "let fence.read_back say off only of an off host; see its expect_body",
        ),
        (Power::Off(seen), Answering::No, _) => Finding::ok(ABOUT, format!("{primary} reads off ({seen})")),
        (Power::Unknown(why), _, FenceNeed::Required) => Finding::problem(
            ABOUT,
            format!("it is not known whether {primary} is off: {why}"),
            "a takeover would halt at the fence: mend fence.read_back",
        ),
        (Power::Unknown(why), _, FenceNeed::Optional) => Finding::warning(
            ABOUT,
            format!("it is not known whether {primary} is off: {why}"),
            "a takeover would go on without knowing: mend fence.read_back",
        ),
    });
}
