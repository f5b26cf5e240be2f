//! The master key and its text form, the key file.
//!
//! A key file is text: lines that start with `#` are comments, and one line holds
//! `coatroom-key-1:` and 32 bytes in base64url without padding (RFC 4648 §5). This file draws the
//! bytes of a new key from the operating system (the one place of the core where randomness is not
//! an argument: key generation stays with the cryptography). It never shows a key but in
//! [`MasterKey::to_text`], and no error quotes what was read.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// 32 unpredictable bytes, from which every sub-key is derived. No `Debug`, zeroed when dropped.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// What is wrong with a key file or a list of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text holds no key.
    #[error("the key file holds no key; expected one line `coatroom-key-1:…`")]
    Missing,
    /// The text holds more than one line that is neither empty nor a comment.
    #[error("the key file holds more than one line beside comments; expected one key to a file")]
    Several,
    /// The line is not a key, or one of a later format.
    #[error("the key file's line does not start with `coatroom-key-1:`")]
    UnknownFormat,
    /// What follows the prefix is not 32 bytes of base64url.
    #[error("the key is malformed; expected 43 base64url characters after `coatroom-key-1:`")]
    Malformed,
    /// What follows a proxy key's prefix is not 66 bytes of base64url.
    #[error("the proxy key is malformed; expected 88 base64url characters after `coatroom-proxy-key-1:`")]
    MalformedProxy,
    /// A key ring without keys.
    #[error("`keys` is empty; expected at least one key")]
    NoKeys,
    /// The same key twice, by its positions from 1.
    #[error("`keys`: number {second} is the same key as number {first}")]
    Duplicate {
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// The operating system has no random bytes.
    #[error("the operating system's random generator failed")]
    Random,
}

impl MasterKey {
    /// A new key from the operating system's generator.
    ///
    /// # Errors
    /// [`KeyError::Random`] when that generator fails; there is no fall-back.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| KeyError::Random)?;
        Ok(Self(bytes))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::Several`], [`KeyError::UnknownFormat`] or
    /// [`KeyError::Malformed`]; none of them carries any of the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let encoded = only_line(text)?
            .strip_prefix(PREFIX)
            .ok_or(KeyError::UnknownFormat)?;
        if encoded.len() != ENCODED_LEN {
            return Err(KeyError::Malformed);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        match URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut_slice()) {
            Ok(32) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(KeyError::Malformed),
        }
    }

    /// The key file's text, ending with a line feed. Whoever has it can open and forge every
    /// session.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Sized in advance: growing would leave copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(
            COMMENT.len() + PREFIX.len() + ENCODED_LEN + 1,
        ));
        text.push_str(COMMENT);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.as_slice(), &mut text);
        text.push('\n');
        text
    }

    /// The key itself, for key derivation.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The line of a key file that holds the key.
pub(super) fn only_line(text: &str) -> Result<&str, KeyError> {
    // Editors of one system put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(KeyError::Missing)?;
    match lines.next() {
        None => Ok(line),
        Some(_) => Err(KeyError::Several),
    }
}

const COMMENT: &str = "# coatroom's key: seals every session; keep it secret, and a copy of it safe\n";
const PREFIX: &str = "coatroom-key-1:";

/// 32 bytes in base64url without padding.
const ENCODED_LEN: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "coatroom-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_key_survives_its_text_form() {
        let key = MasterKey::generate().expect("the system has random bytes");
        let again = MasterKey::parse(&key.to_text()).expect("our own text");
        assert_eq!(key.bytes(), again.bytes());
        assert!(key.to_text().starts_with("# "));
        assert!(key.to_text().ends_with('\n'));
        assert_eq!(key.to_text().lines().count(), 2);
    }

    #[test]
    fn two_generated_keys_differ() {
        let [one, two] = [MasterKey::generate(), MasterKey::generate()].map(|key| key.expect("random bytes"));
        assert_ne!(one.bytes(), two.bytes());
    }

    #[test]
    fn the_text_form_tolerates_comments_blank_lines_and_editors() {
        for text in [
            format!("# made on a Monday\n\n{ZEROS}\n# end\n"),
            format!("  {ZEROS}  "),
            format!("\u{feff}# a comment\r\n{ZEROS}\r\n"),
        ] {
            assert_eq!(MasterKey::parse(&text).map(|key| *key.bytes()), Ok([0; 32]));
        }
    }

    #[test]
    fn every_other_text_is_refused_without_being_quoted() {
        struct Case {
            name: &'static str,
            text: String,
            error: KeyError,
        }
        let case = |name, text: &str, error| Case {
            name,
            text: text.to_owned(),
            error,
        };
        let short = &ZEROS[..ZEROS.len() - 1];
        let head = &ZEROS[..ZEROS.len() - 1];
        for Case { name, text, error } in [
            case("nothing", "", KeyError::Missing),
            case("comments only", "# a\n#b\n\n", KeyError::Missing),
            case("two keys", &format!("{ZEROS}\n{ZEROS}\n"), KeyError::Several),
            case(
                "a key and garbage",
                &format!("{ZEROS}\nsecret\n"),
                KeyError::Several,
            ),
            case(
                "no prefix",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                KeyError::UnknownFormat,
            ),
            case("a later format", "coatroom-key-2:AAAA", KeyError::UnknownFormat),
            case("upper case", &ZEROS.to_uppercase(), KeyError::UnknownFormat),
            case("too short", short, KeyError::Malformed),
            case("too long", &format!("{ZEROS}A"), KeyError::Malformed),
            case("padded", &format!("{ZEROS}="), KeyError::Malformed),
            case("trailing bits", &format!("{head}B"), KeyError::Malformed),
            case("standard alphabet", &format!("{head}+"), KeyError::Malformed),
            case(
                "two spaces inside",
                &format!("{}  A", &ZEROS[..ZEROS.len() - 3]),
                KeyError::Malformed,
            ),
            case(
                "not ascii",
                &format!("{}\u{e9}", &ZEROS[..ZEROS.len() - 2]),
                KeyError::Malformed,
            ),
        ] {
            let got = MasterKey::parse(&text).map(drop);
            assert_eq!(got, Err(error), "{name}");
            let message = error.to_string();
            assert!(!message.contains("AAAA") && !message.contains("secret"), "{name}");
            assert!(!message.ends_with('.'), "{name}");
        }
    }
}
