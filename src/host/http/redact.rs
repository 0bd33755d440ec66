//! Takes out of a foreign text whatever we sent that may be a secret.
//!
//! Servers like to echo a request in their error pages. What an administrator wrote into a template (a token in
//! a path, an API key in a header) cannot be told from harmless text, so every longer literal word is taken out;
//! the values of variables stay.

use secrecy::{ExposeSecret, SecretString};

/// What stands in place of a secret.
const MASK: &str = "[…]";

/// Literal words below this length are words of an API, not keys: `update`, `name`, `token`.
const LITERAL_CHARS_MIN: usize = 8;

/// Parts of a known secret from this length on are taken out too: an echo may be escaped, and so torn.
const SECRET_PART_CHARS_MIN: usize = 3;

/// The texts that must not be seen.
#[derive(Default)]
pub struct Redactor {
    words: Vec<SecretString>,
}

impl Redactor {
    /// Hides a secret, whole and in its parts.
    pub fn secret(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.words.push(secret.to_owned().into());
        }
        self.words.extend(words(secret, SECRET_PART_CHARS_MIN));
    }

    /// Hides the longer words of a text that the administrator wrote.
    pub fn literal(&mut self, text: &str) {
        self.words.extend(words(text, LITERAL_CHARS_MIN));
    }

    /// `text` without any of them; letter case is disregarded.
    pub fn clean(&mut self, text: &str) -> String {
        // Longest first: a part must not spoil the whole that holds it.
        self.words.sort_by_key(|word| std::cmp::Reverse(word.expose_secret().len()));
        self.words.iter().fold(text.to_owned(), |text, word| mask(&text, word.expose_secret()))
    }
}

fn words(text: &str, chars_min: usize) -> impl Iterator<Item = SecretString> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(move |word| word.chars().count() >= chars_min)
        .map(|word| SecretString::from(word.to_owned()))
}

fn mask(text: &str, word: &str) -> String {
    // ASCII folding keeps every byte's place, so that the find is valid in the original.
    let (low_text, low_word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = low_text[from..].find(&low_word) {
        masked.push_str(&text[from..from + at]);
        masked.push_str(MASK);
        from += at + low_word.len();
    }
    masked.push_str(&text[from..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_out_whole_torn_and_in_other_case() {
        let mut redactor = Redactor::default();
        redactor.secret("Horse\"battery;x");
        assert_eq!(redactor.clean(r#"no: Horse"battery;x"#), "no: […]");
        assert_eq!(redactor.clean(r#"no: HORSE\"battery"#), r#"no: […]\"[…]"#);
        assert_eq!(redactor.clean("zone unknown"), "zone unknown");
    }

    #[test]
    fn long_words_of_a_template_are_taken_out_and_short_ones_stay() {
        let mut redactor = Redactor::default();
        redactor.literal("https://h.example/hook/T0KENT0KEN/send?name=");
        assert_eq!(redactor.clean("no hook /hook/t0kent0ken/send"), "no hook /hook/[…]/send");
    }
}
