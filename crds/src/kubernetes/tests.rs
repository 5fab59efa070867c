#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;

/// The definitions are kept beside the code and in the chart that installs them.
const FOLDERS: [&str; 2] = ["yaml", "../charts/granary-crds/files"];

#[test]
fn the_definitions_that_are_kept_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for definition in resource_definitions() {
        let name = format!("{}.yaml", definition.metadata.name.as_deref().unwrap());
        let text = crd_yaml(&definition).unwrap();
        for folder in FOLDERS {
            let path = root.join(folder).join(&name);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == text,
                "{} is not that of the code: run `UPDATE_DOCS=1 cargo test -p granary-crds --release --features kubernetes`",
                path.display()
            );
        }
    }
}
