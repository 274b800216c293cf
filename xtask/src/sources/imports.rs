//! Reads from a crate's sources, outside of tests, the names with which paths begin, and the attributes of the crate
//! itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, ImplItem, Item, ItemMod, Macro, UseTree};

/// A crate's sources, from one root on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The first names of all paths outside of tests: crates are among them.
    pub(crate) names: BTreeSet<String>,
    /// Whether the crate says that it does without the standard library, be it only outside of tests.
    pub(crate) no_std: bool,
    /// Whether the crate forbids `unsafe`.
    pub(crate) forbids_unsafe: bool,
}

impl Sources {
    /// Reads the root of a crate, and the files of its modules.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let folder = root.parent().context("a source file in no folder")?;
        let (names, attributes) = read_file(root, folder)?;
        Ok(Self {
            names,
            no_std: attributes.iter().any(says_no_std),
            forbids_unsafe: attributes.iter().any(forbids_unsafe),
        })
    }
}

/// Reads a file and the files of its modules, which are in `folder`.
fn read_file(file: &Path, folder: &Path) -> Result<(BTreeSet<String>, Vec<Attribute>)> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let File { attrs, items, .. } =
        syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?;
    let mut reader = Reader { folder: folder.to_owned(), ..Reader::default() };
    for item in &items {
        reader.visit_item(item);
    }
    for module in reader.modules {
        let file = [module.with_extension("rs"), module.join("mod.rs")];
        let file = file.iter().find(|file| file.is_file());
        let file = file.with_context(|| format!("no file for the module {}", module.display()))?;
        reader.names.extend(read_file(file, &module)?.0);
    }
    Ok((reader.names, attrs))
}

/// One file while it is read.
#[derive(Default)]
struct Reader {
    names: BTreeSet<String>,
    /// Where the files of modules are.
    folder: PathBuf,
    /// Modules with files of their own, as paths without an extension.
    modules: Vec<PathBuf>,
}

impl Visit<'_> for Reader {
    fn visit_item(&mut self, item: &Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes: &[_] = if let ImplItem::Fn(function) = item { &function.attrs } else { &[] };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &ItemMod) {
        let folder = self.folder.join(module.ident.to_string());
        if module.content.is_none() {
            self.modules.push(folder);
            return;
        }
        let outer = std::mem::replace(&mut self.folder, folder);
        visit::visit_item_mod(self, module);
        self.folder = outer;
    }

    fn visit_use_tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => self.add(&path.ident),
            UseTree::Name(name) => self.add(&name.ident),
            UseTree::Rename(rename) => self.add(&rename.ident),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.visit_use_tree(tree)),
            UseTree::Glob(_) => {}
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            self.add(&path.segments[0].ident);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

impl Reader {
    fn add(&mut self, name: &syn::Ident) {
        self.names.insert(name.to_string());
    }

    /// Adds each name that two colons follow.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut last = None;
        for token in tokens {
            match (token, last.take()) {
                (TokenTree::Ident(name), _) => last = Some(name),
                (TokenTree::Punct(punct), Some(name)) if punct.as_char() == ':' => self.add(&name),
                (TokenTree::Group(group), _) => self.tokens(group.stream()),
                _ => {}
            }
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether there is a `#[cfg(test)]`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Whether it is `#![no_std]`, also if that holds under a condition only.
fn says_no_std(attribute: &Attribute) -> bool {
    let conditional = || tokens_of(attribute).iter().any(|token| token == "no_std");
    attribute.path().is_ident("no_std") || (attribute.path().is_ident("cfg_attr") && conditional())
}

fn forbids_unsafe(attribute: &Attribute) -> bool {
    attribute.path().is_ident("forbid") && tokens_of(attribute).iter().any(|token| token == "unsafe_code")
}

/// What stands in an attribute's brackets, word by word.
fn tokens_of(attribute: &Attribute) -> Vec<String> {
    let list = attribute.meta.require_list();
    list.map_or(Vec::new(), |list| list.tokens.clone().into_iter().map(|token| token.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a crate with these files.
    fn read(files: &[(&str, &str)]) -> Sources {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Sources::read(&folder.path().join("lib.rs")).unwrap()
    }

    fn names(text: &str) -> Vec<String> {
        read(&[("lib.rs", text)]).names.into_iter().collect()
    }

    #[test]
    fn paths_imports_and_calls_of_macros_name_crates() {
        assert_eq!(names("use {vtd::Root, machine as m};"), ["machine", "vtd"]);
        assert_eq!(names("fn f(x: iova::Space) { reach::f() }"), ["iova", "reach"]);
        assert_eq!(names("fn f() { println!(\"{}\", [area::SIZE]); }"), ["area"]);
    }

    #[test]
    fn words_of_comments_and_of_tests_name_nothing() {
        let text = "//! As `vtd::Root`.\n\
                    #[cfg(test)] mod tests { use model::Machine; }\n\
                    #[cfg(test)] use fixtures::Disk;\n\
                    struct S; impl S { #[cfg(test)] fn f() { area::f() } }";
        assert!(names(text).is_empty());
    }

    #[test]
    fn modules_are_read_where_they_are() {
        let files = [
            ("lib.rs", "mod outer; mod inline { mod file; } #[cfg(test)] mod tests;"),
            ("outer.rs", "mod inner;"),
            ("outer/inner.rs", "use vtd::Root;"),
            ("inline/file/mod.rs", "use machine::Clock;"),
            ("tests.rs", "use model::Machine;"),
        ];
        assert_eq!(read(&files).names.into_iter().collect::<Vec<_>>(), ["machine", "vtd"]);
    }

    #[test]
    fn the_attributes_of_a_crate_are_found_also_under_conditions() {
        let both = read(&[("lib.rs", "#![cfg_attr(not(test), no_std)]\n#![forbid(unsafe_code)]")]);
        assert!(both.no_std && both.forbids_unsafe);
        let neither = read(&[("lib.rs", "//! Is `no_std`.\n#![deny(unsafe_code)]")]);
        assert!(!neither.no_std && !neither.forbids_unsafe);
    }
}
