//! Secrets of CHAP: read from the standard input, never from the command line, where others could see them.

use crate::args::Chap;
use api::{ErrorClass, Problem, Secret, SetChap, SetMutual};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, StdinLock, Write};

/// Longest line that is read of a secret, bytes: more than a secret may have, so that the daemon can say so.
const LINE_BYTES_MAX: u64 = 1024;

/// The request that the options and the standard input make.
pub(crate) fn read(options: &Chap) -> Result<SetChap, Problem> {
    let mut input = Input::new();
    let secret = input.secret("Secret of the host (12 to 255 characters; Windows: 12 to 16): ")?;
    let mutual = match options.mutual {
        true => {
            let secret = input.secret("Secret of this group, another one: ")?;
            Some(SetMutual { user: options.mutual_user.clone(), secret })
        }
        false => None,
    };
    Ok(SetChap { user: options.user.clone(), secret, mutual })
}

/// What is demanded, for people.
pub(crate) fn shown(chap: Option<&api::Chap>) -> String {
    let Some(chap) = chap else { return "not demanded".to_owned() };
    let user = chap.user.as_deref().map_or("the initiator's own name".to_owned(), ToOwned::to_owned);
    match &chap.mutual_user {
        Some(own) => format!("user {user}, mutual as {own}"),
        None => format!("user {user}"),
    }
}

/// The standard input, on a terminal without an echo.
pub(crate) struct Input {
    lines: StdinLock<'static>,
    before: Option<Termios>,
}

impl Input {
    pub(crate) fn new() -> Self {
        let lines = std::io::stdin().lock();
        let before = lines.is_terminal().then(|| tcgetattr(&lines).ok()).flatten();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            silent.local_modes.insert(LocalModes::ECHONL);
            // With an echo it still works.
            let _ = tcsetattr(&lines, OptionalActions::Flush, &silent);
        }
        Self { lines, before }
    }

    /// A person types.
    pub(crate) fn is_terminal(&self) -> bool {
        self.before.is_some()
    }

    /// The next line, without its end.
    pub(crate) fn secret(&mut self, prompt: &str) -> Result<Secret, Problem> {
        if self.before.is_some() {
            let _ = write!(std::io::stderr(), "{prompt}");
        }
        let fail = |message: &str| Problem::new(ErrorClass::Usage, "standard input", message);
        let mut line = Secret(String::new());
        let mut limited = std::io::Read::take(&mut self.lines, LINE_BYTES_MAX);
        let read = limited.read_line(&mut line.0).map_err(|_| fail("it is no text"))?;
        if read == 0 {
            return Err(fail("a secret was to come, one a line, and nothing did"));
        }
        let length = line.0.trim_end_matches(['\r', '\n']).len();
        line.0.truncate(length);
        Ok(line)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.lines, OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_demanded_is_shown_without_a_secret() {
        assert_eq!(shown(None), "not demanded");
        let mut chap = api::Chap { user: None, mutual: false, mutual_user: None };
        assert_eq!(shown(Some(&chap)), "user the initiator's own name");
        (chap.user, chap.mutual_user) = (Some("u".to_owned()), Some("palisade".to_owned()));
        assert_eq!(shown(Some(&chap)), "user u, mutual as palisade");
    }
}
