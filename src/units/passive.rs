//! What shows that a PBX which should be passive is not: four signs, each seen, clear or not known.
//!
//! A driver looks ([`crate::ports::Pbx::look_passive`]); what follows is the engine's to decide.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One way in which a PBX can be less passive than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// Something answers at its SIP port, and takes no registration.
    Answers,
    /// It takes registrations: phones that find it are served here.
    AcceptsRegister,
    /// A trunk is registered: its provider may send calls here.
    TrunkUp,
    /// It holds a file of the working directory open, and works on with it while the sync replaces it.
    OpenFile,
}

impl Sign {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::AcceptsRegister => "accepts-register",
            Self::TrunkUp => "trunk-up",
            Self::OpenFile => "open-file",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of looking for one sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is not there.
    Clear,
    /// It is there: what was seen, in one line.
    Seen(String),
    /// It could not be looked for: why, and what would let it. Neither there nor gone.
    Unknown(String),
}

/// What this node's marker says that its PBX is meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// Not to serve.
    Passive,
    /// To serve: a takeover has started it.
    Serving,
}

/// One look at all signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassiveLook {
    /// Each sign that this driver can look for.
    pub looks: BTreeMap<Sign, Look>,
    /// What a person should do about what was seen, in one line.
    pub todo: String,
    /// What its marker says; for `check`, which does not know where the robot stands.
    pub meant: Meant,
}

impl PassiveLook {
    /// What was seen, in the order of the signs.
    pub fn seen(&self) -> impl Iterator<Item = (Sign, &str)> {
        self.looks.iter().filter_map(|(sign, look)| match look {
            Look::Seen(what) => Some((*sign, what.as_str())),
            Look::Clear | Look::Unknown(_) => None,
        })
    }

    /// What could not be looked for, and why.
    pub fn unknown(&self) -> impl Iterator<Item = (Sign, &str)> {
        self.looks.iter().filter_map(|(sign, look)| match look {
            Look::Unknown(why) => Some((*sign, why.as_str())),
            Look::Clear | Look::Seen(_) => None,
        })
    }
}
