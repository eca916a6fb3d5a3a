//! The code of a Rust file: the paths that it names, and the modules that it declares. Comments, literals and tests are
//! left out.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Names from the crate's root on.
pub type Path = Vec<String>;

/// Names in a file's code, apart from the items that are there for tests alone.
#[derive(Debug, Default)]
pub struct Code {
    /// Paths that begin with `crate`, `super` or `self`, from the root on, each with its line.
    pub paths: Vec<(usize, Path)>,
    /// Names that the file's module has by `use`, each with its path from the root on. A path that begins with
    /// another crate stands here as if it began in the module.
    pub uses: Vec<(String, Path)>,
    /// Modules that have a file of their own.
    pub modules: Vec<String>,
    /// The same, of those that are there for tests alone.
    pub test_modules: Vec<String>,
}

impl Code {
    /// Reads the file of a module.
    pub fn of(text: &str, module: &[String]) -> Result<Self> {
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
        let mut code = Self::default();
        code.walk(tokens, module, true);
        Ok(code)
    }

    /// Reads tokens of a module; `is_file`: of the file's own, not of one within it.
    fn walk(&mut self, tokens: TokenStream, module: &[String], is_file: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Punct(punct)
                    if punct.as_char() == '#' && is_cfg_test(tokens.get(at)) =>
                {
                    let end = at + item_len(&tokens[at..]);
                    self.test_modules.extend(declared(&tokens[at..end]));
                    at = end;
                }
                TokenTree::Group(group) => self.walk(group.stream(), module, is_file),
                TokenTree::Ident(word) if word == "mod" => match tokens.get(at + 1) {
                    Some(TokenTree::Group(body)) => {
                        let inner = [module, &[tokens[at].to_string()]].concat();
                        self.walk(body.stream(), &inner, false);
                        at += 2;
                    }
                    _ => self.modules.extend(declared(&tokens[at - 1..])),
                },
                TokenTree::Ident(word) if word == "use" => {
                    let mut leaves = Vec::new();
                    at += read_path(&tokens[at..], &[], &mut leaves);
                    for leaf in leaves {
                        let Some(path) = from_root(&leaf.names, module) else {
                            continue;
                        };
                        if ["crate", "super", "self"].contains(&&*leaf.names[0]) {
                            self.paths.push((leaf.line, path.clone()));
                        }
                        if is_file {
                            self.uses.push((leaf.name, path));
                        }
                    }
                }
                TokenTree::Ident(word) if word == "crate" || word == "super" || word == "self" => {
                    let mut leaves = Vec::new();
                    at += read_path(&tokens[at - 1..], &[], &mut leaves) - 1;
                    let paths = leaves.into_iter();
                    self.paths.extend(
                        paths.filter_map(|leaf| Some((leaf.line, from_root(&leaf.names, module)?))),
                    );
                }
                _ => {}
            }
        }
    }
}

/// One path of a `use`, or of other code.
struct Leaf {
    line: usize,
    /// As it is written, without a `self` at its end.
    names: Path,
    /// Its name in the module.
    name: String,
}

/// Reads the path at the beginning, with all its branches. Returns how many tokens it has.
fn read_path(tokens: &[TokenTree], before: &[String], leaves: &mut Vec<Leaf>) -> usize {
    let mut names = before.to_vec();
    let mut line = 0;
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in branches.split(|token| is_punct(token, ',')) {
                    read_path(branch, &names, leaves);
                }
                return at + 1;
            }
            Some(token @ TokenTree::Ident(word)) => {
                line = token.span().start().line;
                if word != "self" || names.is_empty() {
                    names.push(word.to_string());
                }
                at += 1;
            }
            Some(token) if is_punct(token, '*') => {
                names.push("*".to_owned());
                at += 1;
            }
            _ if at == 0 => return 0,
            _ => break,
        }
        let goes_on = tokens.get(at..at + 2);
        if goes_on.is_none_or(|colons| !colons.iter().all(|colon| is_punct(colon, ':'))) {
            break;
        }
        at += 2;
    }
    let mut name = names.last().cloned().unwrap_or_default();
    if let Some([TokenTree::Ident(word), TokenTree::Ident(other)]) = tokens.get(at..at + 2)
        && word == "as"
    {
        name = other.to_string();
        at += 2;
    }
    leaves.push(Leaf { line, names, name });
    at
}

/// The path from the crate's root on. `None`: it leads nowhere, as a `self` alone does.
fn from_root(names: &[String], module: &[String]) -> Option<Path> {
    let first = names.first()?;
    let supers = names.iter().take_while(|name| *name == "super").count();
    let (base, rest) = match first.as_str() {
        "crate" => (&module[..0], &names[1..]),
        "self" => (module, &names[1..]),
        "super" => (
            &module[..module.len().saturating_sub(supers)],
            &names[supers..],
        ),
        _ => (module, names),
    };
    (!rest.is_empty()).then(|| [base, rest].concat())
}

/// The modules that tokens of one level declare, and that have a file of their own.
fn declared(tokens: &[TokenTree]) -> Option<String> {
    tokens.windows(3).find_map(|three| match three {
        [TokenTree::Ident(word), TokenTree::Ident(name), end]
            if word == "mod" && is_punct(end, ';') =>
        {
            Some(name.to_string())
        }
        _ => None,
    })
}

/// Tokens of the item at the beginning: up to its semicolon, or its braces.
fn item_len(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';'),
    };
    let len = tokens
        .iter()
        .position(is_end)
        .map_or(tokens.len(), |at| at + 1);
    len + usize::from(tokens.get(len).is_some_and(|token| is_punct(token, ';')))
}

fn is_cfg_test(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a file this many modules below the root: `0`, `1`...
    fn code(text: &str, depth: usize) -> Code {
        let module: Path = (0..depth).map(|at| at.to_string()).collect();
        Code::of(text, &module).unwrap()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = r##"//! crate::z
a("crate::x", '"', '\'', r#"crate::"y"#, b"\"z") // crate::w
/* crate::v /* u */ */ fn b<'a>(c: &'a str) -> char { 'd' }
let attr = br"crate::q"; crate::e;"##;
        let code = code(text, 0);
        assert_eq!(code.paths, [(4, vec!["e".to_owned()])]);
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use a;\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\n#[allow(x)]\nmod more {\n    fn c() { crate::d[0]; }\n}\nfn e() { crate::f }\n\
            #[cfg(test)]\npub mod writer;\nmod real;\n";
        let code = code(text, 0);
        assert_eq!(code.test_modules, ["tests", "writer"]);
        assert_eq!(code.modules, ["real"]);
        assert_eq!(code.paths, [(10, vec!["f".to_owned()])]);
    }

    #[test]
    fn names_from_the_root_are_found_wherever_they_stand() {
        let text = "use crate::a::{self, B};\nuse crate::{\n    c::{D, e::F},\n    g,\n};\nfn f() { crate :: h() }\nuse super::i;\n\
            use super::super::j;\nlet crate_name = 1;\n";
        let taken = |depth| {
            let paths = code(text, depth).paths.into_iter();
            let mut taken: Vec<_> = paths
                .filter(|(_, path)| path[0] != "0")
                .map(|(line, path)| format!("{line} {}", path[0]))
                .collect();
            taken.dedup();
            taken
        };
        assert_eq!(taken(3), ["1 a", "3 c", "4 g", "6 h"]);
        assert_eq!(taken(2), ["1 a", "3 c", "4 g", "6 h", "8 j"]);
        assert_eq!(taken(1), ["1 a", "3 c", "4 g", "6 h", "7 i", "8 j"]);
    }

    #[test]
    fn paths_are_whole_and_keep_what_a_use_calls_them() {
        let text = "use super::{a::{self, B as C}, d::*};\npub use e::F;\nmod g { fn h() { super::i::<u8>(); self::j } }\nself.k";
        let code = code(text, 1);
        let paths = code
            .paths
            .iter()
            .map(|(line, path)| format!("{line} {}", path.join("::")));
        assert_eq!(
            paths.collect::<Vec<_>>(),
            ["1 a", "1 a::B", "1 d::*", "3 0::i", "3 0::g::j"]
        );
        let uses = code
            .uses
            .iter()
            .map(|(name, path)| format!("{name} {}", path.join("::")));
        assert_eq!(
            uses.collect::<Vec<_>>(),
            ["a a", "C a::B", "* d::*", "F 0::e::F"]
        );
    }
}
