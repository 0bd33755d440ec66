//! What must come of any set of cuts: written from the design's pages on verdict, states and epoch, and from nothing else.
//!
//! It knows no time, no state table and no plan, and was written before its author had seen the engine, so that both
//! being wrong in the same way is unlikely. The network is in `plan.rs`.
//!
//! Where the design leaves a choice, the choice is written at its place, with its reason:
//! [`Sight::observer`] (what "sees it alive" means) and [`World::settle`] (the primary's host outlives its PBX).

use super::plan::{Cut, Cuts, Host};

/// Whether a program answers where the network lets it be asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Process {
    /// It answers.
    Runs,
    /// It does not, and starts by nobody's hand.
    Dead,
}

/// One answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seen {
    /// It came.
    Answers,
    /// It did not.
    Silent,
}

/// What an observer's view says of the primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum View {
    /// No observer is configured.
    Nobody,
    /// The observer cannot be asked.
    Unheard,
    /// It was asked, and sees no life.
    SeesNoLife,
    /// It was asked, and sees the primary alive.
    SeesAlive,
}

/// `monitor.site_cut`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SiteCut {
    /// Take over.
    Takeover,
    /// Do not.
    Wait,
}

/// `monitor.half_dead`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HalfDead {
    /// Take over after a time.
    Takeover,
    /// Tell people only.
    Alert,
}

/// Whether an optional source of evidence is configured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Used {
    /// It is.
    Yes,
    /// It is, and its host may not ask it (an ICMP echo without the right to one): never asked, so it has no word.
    InVain,
    /// It is not.
    No,
}

/// `agent.step_down`, and the first part of what an agent does when it may not serve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Act {
    /// The PBX stops.
    Stop,
    /// The PBX stays for the phones that reach it; its trunks go.
    UnregisterTrunks,
    /// Nothing is done but telling people: `alert` for `step_down`, `keep` for `epoch_unreadable`.
    Nothing,
}

/// The agent's two policies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Agent {
    /// When the epoch names another.
    pub step_down: Act,
    /// When the epoch was unreadable for longer than `after`.
    pub unreadable: Act,
}

/// The policies that change what comes of a cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Policies {
    /// On the backup.
    pub site_cut: SiteCut,
    /// On the backup.
    pub half_dead: HalfDead,
    /// Whether the router at the primary's site is asked. Only a router that was asked can be silent.
    pub witness: Used,
    /// Whether an observer is asked.
    pub observer: Used,
    /// Guard and agent on the primary, or neither.
    pub agent: Option<Agent>,
}

/// What the design's table says of the primary. Named as in `status`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Belief {
    /// Row: all up.
    PrimaryUp,
    /// Row: some down.
    HalfDead,
    /// Row: all down, site answers or is not asked, nobody sees it alive.
    PrimaryDead,
    /// Row: all down, site silent, nobody sees it alive.
    SiteCut,
    /// Row: all down, somebody sees it alive.
    PathCut,
    /// Row: too few Internet targets.
    WeAreCutOff,
}

impl Belief {
    /// As `status` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrimaryUp => "primary-up",
            Self::HalfDead => "half-dead",
            Self::PrimaryDead => "primary-dead",
            Self::SiteCut => "site-cut",
            Self::PathCut => "path-cut",
            Self::WeAreCutOff => "we-are-cut-off",
        }
    }
}

/// How many Internet targets must answer (`internet.need`), of [`super::plan::TARGETS`].
pub const NEED: u8 = 2;

/// What every question that a node asks gets for an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sight {
    /// The backup asks the primary's web server.
    pub web: Seen,
    /// The backup asks the primary's SIP port: the deciding check.
    pub sip: Seen,
    /// How many Internet targets answer the backup.
    pub internet: u8,
    /// The backup asks the router at the primary's site.
    pub witness: Seen,
    /// What the backup hears from the observer. "Sees it alive" is that the observer's *deciding* check is up: "if
    /// there is a sip check, the sip checks decide". A web server beside a dead PBX is no telephone, and a veto in
    /// its name would leave the phones without one.
    pub observer: View,
    /// The backup asks the DNS master.
    pub backup_master: Seen,
    /// The primary asks the DNS master.
    pub primary_master: Seen,
    /// The backup's REGISTER reaches the provider.
    pub backup_provider: Seen,
    /// The primary's REGISTER would reach the provider.
    pub primary_provider: Seen,
}

/// What runs on the primary, and which cuts there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// What is cut.
    pub cuts: Cuts,
    /// The primary's PBX, as fate has it.
    pub pbx: Process,
    /// The primary's web server.
    pub web: Process,
}

fn seen(cuts: Cuts, from: Host, to: Host, program: Process) -> Seen {
    if cuts.reaches(from, to) && program == Process::Runs { Seen::Answers } else { Seen::Silent }
}

impl Sight {
    /// What is seen while the primary's PBX is in the state `pbx` (which its agent may have brought about).
    pub fn of(place: Place, pbx: Process, policies: Policies) -> Self {
        let Place { cuts, web, .. } = place;
        let answers = |from, to| seen(cuts, from, to, Process::Runs);
        let observer = if policies.observer != Used::Yes {
            View::Nobody
        } else if !cuts.reaches(Host::Backup, Host::Observer) {
            View::Unheard
        } else if seen(cuts, Host::Observer, Host::Primary, pbx) == Seen::Answers {
            View::SeesAlive
        } else {
            View::SeesNoLife
        };
        Self {
            web: seen(cuts, Host::Backup, Host::Primary, web),
            sip: seen(cuts, Host::Backup, Host::Primary, pbx),
            internet: cuts.targets_seen_by(Host::Backup),
            witness: answers(Host::Backup, Host::Router),
            observer,
            backup_master: answers(Host::Backup, Host::Master),
            primary_master: answers(Host::Primary, Host::Master),
            backup_provider: answers(Host::Backup, Host::Provider),
            primary_provider: answers(Host::Primary, Host::Provider),
        }
    }

    /// The verdict's table, first row that fits. The rows `stalled` and `no view` are no matter of links.
    pub fn belief(self, policies: Policies) -> Belief {
        if self.internet < NEED {
            return Belief::WeAreCutOff;
        }
        match (self.web, self.sip) {
            (Seen::Answers, Seen::Answers) => Belief::PrimaryUp,
            (Seen::Silent, Seen::Silent) => {
                if self.observer == View::SeesAlive {
                    Belief::PathCut
                } else if policies.witness == Used::Yes && self.witness == Seen::Silent {
                    Belief::SiteCut
                } else {
                    Belief::PrimaryDead
                }
            }
            _ => Belief::HalfDead,
        }
    }

    /// Whether the verdict lets the backup take over by itself, in the end.
    pub fn may_take_over(self, policies: Policies) -> bool {
        match self.belief(policies) {
            Belief::PrimaryUp | Belief::WeAreCutOff | Belief::PathCut => false,
            Belief::HalfDead => self.sip == Seen::Silent && policies.half_dead == HalfDead::Takeover,
            Belief::SiteCut => policies.site_cut == SiteCut::Takeover,
            Belief::PrimaryDead => true,
        }
    }

    /// Whether a takeover happens: allowed by the verdict, and armed, which here turns on one thing only: "the epoch
    /// can be claimed".
    pub fn takes_over(self, policies: Policies) -> bool {
        self.may_take_over(policies) && self.backup_master == Seen::Answers
    }
}

/// A node that may hold the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Node {
    /// `pbx-a`.
    Primary,
    /// `pbx-b`.
    Backup,
}

/// What a node's PBX does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Serving {
    /// It does not run.
    Off,
    /// It serves the phones that reach it, with its trunks given up.
    PhonesOnly,
    /// It serves phones, and its trunks as far as the provider is reached.
    All,
}

/// Where everything stands once it has settled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct World {
    /// Whom the epoch names.
    pub holder: Node,
    /// What guard and agent let the primary's PBX do, were it not dead.
    pub primary: Serving,
    /// What the backup's PBX does.
    pub backup: Serving,
}

/// Who serves phones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Who {
    /// The primary alone.
    Primary,
    /// The backup alone.
    Backup,
    /// Both: each the phones that reach it.
    Both,
    /// No phone is served.
    Nobody,
}

impl World {
    /// Before anything happens.
    pub const WELL: Self = Self { holder: Node::Primary, primary: Serving::All, backup: Serving::Off };

    /// The primary's PBX as others find it.
    pub fn primary_in(self, place: Place) -> Serving {
        if place.pbx == Process::Dead { Serving::Off } else { self.primary }
    }

    /// What is seen in this world.
    pub fn sight(self, place: Place, policies: Policies) -> Sight {
        let pbx = if self.primary_in(place) == Serving::Off { Process::Dead } else { Process::Runs };
        Sight::of(place, pbx, policies)
    }

    /// What becomes of this world when `place` lasts: every node acts on what it sees until nothing changes.
    ///
    /// The backup takes over once, and never goes back by itself. The primary's host, and with it the agent, lives
    /// on where its PBX is dead: what a dead host does is the same, since it does nothing.
    pub fn settle(self, place: Place, policies: Policies) -> Self {
        self.until_still(|world| world.agent(place, policies).robot(place, policies))
    }

    /// Every world that may come of it, where it matters who is faster. It does in one case: the primary's PBX was
    /// stopped because its agent could not read the epoch, and now both nodes reach the master again: the agent may
    /// start the PBX and be seen in time, or the backup claims before it sees it, with the PBX started or not.
    pub fn outcomes(self, place: Place, policies: Policies) -> [Self; 3] {
        let robot_first = self.until_still(|world| world.robot(place, policies).agent(place, policies));
        let at_once = self.until_still(|world| {
            let Self { primary, .. } = world.agent(place, policies);
            Self { primary, ..world.robot(place, policies) }
        });
        [self.settle(place, policies), robot_first, at_once]
    }

    fn until_still(self, step: impl Fn(Self) -> Self) -> Self {
        let mut world = self;
        loop {
            let next = step(world);
            if next == world {
                return world;
            }
            world = next;
        }
    }

    fn robot(mut self, place: Place, policies: Policies) -> Self {
        if self.holder == Node::Primary && self.sight(place, policies).takes_over(policies) {
            self.holder = Node::Backup;
            self.backup = Serving::All;
        }
        self
    }

    fn agent(mut self, place: Place, policies: Policies) -> Self {
        let Some(agent) = policies.agent else { return self };
        let give_up = |now: Serving, act| match act {
            Act::Stop => Serving::Off,
            Act::UnregisterTrunks => now.min(Serving::PhonesOnly),
            Act::Nothing => now,
        };
        self.primary = match (self.sight(place, policies).primary_master, self.holder) {
            (Seen::Answers, Node::Primary) => Serving::All,
            (Seen::Answers, Node::Backup) => give_up(self.primary, agent.step_down),
            (Seen::Silent, _) => give_up(self.primary, agent.unreadable),
        };
        self
    }

    /// Who serves phones.
    pub fn who(self, place: Place) -> Who {
        match (self.primary_in(place), self.backup) {
            (Serving::Off, Serving::Off) => Who::Nobody,
            (Serving::Off, _) => Who::Backup,
            (_, Serving::Off) => Who::Primary,
            _ => Who::Both,
        }
    }

    /// Whose REGISTER and INVITE the provider goes on hearing.
    pub fn heard(self, place: Place, policies: Policies) -> Vec<Node> {
        let sight = self.sight(place, policies);
        let mut heard = Vec::new();
        if self.primary_in(place) == Serving::All && sight.primary_provider == Seen::Answers {
            heard.push(Node::Primary);
        }
        if self.backup == Serving::All && sight.backup_provider == Seen::Answers {
            heard.push(Node::Backup);
        }
        heard
    }

    /// The oracle's reasoning, for a person who must find out which side is wrong.
    pub fn reasoning(self, place: Place, policies: Policies) -> String {
        let sight = self.sight(place, policies);
        format!(
            "cut: {}\nprimary's PBX {:?}, web server {:?}; {policies:?}\nseen: {sight:?}\nverdict {}; may take over: {}; \
             takes over: {}\nbefore: {self:?}\nafter:  {:?}",
            place.cuts,
            place.pbx,
            place.web,
            sight.belief(policies).name(),
            sight.may_take_over(policies),
            sight.takes_over(policies),
            self.settle(place, policies),
        )
    }
}

/// Each place on the way when the cuts are healed one by one in the order of `order`, beginning with the cut one.
pub fn healing(place: Place, order: &[Cut]) -> Vec<Place> {
    let mut way = vec![place];
    for cut in order {
        let last = way[way.len() - 1];
        way.push(Place { cuts: last.cuts.without(*cut), ..last });
    }
    way
}
