//! `cargo xtask api`: what library users may rely on, as the documentation shows it, in docs/public-api.txt. A change of it is seen in review.
//!
//! It is read from the pages that rustdoc writes, which any toolchain has; their form is that of one release, so another one's are not compared.

use crate::step::Verdict;
use crate::workspace;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const LISTING: &str = "docs/public-api.txt";

/// Writes the listing; the documentation has to be there (`cargo doc`).
pub(crate) fn write(root: &Path) -> anyhow::Result<bool> {
    document(root)?;
    fs::write(root.join(LISTING), listing(root)?)?;
    println!("written: {LISTING}");
    Ok(true)
}

/// Compares the listing with the documentation that a step before made.
pub(crate) fn check(root: &Path) -> anyhow::Result<Verdict> {
    let committed = fs::read_to_string(root.join(LISTING)).context(LISTING)?;
    let current = match listing(root) {
        Ok(current) => current,
        Err(error) => {
            println!("there is no documentation to compare: {error:#}");
            return Ok(Verdict::Failed);
        }
    };
    if committed.lines().next() != current.lines().next() {
        return Ok(Verdict::Skipped("the listing is of another release of rustdoc"));
    }
    for line in current
        .lines()
        .filter(|line| !committed.lines().any(|other| other == *line))
    {
        println!("new:  {line}");
    }
    for line in committed
        .lines()
        .filter(|line| !current.lines().any(|other| other == *line))
    {
        println!("gone: {line}");
    }
    if committed != current {
        println!("what is public has changed: if that is meant, `cargo xtask api` writes {LISTING}");
    }
    Ok(Verdict::of(committed == current))
}

fn document(root: &Path) -> anyhow::Result<()> {
    let status = workspace::cargo(root, &["doc", "--no-deps", "--package", "tilework"]).status()?;
    anyhow::ensure!(status.success(), "cargo doc failed");
    Ok(())
}

fn listing(root: &Path) -> anyhow::Result<String> {
    let pages = workspace::target_directory(root)?.join("doc/tilework");
    let rustdoc = std::process::Command::new("rustdoc").arg("--version").output()?;
    let mut text = format!("# by {}", String::from_utf8_lossy(&rustdoc.stdout));
    let index = fs::read_to_string(pages.join("all.html")).context("all.html: run `cargo doc` first")?;
    for page in item_pages(&index) {
        let html = fs::read_to_string(pages.join(&page)).with_context(|| page.clone())?;
        let item = declarations(&html).with_context(|| page.clone())?;
        let path = page
            .trim_end_matches(".html")
            .rsplit_once('/')
            .map_or("", |(path, _)| path);
        let path = ["tilework", path].into_iter().filter(|part| !part.is_empty());
        writeln!(
            text,
            "\n# {}",
            path.collect::<Vec<_>>().join("::").replace('/', "::")
        )?;
        text += &item;
    }
    Ok(text)
}

/// The page of every item, as the list of all items links them.
fn item_pages(index: &str) -> Vec<String> {
    let links = index
        .split("<a href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let is_item = |link: &&str| link.ends_with(".html") && !link.starts_with("..");
    links.filter(is_item).map(str::to_owned).collect()
}

/// What an item's page declares: the item, and its methods if it is a type.
fn declarations(html: &str) -> anyhow::Result<String> {
    let Some(item) = between(html, "<pre class=\"rust item-decl\"><code>", "</code></pre>") else {
        bail!("the page shows no declaration");
    };
    let mut text = plain(item) + "\n";
    let own = html.split("id=\"trait-implementations\"").next().unwrap_or(html);
    if let Some((_, methods)) = own.split_once("id=\"implementations-list\"") {
        for method in methods.split("<h4 class=\"code-header\">").skip(1) {
            let method = plain(method.split("</h4>").next().unwrap_or(method));
            writeln!(text, "    {}", method.replace('\n', "\n    "))?;
        }
    }
    Ok(text)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?
        .1
        .split_once(after)
        .map(|(inner, _)| inner)
}

/// Text without tags, and without what is shown in place of what is folded.
fn plain(html: &str) -> String {
    let mut rest = html;
    let mut text = String::new();
    while let Some((before, tag)) = rest.split_once('<') {
        text += before;
        rest = if tag.starts_with("summary") {
            tag.split_once("</summary>").map_or("", |(_, rest)| rest)
        } else {
            tag.split_once('>').map_or("", |(_, rest)| rest)
        };
    }
    text += rest;
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    let text = text
        .replace("&#39;", "'")
        .replace("&nbsp;", " ")
        .replace("&amp;", "&");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<pre class=\"rust item-decl\"><code>pub struct A&lt;T&gt; { <span>/* private fields */</span> }</code></pre>\
        <div id=\"implementations-list\"><h4 class=\"code-header\">pub fn <a href=\"#x\">new</a>() -&gt; <b>A</b></h4></div>\
        <h2 id=\"trait-implementations\"><h4 class=\"code-header\">fn clone(&amp;self)</h4>";

    #[test]
    fn an_item_and_its_own_methods_are_listed() {
        assert_eq!(
            declarations(PAGE).unwrap(),
            "pub struct A<T> { /* private fields */ }\n    pub fn new() -> A\n"
        );
        assert!(declarations("<p>nothing</p>").is_err());
    }

    #[test]
    fn what_is_folded_is_shown_as_it_is() {
        assert_eq!(plain("a<summary><b>Show</b></summary> &amp;b"), "a &b");
    }

    #[test]
    fn every_item_of_the_list_has_its_page() {
        let index = "<a href=\"../index.html\">x</a><a href=\"#structs\">s</a><a href=\"struct.A.html\">A</a><a href=\"m/fn.f.html\">m::f</a>";
        assert_eq!(item_pages(index), ["struct.A.html", "m/fn.f.html"]);
    }
}
