//! Reads Rust source as far as the rules need it: without comments and strings, and as the paths that it names.
//!
//! Not a parser: it knows comments, literals, braces, modules and use-trees, and errs towards seeing too many paths.

/// A file of the repository.
pub struct Source {
    /// Its path from the repository's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// A file that a test makes up.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Whether it is Rust source of the product (not of the tests).
    pub fn is_product(&self) -> bool {
        self.path.starts_with("src/") && self.is_rust()
    }

    /// Whether it is Rust source.
    pub fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Whether it is a page for people.
    pub fn is_page(&self) -> bool {
        self.has_extension("md")
    }

    fn has_extension(&self, extension: &str) -> bool {
        std::path::Path::new(&self.path).extension().is_some_and(|e| e == extension)
    }

    /// Its module path: `src/adapters/dns/wire.rs` is `adapters`, `dns`, `wire`; `src/main.rs` is `main`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        if inner == "lib" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
    }

    /// Every path of two or more segments that the code names, resolved to `crate …` or to a foreign crate.
    pub fn paths(&self) -> Vec<NamedPath> {
        Walker::new(&mask(&self.text), self.module()).walk()
    }
}

/// A path as the code names it, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPath {
    /// The line, from 1.
    pub line: usize,
    /// `crate`, `units`, `Verdict`; or `std`, `net`, `TcpStream`.
    pub segments: Vec<String>,
}

impl NamedPath {
    /// As it would be written.
    pub fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// The code with comments and the insides of literals blanked; lines stay where they are.
pub fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal ends that begins at `at`; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == '/' => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        '/' if next(1) == '*' => block_comment_end(chars, at),
        '"' => quoted_end(chars, at),
        'r' if !after_word && (next(1) == '"' || next(1) == '#') => raw_end(chars, at, at + 1),
        'b' if !after_word && next(1) == 'r' && (next(2) == '"' || next(2) == '#') => raw_end(chars, at, at + 2),
        '\'' if next(1) == '\\' => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `hashes` is where the `#` of a raw string begin; a raw identifier (`r#type`) ends at once.
fn raw_end(chars: &[char], at: usize, hashes: usize) -> usize {
    let count = chars[hashes..].iter().take_while(|c| **c == '#').count();
    let open = hashes + count;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let closes = |i: &usize| chars[*i] == '"' && (1..=count).all(|n| chars.get(i + n) == Some(&'#'));
    (open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + count)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

fn tokens(masked: &str) -> Vec<(usize, Token)> {
    let mut found = Vec::new();
    for (number, line) in masked.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (token, length) = if word > 0 {
                (Some(Token::Word(rest[..word].to_owned())), word)
            } else if rest.starts_with("::") {
                (Some(Token::Colons), 2)
            } else {
                ((!first.is_whitespace()).then_some(Token::Mark(first)), first.len_utf8())
            };
            found.extend(token.map(|token| (number + 1, token)));
            rest = &rest[length..];
        }
    }
    found
}

struct Walker {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// The module that the code at `at` lies in, with the brace depth at which each inline module opened.
    module: Vec<String>,
    inline: Vec<usize>,
    depth: usize,
    found: Vec<NamedPath>,
}

impl Walker {
    fn new(masked: &str, module: Vec<String>) -> Self {
        Self { tokens: tokens(masked), at: 0, module, inline: Vec::new(), depth: 0, found: Vec::new() }
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn word(&self, ahead: usize) -> Option<String> {
        match self.peek(ahead) {
            Some(Token::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn walk(mut self) -> Vec<NamedPath> {
        while let Some(token) = self.peek(0).cloned() {
            match token {
                Token::Word(word) if word == "mod" && self.peek(2) == Some(&Token::Mark('{')) => {
                    self.module.extend(self.word(1));
                    self.inline.push(self.depth);
                    self.at += 2;
                }
                Token::Mark('{') => (self.depth, self.at) = (self.depth + 1, self.at + 1),
                Token::Mark('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                        self.module.pop();
                    }
                    self.at += 1;
                }
                Token::Word(_) if self.peek(1) == Some(&Token::Colons) => self.tree(&[]),
                Token::Word(_) | Token::Colons | Token::Mark(_) => self.at += 1,
            }
        }
        self.found
    }

    /// Reads one path or use-tree below `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let line = self.tokens[self.at].0;
        let mut segments = prefix.to_vec();
        while let Some(word) = self.word(0) {
            if word != "self" || prefix.is_empty() {
                segments.push(word);
            }
            self.at += 1;
            if self.peek(0) != Some(&Token::Colons) {
                break;
            }
            self.at += 1;
        }
        if self.peek(0) != Some(&Token::Mark('{')) || self.tokens[self.at - 1].1 != Token::Colons {
            self.at += usize::from(self.peek(0) == Some(&Token::Mark('*')));
            let segments = self.resolve(segments);
            self.found.extend((segments.len() > 1).then_some(NamedPath { line, segments }));
            return;
        }
        self.at += 1;
        while let Some(token) = self.peek(0).cloned() {
            match token {
                Token::Mark('}') => {
                    self.at += 1;
                    return;
                }
                Token::Word(word) if word == "as" => self.at += 2,
                Token::Word(_) => self.tree(&segments),
                Token::Mark('*') => {
                    let (line, segments) = (self.tokens[self.at].0, self.resolve(segments.clone()));
                    self.found.push(NamedPath { line, segments });
                    self.at += 1;
                }
                Token::Colons | Token::Mark(_) => self.at += 1,
            }
        }
    }

    /// Makes `self::`, `super::` and the library's own name start at `crate`.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let from_crate = |module: &[String], rest: &[String]| {
            std::iter::once("crate".to_owned()).chain(module.iter().cloned()).chain(rest.iter().cloned()).collect()
        };
        match segments.first().map(String::as_str) {
            Some("pbx_failover") => from_crate(&[], &segments[1..]),
            Some("self") => from_crate(&self.module, &segments[1..]),
            Some("super") => {
                let up = segments.iter().take_while(|s| *s == "super").count();
                from_crate(&self.module[..self.module.len().saturating_sub(up)], &segments[up..])
            }
            _ => segments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Vec<String> {
        Source::new(path, text).paths().iter().map(NamedPath::text).collect()
    }

    #[test]
    fn a_use_tree_is_opened_to_its_leaves() {
        let text = "use crate::{units::{self, Verdict as V}, ports::*};\nuse std::{fs, net::TcpStream};";
        let want = ["crate::units", "crate::units::Verdict", "crate::ports", "std::fs", "std::net::TcpStream"];
        assert_eq!(named("src/a.rs", text), want);
    }

    #[test]
    fn super_and_self_start_at_the_crate_also_in_inline_modules() {
        let text = "use super::x::Y;\nmod tests { use super::*; use super::super::z::Q; }\nuse self::w::W;";
        assert_eq!(named("src/a/b.rs", text), ["crate::a::x::Y", "crate::a::b", "crate::a::z::Q", "crate::a::b::w::W"]);
        assert_eq!(named("src/a/mod.rs", "use super::c::D;"), ["crate::c::D"]);
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = "// crate::a::B\n/* std::fs /* x */ std::net */ let a = \"std::fs::read\"; \
                    let b = r#\"a\"std::net::X\"#; let c: &'static str = 'x'; let d = '\\''; crate::e::F";
        assert_eq!(named("src/a.rs", text), ["crate::e::F"]);
    }

    #[test]
    fn a_path_in_an_expression_is_seen_with_its_line() {
        let found = Source::new("src/a.rs", "fn f() {\n    let x = std::fs::read(p);\n}").paths();
        assert_eq!(found[0], NamedPath { line: 2, segments: vec!["std".into(), "fs".into(), "read".into()] });
    }
}
