//! What can happen next, as a list, and how the world goes on from it.

use crate::engine::{Ask, Event, Order};
use crate::units::operator::{Command, Reply, Request};
use crate::units::{EpochSeen, Mode, Step};

use super::scene::{Says, Trouble, seconds};
use super::world::{CarriedOut, Host, Pbx, World};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Time passes until something is asked, something changes, or a step of time is over.
    Pass,
    /// The `1`st robot's `2`nd question is carried out and answered.
    Answer(usize, usize),
    /// Nobody learns of its outcome.
    Lost(usize, usize, CarriedOut),
    /// A swap reaches the zone twice; the second time later.
    Twice(usize, usize),
    /// It takes its time.
    Held(usize, usize),
    /// A reading is taken now and arrives later.
    Taken(usize, usize),
    /// A swap that was late reaches the zone.
    Lands(usize),
    /// A process ends; what was asked is not done, or on its way.
    Crash(usize, CarriedOut),
    /// A host ends.
    Reboot(usize),
    /// A process starts.
    Start(usize),
    /// A process stands still for five seconds.
    Stall(usize),
    /// The primary's host changes.
    Primary(Host),
    /// A robot's way to the Internet.
    Internet(usize, Way),
    /// A robot's way to the primary.
    Path(usize, Way),
    /// The primary's way to everything else.
    Site(Way),
    /// The zone's master.
    Master(Way),
    /// A robot's PBX.
    Pbx(usize, Pbx),
    /// A robot's disk is full, or not any more.
    Disk(usize, Way),
    /// The zone shows what stood there before, or nothing.
    ZoneFalls(Fallen),
    /// A call begins or ends.
    Call(Way),
    /// A person speaks.
    Person(usize, Says),
}

/// Open or shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Open,
    Shut,
}

/// What a zone shows that lost its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallen {
    Empty,
    OneBack,
}

/// So many swaps may be on their way at once.
const LATE_MAX: usize = 2;

impl World {
    /// Everything that can happen now.
    pub fn possible(&self, out: &mut Vec<Happening>) {
        if self.broken.is_some() {
            return;
        }
        let has = |trouble| self.left.has(trouble);
        let all_held = self.nodes.iter().flat_map(|node| &node.waiting).all(|waiting| waiting.held);
        if all_held {
            out.push(Happening::Pass);
        }
        for k in 0..self.zone.late.len() {
            out.push(Happening::Lands(k));
        }
        for n in 0..self.nodes.len() {
            self.messages(n, out);
            self.robot(n, out);
        }
        match self.primary {
            Host::Up => {
                out.extend(has(Trouble::PrimaryDies).then_some(Happening::Primary(Host::Down)));
                out.extend(has(Trouble::HalfDies).then_some(Happening::Primary(Host::WebOnly)));
            }
            Host::Down => out.push(Happening::Primary(Host::Up)),
            Host::WebOnly => {
                out.push(Happening::Primary(Host::Up));
                out.extend(has(Trouble::PrimaryDies).then_some(Happening::Primary(Host::Down)));
            }
        }
        if let Some(site) = &self.site {
            if site.cut {
                out.push(Happening::Site(Way::Open));
            } else {
                out.extend(has(Trouble::SiteCut).then_some(Happening::Site(Way::Shut)));
            }
        }
        if self.zone.answers {
            out.extend(has(Trouble::MasterDies).then_some(Happening::Master(Way::Shut)));
        } else {
            out.push(Happening::Master(Way::Open));
        }
        if has(Trouble::ZoneFalls) && self.zone.record != EpochSeen::Absent {
            out.push(Happening::ZoneFalls(Fallen::Empty));
            if self.zone.stood.len() > 1 {
                out.push(Happening::ZoneFalls(Fallen::OneBack));
            }
        }
        if self.call {
            out.push(Happening::Call(Way::Shut));
        } else {
            out.extend(has(Trouble::Call).then_some(Happening::Call(Way::Open)));
        }
    }

    fn messages(&self, n: usize, out: &mut Vec<Happening>) {
        let (loss, late) = (self.left.has(Trouble::Loss), self.left.has(Trouble::Late));
        for (i, waiting) in self.nodes[n].waiting.iter().enumerate() {
            out.push(Happening::Answer(n, i));
            let swap = matches!(&waiting.ask, Ask::Swap { .. } | Ask::Step { order: Order::Swap { .. }, .. });
            let acts = swap || matches!(&waiting.ask, Ask::Step { mode: Mode::Act, step: Step::Reload, .. });
            if loss {
                out.push(Happening::Lost(n, i, CarriedOut::No));
                if acts {
                    out.push(Happening::Lost(n, i, CarriedOut::Yes));
                }
            }
            if late && swap && self.zone.late.len() < LATE_MAX {
                out.push(Happening::Lost(n, i, CarriedOut::Later));
                out.push(Happening::Twice(n, i));
            }
            if late && !waiting.held {
                out.push(Happening::Held(n, i));
                if matches!(waiting.ask, Ask::ReadEpoch) {
                    out.push(Happening::Taken(n, i));
                }
            }
        }
    }

    fn robot(&self, n: usize, out: &mut Vec<Happening>) {
        let node = &self.nodes[n];
        let has = |trouble| self.left.has(trouble);
        if node.engine.is_none() {
            out.push(Happening::Start(n));
        } else {
            if has(Trouble::Crash) {
                out.push(Happening::Crash(n, CarriedOut::No));
                let swaps = node.waiting.iter().any(|waiting| {
                    matches!(&waiting.ask, Ask::Swap { .. } | Ask::Step { order: Order::Swap { .. }, .. })
                });
                if swaps && self.zone.late.len() < LATE_MAX {
                    out.push(Happening::Crash(n, CarriedOut::Later));
                }
            }
            out.extend(has(Trouble::Reboot).then_some(Happening::Reboot(n)));
            out.extend(has(Trouble::Stall).then_some(Happening::Stall(n)));
            if has(Trouble::Person) {
                out.extend(self.scene.says.iter().map(|says| Happening::Person(n, *says)));
            }
        }
        let mut way = |open: bool, trouble, happening: fn(usize, Way) -> Happening| {
            if open {
                out.extend(has(trouble).then(|| happening(n, Way::Shut)));
            } else {
                out.push(happening(n, Way::Open));
            }
        };
        way(node.internet, Trouble::CutOff, Happening::Internet);
        way(node.path, Trouble::PathCut, Happening::Path);
        way(!node.disk_full, Trouble::DiskFills, Happening::Disk);
        if node.pbx == Pbx::Well {
            out.extend(has(Trouble::PbxDies).then_some(Happening::Pbx(n, Pbx::WontStart)));
            out.extend(has(Trouble::PbxSticks).then_some(Happening::Pbx(n, Pbx::WontStop)));
        } else {
            out.push(Happening::Pbx(n, Pbx::Well));
        }
    }

    /// Lets it happen.
    pub fn happen(&mut self, happening: Happening) {
        self.pay(happening);
        match happening {
            Happening::Pass => self.some_time(),
            Happening::Answer(n, i) => self.answer(n, i),
            Happening::Lost(n, i, carried_out) => self.answer_unknown(n, i, carried_out),
            Happening::Twice(n, i) => {
                let ask = self.nodes[n].waiting[i].ask.clone();
                self.answer(n, i);
                if let Ask::Swap { from, to } | Ask::Step { order: Order::Swap { from, to }, .. } = ask {
                    self.zone.late.push((from, to));
                }
            }
            Happening::Held(n, i) => self.nodes[n].waiting[i].held = true,
            Happening::Taken(n, i) => {
                let read = self.read_zone(n);
                let waiting = &mut self.nodes[n].waiting[i];
                (waiting.taken, waiting.held) = (Some(read), true);
            }
            Happening::Lands(k) => {
                let (from, to) = self.zone.late.remove(k);
                self.apply(&from, &to);
            }
            Happening::Crash(n, sent) => self.crash(n, sent),
            Happening::Reboot(n) => {
                self.crash(n, CarriedOut::No);
                self.nodes[n].serving = false;
            }
            Happening::Start(n) => self.start(n),
            Happening::Stall(n) => {
                for _ in 0..5 {
                    self.pass(seconds(1));
                    (0..self.nodes.len()).filter(|other| *other != n).for_each(|other| self.tick(other));
                }
            }
            Happening::Primary(host) => self.primary_becomes(host),
            Happening::Site(way) => self.site.iter_mut().for_each(|site| site.cut = way == Way::Shut),
            Happening::Internet(n, way) => self.nodes[n].internet = way == Way::Open,
            Happening::Path(n, way) => self.nodes[n].path = way == Way::Open,
            Happening::Master(way) => self.zone.answers = way == Way::Open,
            Happening::Pbx(n, pbx) => self.nodes[n].pbx = pbx,
            Happening::Disk(n, way) => {
                self.nodes[n].disk_full = way == Way::Shut;
                if way == Way::Open {
                    self.hear(n, Event::Store(Ok(())));
                }
            }
            Happening::ZoneFalls(fallen) => {
                let stood = &self.zone.stood;
                self.zone.record = match fallen {
                    Fallen::Empty => EpochSeen::Absent,
                    Fallen::OneBack => EpochSeen::held(stood[stood.len() - 2].clone()),
                };
                // A zone that is restored takes minutes: nothing that was on its way still is.
                self.zone.late.clear();
                self.zone.fell = true;
            }
            Happening::Call(way) => self.call = way == Way::Open,
            Happening::Person(n, says) => drop(self.say(n, says)),
        }
        self.notice_beliefs();
        self.reshape();
    }

    fn pay(&mut self, happening: Happening) {
        let trouble = match happening {
            Happening::Lost(_, _, CarriedOut::No | CarriedOut::Yes) => Trouble::Loss,
            Happening::Lost(..) | Happening::Twice(..) | Happening::Held(..) | Happening::Taken(..) => Trouble::Late,
            Happening::Crash(..) => Trouble::Crash,
            Happening::Reboot(_) => Trouble::Reboot,
            Happening::Stall(_) => Trouble::Stall,
            Happening::Primary(Host::Down) => Trouble::PrimaryDies,
            Happening::Primary(Host::WebOnly) => Trouble::HalfDies,
            Happening::Internet(_, Way::Shut) => Trouble::CutOff,
            Happening::Path(_, Way::Shut) => Trouble::PathCut,
            Happening::Site(Way::Shut) => Trouble::SiteCut,
            Happening::Master(Way::Shut) => Trouble::MasterDies,
            Happening::Pbx(_, Pbx::WontStart) => Trouble::PbxDies,
            Happening::Pbx(_, Pbx::WontStop) => Trouble::PbxSticks,
            Happening::Disk(_, Way::Shut) => Trouble::DiskFills,
            Happening::ZoneFalls(_) => Trouble::ZoneFalls,
            Happening::Call(Way::Open) => Trouble::Call,
            Happening::Person(..) => Trouble::Person,
            _ => return,
        };
        self.left.spend(trouble);
    }

    pub fn primary_becomes(&mut self, host: Host) {
        let was = std::mem::replace(&mut self.primary, host);
        match (was, host) {
            (_, Host::Down) => self.site.iter_mut().for_each(super::site::Site::ends),
            (Host::Down, _) => self.site_starts(),
            _ => {}
        }
    }

    fn some_time(&mut self) {
        let before = self.look();
        for _ in 0..self.scene.pace_s {
            self.second();
            if self.nodes.iter().flat_map(|node| &node.waiting).any(|w| !w.held) || self.look() != before {
                return;
            }
        }
    }

    /// What a step of time ends at.
    fn look(&self) -> Vec<Option<(crate::units::State, crate::units::Verdict, Option<crate::units::PlanId>)>> {
        let look = |engine: &crate::engine::Engine| (engine.state(), engine.verdict(), engine.plan_id());
        self.nodes.iter().map(|node| node.engine.as_deref().map(look)).collect()
    }

    /// A person speaks; what the robot answers.
    pub fn say(&mut self, n: usize, says: Says) -> Option<Reply> {
        let takeover = |stopped, without| Command::Takeover {
            primary_is_stopped: stopped,
            although_cut_off: false,
            without_claim: without,
        };
        let failback = |wait, cut_calls, undo| Command::Failback { wait, cut_calls, undo };
        let until = self.now.wall + seconds(8);
        let command = match says {
            Says::Takeover => takeover(false, false),
            Says::TakeoverStopped => takeover(true, false),
            Says::TakeoverWithoutClaim => takeover(true, true),
            Says::Failback => failback(false, false, false),
            Says::FailbackWaiting => failback(true, false, false),
            Says::FailbackCutting => failback(false, true, false),
            Says::Undo => failback(false, false, true),
            Says::Pause => Command::Pause { until },
            Says::Unpause => Command::Unpause,
            Says::Continue => Command::Continue { fenced_by_hand: true },
            Says::Abandon => Command::Abandon { to: None },
            Says::Ack => Command::Ack,
        };
        // What a person says is witnessed before the engine acts on it, and taken back if it is refused.
        let before = self.nodes[n].witnessed;
        let witnessed = &mut self.nodes[n].witnessed;
        match says {
            Says::TakeoverWithoutClaim => witnessed.told_without_claim = true,
            Says::Failback | Says::FailbackWaiting | Says::FailbackCutting | Says::Abandon => {
                witnessed.told_to_give_up = true;
            }
            Says::Pause => witnessed.paused_until = Some(until),
            Says::Unpause => witnessed.paused_until = None,
            _ => {}
        }
        let reply = self.request(n, command);
        if !matches!(reply, Some(Reply::Accepted(_))) {
            let now = &mut self.nodes[n].witnessed;
            now.told_without_claim = before.told_without_claim;
            now.told_to_give_up = before.told_to_give_up;
            now.paused_until = before.paused_until;
        }
        reply
    }

    fn request(&mut self, n: usize, command: Command) -> Option<Reply> {
        self.nodes[n].engine.as_ref()?;
        self.reply = None;
        self.hear(n, Event::Request(Request { command, reason: "a person".into(), by: String::new() }));
        self.reply.take()
    }
}
