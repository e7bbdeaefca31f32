//! PEM text on the command line: a file, standard input, or the text itself as ngrok's flags take it.
//!
//! Must never: print what it read.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use portcullis_model::{Code, Error};

use crate::defaults;
use crate::failure::Failure;

/// Where PEM text comes from.
#[derive(Clone)]
pub(crate) struct Pem(String);

impl FromStr for Pem {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Without a text, which may be a private key.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_text() {
            true => f.write_str("PEM"),
            false => f.write_str(&self.0),
        }
    }
}

impl Pem {
    fn is_text(&self) -> bool {
        self.0.contains("-----BEGIN")
    }

    /// Whether it is read from standard input, which can be read once.
    pub(crate) fn is_stdin(&self) -> bool {
        self.0 == "-"
    }

    /// The text.
    pub(crate) fn read(self) -> Result<String, Failure> {
        if self.is_text() {
            return Ok(self.0);
        }
        let unreadable = |cause: &dyn std::fmt::Display| {
            let text = format!("{}: {cause}", self.0);
            Failure::Known(Error::new(Code::ConfigUnreadable, text))
        };
        let most = defaults::PEM_FILE_BYTES_MAX;
        let mut text = String::new();
        let read = if self.is_stdin() {
            std::io::stdin()
                .lock()
                .take(most + 1)
                .read_to_string(&mut text)
        } else {
            let file =
                std::fs::File::open(Path::new(&self.0)).map_err(|cause| unreadable(&cause))?;
            file.take(most + 1).read_to_string(&mut text)
        };
        let bytes = read.map_err(|cause| unreadable(&cause))?;
        if u64::try_from(bytes).is_ok_and(|bytes| bytes > most) {
            return Err(unreadable(&format!("larger than {most} bytes")));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_as_it_is_and_everything_else_is_a_file() {
        let text = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let given: Pem = text.parse().unwrap();
        assert!(!format!("{given:?}").contains("AAAA"));
        assert_eq!(given.read().unwrap(), text);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, text).unwrap();
        let given: Pem = path.display().to_string().parse().unwrap();
        assert_eq!(given.read().unwrap(), text);
        std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
        let large: Pem = path.display().to_string().parse().unwrap();
        assert!(large.read().is_err());
        let none: Pem = dir
            .path()
            .join("none")
            .display()
            .to_string()
            .parse()
            .unwrap();
        assert!(none.read().is_err());
    }
}
