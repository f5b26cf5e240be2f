//! Which files a configuration was read from: the file itself, and every file it refers to.
//!
//! For noticing that one of them changed. Reads the file leniently: what cannot be read now is no
//! source, and what is wrong with it is `load`'s to say. Contents of secrets are not looked at.

use std::path::{Path, PathBuf};

use super::document::{Kind, Node};
use super::{document, folder_of, overrides, read};

/// The configuration file, and the files that its references name, whether they exist or not.
pub(crate) fn sources(file: &Path) -> Vec<PathBuf> {
    let mut sources = vec![file.to_owned()];
    // a pipe can be read only once, and that is for `load`
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file())
        && let Ok(source) = read(file)
        && let Ok(mut root) = document::parse(&source)
    {
        overrides::apply(&mut root, source.len(), &overrides::environment());
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        collect(&root, &folder_of(file), credentials.as_deref(), &mut sources);
    }
    sources
}

fn collect(node: &Node, folder: &Path, credentials: Option<&Path>, into: &mut Vec<PathBuf>) {
    match &node.kind {
        Kind::Null | Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items
            .iter()
            .for_each(|item| collect(item, folder, credentials, into)),
        // somebody else renews that file all the time, and it is read for each conversation
        Kind::Mapping(entries)
            if entries
                .iter()
                .any(|entry| entry.key == "method" && entry.value.text() == Some("assertion_file")) => {}
        Kind::Mapping(entries) => {
            for entry in entries {
                match (entry.key.as_str(), entry.value.text(), credentials) {
                    ("file", Some(path), _) => into.push(folder.join(path)),
                    ("credential", Some(name), Some(credentials)) => into.push(credentials.join(name)),
                    _ => collect(&entry.value, folder, credentials, into),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_what_it_refers_to_are_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("coatroom.yaml");
        let text = "keys: [{file: a.key}, {file: /b.key}, {env: C}]\ntls: {certificate: {file: t.crt}, key: {credential: t}}\n\
                    apps: {shop: {provider: {client_secret: {file: s}, client_auth: {method: assertion_file, file: t}}, routes: {/: {static: ./dist}}}}\n";
        std::fs::write(&file, text).expect("written");
        let names = ["coatroom.yaml", "a.key", "/b.key", "t.crt", "s"];
        let expected: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        assert_eq!(sources(&file), expected);
    }

    #[test]
    fn of_a_file_that_is_broken_or_gone_the_file_itself_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("coatroom.yaml");
        assert_eq!(sources(&file), std::slice::from_ref(&file));
        std::fs::write(&file, "keys: [{file: a").expect("written");
        assert_eq!(sources(&file), std::slice::from_ref(&file));
    }
}
