//! Reads what a status command prints: `{"serving": true, "registrations": 12, "calls": 0, "trunks": [{"name":
//! "carrier", "state": "up", "sip_code": 200}]}`.
//!
//! Every field may be missing: what a PBX does not tell is unknown, never zero.

use serde::Deserialize;

use crate::units::{PbxStatus, Serving, TrunkState, TrunkStatus};

/// More trunks than this are not shown: a page for people has to end.
pub const TRUNKS_MAX: usize = 1000;

/// What the advice for every fault of the output is.
const ADVICE: &str = r#"print {"serving": true or false, "registrations": N, "calls": N, "trunks": [{"name", "state", "sip_code"}]} and nothing else"#;

#[derive(Deserialize)]
struct Report {
    serving: Option<bool>,
    registrations: Option<u32>,
    calls: Option<u32>,
    #[serde(default)]
    trunks: Vec<TrunkReport>,
}

#[derive(Deserialize)]
struct TrunkReport {
    name: String,
    #[serde(default)]
    state: String,
    sip_code: Option<u16>,
}

/// The status in a command's output. Output that is no report makes `serving` unknown, with advice.
pub fn read(output: &str) -> PbxStatus {
    let report: Report = match serde_json::from_str(output.trim()) {
        Ok(report) => report,
        Err(error) => {
            let why = format!("pbx.driver.command.status: not the expected JSON ({error}); {ADVICE}");
            return PbxStatus::serving(Serving::Unknown(why));
        }
    };
    PbxStatus {
        serving: match report.serving {
            Some(true) => Serving::Yes,
            Some(false) => Serving::No,
            None => Serving::Unknown(format!("pbx.driver.command.status: no \"serving\" in it; {ADVICE}")),
        },
        registrations: report.registrations,
        calls: report.calls,
        trunks: report.trunks.into_iter().take(TRUNKS_MAX).map(TrunkReport::status).collect(),
        trouble: None,
        failed: false,
    }
}

impl TrunkReport {
    fn status(self) -> TrunkStatus {
        let state = match self.state.as_str() {
            "up" => TrunkState::Up,
            "trying" => TrunkState::Trying,
            "rejected" => TrunkState::Rejected,
            "down" => TrunkState::Down,
            _ => TrunkState::Unknown,
        };
        TrunkStatus::new(self.name, state, self.sip_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_report_is_read_and_other_fields_are_passed_over() {
        let status = read(
            r#"{"serving": true, "registrations": 12, "calls": 3, "uptime": 7,
                "trunks": [{"name": "carrier", "state": "rejected", "sip_code": 403}, {"name": "b", "state": "odd"}]}"#,
        );
        assert_eq!(status.serving, Serving::Yes);
        assert_eq!((status.registrations, status.calls), (Some(12), Some(3)));
        let carrier = TrunkStatus::new("carrier", TrunkState::Rejected, Some(403));
        assert_eq!(status.trunks[0], carrier);
        assert_eq!(status.trunks[1].state, TrunkState::Unknown);
    }

    #[test]
    fn what_is_not_told_is_unknown_and_never_zero() {
        let status = read(r#"{"serving": false}"#);
        assert_eq!(status, PbxStatus::serving(Serving::No));
        assert_eq!((status.registrations, status.calls), (None, None));
        assert!(matches!(read("{}").serving, Serving::Unknown(_)));
    }

    #[test]
    fn output_that_is_no_report_is_unknown_with_advice() {
        for output in ["", "active\n", "[]", r#"{"serving": "yes"}"#, r#"{"serving": true, "calls": -1}"#, "{\"ser"] {
            let Serving::Unknown(why) = read(output).serving else { panic!("{output} was believed") };
            assert!(why.contains("print {\"serving\""), "{why}");
        }
    }
}
