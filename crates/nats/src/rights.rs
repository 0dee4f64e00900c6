//! Whether a key opens what its role may do, and nothing else: each right is tried, in a way that changes nothing.
//!
//! What is published for that is empty and goes where nobody listens, or where what can't be read is ignored.

use crate::control::{Control, ControlError};
use crate::limits::{CONTROL_WAIT, REFUSAL_WAIT};
use crate::streams::JOIN;
use std::fmt;

/// Something that a role may or may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What.
    pub act: Act,
    /// Where.
    pub subject: String,
    /// Whether the role should have it.
    pub is_due: bool,
    /// Whether it has.
    pub is_had: bool,
}

/// What is done with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Something is said there.
    Publish,
    /// It is listened to.
    Subscribe,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = match self.act {
            Act::Publish => "publish to",
            Act::Subscribe => "subscribe to",
        };
        write!(f, "{act} `{}`", self.subject)
    }
}

impl Right {
    fn new(act: Act, subject: impl Into<String>, is_due: bool) -> Right {
        Right {
            act,
            subject: subject.into(),
            is_due,
            is_had: true,
        }
    }

    /// As the server words it.
    fn is_refused_by(&self, refusal: &str) -> bool {
        let act = match self.act {
            Act::Publish => "Publish to",
            Act::Subscribe => "Subscription to",
        };
        refusal.contains(&format!("{act} \"{}\"", self.subject))
    }
}

/// What only drivers may do. Even where it is not refused nothing comes of it: there is no such worker and no such stream.
const DRIVERS_ONLY: [(Act, &str); 3] = [
    (Act::Publish, "tw.ctl.w.none"),
    (Act::Publish, "$JS.API.STREAM.DELETE.none"),
    (Act::Subscribe, "tw.report.none"),
];

impl Control {
    /// Tries each right of this process's role, and some that it must not have. For a driver there is nothing to try: it may do
    /// everything in its account.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn try_rights(&self) -> Result<Vec<Right>, ControlError> {
        let Some(_) = self.role().permissions() else {
            return Ok(Vec::new());
        };
        let sent = self.role().sent().iter().filter(|subject| **subject != JOIN);
        let sent = sent.map(|subject| Right::new(Act::Publish, concrete(subject), true));
        let heard = self.role().shown().iter();
        let heard = heard.map(|subject| Right::new(Act::Subscribe, *subject, true));
        let not_due = DRIVERS_ONLY.map(|(act, subject)| Right::new(act, subject, false));
        let mut rights: Vec<Right> = sent.chain(heard).chain(not_due).collect();
        let refusals = &self.stores().link.refusals;
        refusals.look_for(true);
        let tried = self.within(CONTROL_WAIT, self.try_all(&mut rights));
        refusals.look_for(false);
        tried.map(|()| rights)
    }

    async fn try_all(&self, rights: &mut [Right]) -> Result<(), ControlError> {
        let link = &self.stores().link;
        let mut listeners = Vec::new();
        for right in rights.iter() {
            match right.act {
                Act::Publish => {
                    let published = link.client.publish(right.subject.clone(), "".into());
                    published.await.map_err(|_| ControlError::Silent)?;
                }
                Act::Subscribe => {
                    let listener = link.client.subscribe(right.subject.clone()).await;
                    listeners.push(listener.map_err(|_| ControlError::Silent)?);
                }
            }
        }
        // The server has seen all of it then, and said what it refuses before it answered.
        link.round_trip().await.map_err(|_| ControlError::Silent)?;
        let is_refused = |right: &Right, heard: &[String]| heard.iter().any(|text| right.is_refused_by(text));
        let not_due: Vec<Right> = rights.iter().filter(|right| !right.is_due).cloned().collect();
        let heard = link.refusals.until(REFUSAL_WAIT, |heard| {
            not_due.iter().all(|right| is_refused(right, heard))
        });
        let heard = heard.await;
        for right in rights {
            right.is_had = !is_refused(right, &heard);
        }
        Ok(())
    }
}

/// A subject that the pattern covers, and nobody has to do with.
fn concrete(pattern: &str) -> String {
    let token = |token: &str| match token {
        "*" => "none".to_owned(),
        // Two, for drivers listen to requests of one.
        ">" => "none.none".to_owned(),
        token => token.to_owned(),
    };
    pattern.split('.').map(token).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_subjects_without_wildcards() {
        assert_eq!(concrete("tw.request.>"), "tw.request.none.none");
        assert_eq!(
            concrete("$JS.ACK.*.*.TW_TASKS.>"),
            "$JS.ACK.none.none.TW_TASKS.none.none"
        );
        assert_eq!(concrete("tw.join"), "tw.join");
    }

    #[test]
    fn a_refusal_names_the_act_and_the_subject() {
        let right = Right::new(Act::Publish, "tw.ctl.w.none", false);
        assert!(right.is_refused_by("Permissions Violation for Publish to \"tw.ctl.w.none\""));
        assert!(!right.is_refused_by("Permissions Violation for Subscription to \"tw.ctl.w.none\""));
        assert!(!right.is_refused_by("Permissions Violation for Publish to \"tw.ctl.w.none2\""));
    }
}
