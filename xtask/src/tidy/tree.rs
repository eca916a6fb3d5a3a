//! The files of the repository, each with its place among the modules of its crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source::{self, Code};

/// All source files, and the page that has the invariants.
pub struct Tree {
    files: Vec<File>,
    pages: BTreeMap<String, String>,
}

/// A source file.
pub struct File {
    /// Its path in the repository.
    pub path: String,
    pub text: String,
    /// The folder of its crate's `lib.rs` or `main.rs`.
    pub root: String,
    /// Its module, from there on.
    pub module: source::Path,
    /// Whether it is there for tests alone.
    pub is_test: bool,
    pub code: Code,
}

impl Tree {
    /// Reads a repository.
    pub fn read(repository: &Path) -> Result<Self> {
        let mut texts = BTreeMap::new();
        let mut folders = vec![repository.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                if entry.file_type()?.is_dir() {
                    if !name.starts_with('.') && name != "target" {
                        folders.push(path);
                    }
                } else if name.ends_with(".rs") || name == "ARCHITECTURE.md" {
                    let text =
                        fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
                    let path = path
                        .strip_prefix(repository)?
                        .to_string_lossy()
                        .into_owned();
                    texts.insert(path, text);
                }
            }
        }
        Self::of(texts)
    }

    /// Sorts these files, which have their paths in the repository.
    pub fn of(texts: BTreeMap<String, String>) -> Result<Self> {
        let (sources, pages): (BTreeMap<_, _>, _) = texts
            .into_iter()
            .partition(|(path, _)| path.ends_with(".rs"));
        let mut files = Vec::new();
        for (path, text) in &sources {
            let mut folders = Path::new(path).ancestors().skip(1);
            let is_root = |folder: &&Path| {
                let mut roots = ["lib.rs", "main.rs"].iter();
                roots.any(|name| sources.contains_key(&*folder.join(name).to_string_lossy()))
            };
            // A file without one is a crate of its own, as each of `tests` is.
            let root = folders.find(is_root).unwrap_or(Path::new(path));
            let module = module_of(Path::new(path).strip_prefix(root)?);
            files.push(File {
                path: path.clone(),
                text: text.clone(),
                root: root.to_string_lossy().into_owned(),
                code: Code::of(text, &module).context(path.clone())?,
                module,
                is_test: false,
            });
        }
        let mut of_tests = Vec::new();
        for file in &files {
            let names = file.code.test_modules.iter();
            let modules = names.map(|name| [&file.module[..], std::slice::from_ref(name)].concat());
            of_tests.extend(modules.map(|module| (file.root.clone(), module)));
        }
        for file in &mut files {
            let mut of_tests = of_tests.iter();
            file.is_test = of_tests
                .any(|(root, module)| *root == file.root && file.module.starts_with(module));
        }
        Ok(Self { files, pages })
    }

    /// The source files, by path.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The text of a file; empty if there is none.
    pub fn text(&self, path: &str) -> &str {
        let source = self.files.iter().find(|file| file.path == path);
        let text = source
            .map(|file| &file.text)
            .or_else(|| self.pages.get(path));
        text.map_or("", String::as_str)
    }
}

/// The module of a file, by its path from the crate's root on.
fn module_of(path: &Path) -> source::Path {
    let stem = path.with_extension("");
    let names = stem.iter().map(|name| name.to_string_lossy().into_owned());
    let mut module: source::Path = names.collect();
    if module
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&&**last))
    {
        module.pop();
    }
    module
}
