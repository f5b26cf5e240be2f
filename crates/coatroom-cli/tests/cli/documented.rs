//! The snippets of docs/configuration.md about stores, those of docs/providers.md, and the file of
//! docs/migrating.md pass `coatroom check` without a warning.

use std::path::Path;
use std::process::Command;

use coatroom_core::config::{ApplicationConfig, ProviderConfig};

const FILE: &str = "
keys: [{file: coatroom.key}]
apps:
  shop:
    url: https://shop.example.com
    provider: {issuer: https://login.example.com, client_id: shop, client_secret: {env: SHOP_CLIENT_SECRET}}
    routes: {/api/: {upstream: http://127.0.0.1:5000}}
";

#[test]
fn every_store_of_the_guide_passes_the_check() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let section = guide
        .split_once("### Where sessions are kept")
        .and_then(|(_, rest)| rest.split("\n### ").next())
        .expect("the section");
    let snippets: Vec<_> = section
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(snippets.len() >= 5, "the snippets are there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    super::write_file(
        &folder.path().join("coatroom.key"),
        &super::key_of("coatroom.key"),
        "600",
    );
    super::write_file(
        &folder.path().join("redis.url"),
        "rediss://coatroom:x@cache.example.com",
        "600",
    );
    let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).expect("a certificate");
    super::write_file(&folder.path().join("redis-ca.pem"), &made.cert.pem(), "644");
    for snippet in snippets {
        let indented: String = snippet.lines().map(|line| format!("    {line}\n")).collect();
        super::write_file(
            &folder.path().join("coatroom.yaml"),
            &format!("{FILE}{indented}"),
            "600",
        );
        let output = Command::new(env!("CARGO_BIN_EXE_coatroom"))
            .args(["check", "--config", "coatroom.yaml"])
            .current_dir(folder.path())
            .env("SHOP_CLIENT_SECRET", "x")
            .env("REDIS_URL", "rediss://:x@cache.example.com")
            .env(
                "DATABASE_URL",
                "postgres://coatroom:x@db.example.com/coatroom?sslmode=verify-full",
            )
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{snippet}\n{said}");
    }
}

#[test]
fn the_file_of_the_guide_for_moving_over_passes_the_check() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/migrating.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let file = guide
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the file");
    let folder = tempfile::tempdir().expect("a temporary folder");
    super::write_file(
        &folder.path().join("coatroom.key"),
        &super::key_of("coatroom.key"),
        "600",
    );
    super::write_file(&folder.path().join("dist/index.html"), "<!doctype html>", "644");
    super::write_file(&folder.path().join("coatroom.yaml"), file, "600");
    let output = Command::new(env!("CARGO_BIN_EXE_coatroom"))
        .args(["check", "--config", "coatroom.yaml"])
        .current_dir(folder.path())
        .env("SHOP_CLIENT_SECRET", "x")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn every_provider_of_the_guide_passes_the_check() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let snippets: Vec<_> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    super::write_file(
        &folder.path().join("coatroom.key"),
        &super::key_of("coatroom.key"),
        "600",
    );
    for preset in coatroom_core::config::Preset::names() {
        let line = format!("preset: {preset}\n");
        assert!(snippets.iter().any(|snippet| snippet.contains(&line)), "{preset}");
        let row = row_of(preset);
        assert!(guide.contains(&row), "the table has not: {row}");
    }
    for snippet in snippets {
        let indented: String = snippet.lines().map(|line| format!("    {line}\n")).collect();
        let file = format!(
            "keys: [{{file: coatroom.key}}]\napps:\n  shop:\n    url: https://shop.example.com\n{indented}    \
             routes: {{/api/: {{upstream: http://127.0.0.1:5000}}}}\n"
        );
        super::write_file(&folder.path().join("coatroom.yaml"), &file, "600");
        let output = Command::new(env!("CARGO_BIN_EXE_coatroom"))
            .args(["check", "--config", "coatroom.yaml"])
            .current_dir(folder.path())
            .env("SHOP_CLIENT_SECRET", "x")
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{snippet}\n{said}");
    }
}

/// The row of the table of presets, made from what the preset does.
fn row_of(preset: &str) -> String {
    let secret = coatroom_core::secret::Secret::new("x");
    // what it fills in of addresses is for the one issuer that everybody means
    let issuer = match preset {
        "github" => "https://github.com/login/oauth",
        _ => "https://login.example.com",
    };
    let mut provider = ProviderConfig::new(issuer, "shop", secret);
    provider.habits.preset = Some(preset.to_owned());
    let application = ApplicationConfig::new("shop", "https://shop.example.com", provider).check();
    let Ok(application) = application else {
        panic!("{preset} does not pass alone");
    };
    let provider = application.provider.expect("it has one");
    let (_, filled) = provider.habits.preset.as_ref().expect("it has one");
    let value = |name: &str| filled.iter().find(|filled| filled.setting == name);
    let each = |name| {
        let value = value(name).map_or("", |filled| filled.value.as_str());
        let words: Vec<_> = value.split_whitespace().map(|word| format!("`{word}`")).collect();
        words.join(", ")
    };
    let further: Vec<_> = filled
        .iter()
        .filter(|filled| !["scopes", "parameters", "allowed_parameters"].contains(&filled.setting))
        .map(|filled| format!("`{}: {}`", filled.setting, filled.value))
        .collect();
    let scopes = value("scopes").map_or_else(String::new, |filled| format!("`{}`", filled.value));
    let cells = [
        format!("`{preset}`"),
        scopes,
        each("parameters"),
        each("allowed_parameters"),
        further.join(", "),
    ];
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| match cell.is_empty() {
            true => " ".to_owned(),
            false => format!(" {cell} "),
        })
        .collect();
    format!("|{}|", cells.join("|"))
}
