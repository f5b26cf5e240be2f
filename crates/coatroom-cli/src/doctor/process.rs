//! This process: its configuration, its keys, where it would listen, and whether its own address leads
//! anywhere.
//!
//! Ports are tried by connecting to them, and where nobody answers by binding them for a moment: that
//! takes no connection of whoever serves. What is found of them is a hint, never a failure, since who
//! asks may be another user, or on another machine, than who serves.

use std::net::SocketAddr;
use std::path::Path;

use coatroom::Keys;
use coatroom::clock::SystemRng;
use coatroom_core::config::{AppId, Application};
use coatroom_core::seal::{Associated, KeyRing, Purpose};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::QUESTION;
use super::network::Place;
use super::sheet::{Sheet, quoted};
use crate::cli;
use crate::config::{Listen, Loaded};

/// Examines it.
pub(super) async fn examine(sheet: Sheet, loaded: &Loaded, applications: &[&Application], file: &Path) {
    let file = cli::quoted(&file.display().to_string());
    match loaded.warnings.len() {
        0 => sheet.good("configuration", format!("{file} is good")),
        count => sheet.warning(
            "configuration",
            format!("{file} is good, with {count} to look at"),
            format!("coatroom check --config {file}"),
        ),
    }
    keys(&sheet, loaded);
    listeners(&sheet, loaded).await;
    for application in applications {
        own_address(&sheet, application.url.as_str()).await;
    }
    sheet.done();
}

fn keys(sheet: &Sheet, loaded: &Loaded) {
    let ids = loaded.keys.ids().join(", ");
    match &loaded.keys {
        Keys::Proxy(_) => sheet.good(
            "keys",
            format!("{ids}: they open access cookies, and that is all"),
        ),
        Keys::Agent(ring) => match loaded.applications.first() {
            Some(application) if !seals_and_opens(ring, &application.id) => sheet.failed(
                "keys",
                "what the first key seals does not open",
                "this is a bug, or memory that cannot be trusted: try another machine",
            ),
            _ => sheet.good("keys", format!("{ids}: the first seals, all open")),
        },
    }
    let readable = loaded
        .summary
        .secrets
        .iter()
        .filter(|secret| secret.kind == "file");
    let readable: Vec<String> = readable
        .filter(|secret| is_readable_by_others(Path::new(&secret.place)))
        .map(|secret| cli::quoted(&secret.place))
        .collect();
    match readable.is_empty() {
        true => sheet.good("secrets", format!("{} are there", loaded.summary.secrets.len())),
        false => sheet.warning(
            "secrets",
            "others on this machine can read some of their files",
            format!("chmod go-rwx {}", readable.join(" ")),
        ),
    }
}

fn seals_and_opens(ring: &KeyRing, application: &AppId) -> bool {
    let associated = Associated {
        application,
        name: "doctor",
        chunk_header: &[],
    };
    let sealed = ring.seal(Purpose::Memory, &associated, b"doctor", &mut SystemRng);
    let opened = ring.open(Purpose::Memory, &associated, &sealed);
    opened.is_some_and(|opened| opened.plaintext() == b"doctor")
}

fn is_readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    // certificates and authorities are no secrets, and whose key is readable is the loader's business
    let is_secret = !file
        .extension()
        .is_some_and(|extension| extension == "crt" || extension == "pem");
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    is_secret && mode & 0o007 != 0
}

async fn listeners(sheet: &Sheet, loaded: &Loaded) {
    let serves = match &loaded.admin {
        Listen::Tcp(address) => is_alive(*address).await,
        Listen::Unix(_) | Listen::Systemd(_) => false,
    };
    for (check, listen) in [("listen", &loaded.listen), ("admin", &loaded.admin)] {
        let Listen::Tcp(address) = listen else {
            continue;
        };
        let somebody = matches!(timeout(QUESTION, TcpStream::connect(address)).await, Ok(Ok(_)));
        if somebody && serves {
            sheet.good(check, format!("{address}: Coatroom serves here already"));
        } else if somebody {
            sheet.warning(
                check,
                format!("{address} is taken, and not by a Coatroom whose `admin` this is"),
                format!("find out by whom: ss -ltnp 'sport = :{}'", address.port()),
            );
        } else {
            free(sheet, check, *address);
        }
    }
}

fn free(sheet: &Sheet, check: &'static str, address: SocketAddr) {
    match std::net::TcpListener::bind(address) {
        Ok(_) => sheet.good(check, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => sheet.warning(
            check,
            format!("{address}: this user may not listen there"),
            "a port from 1024 on, systemd sockets (`listen: systemd`), or CAP_NET_BIND_SERVICE",
        ),
        Err(error) => sheet.warning(
            check,
            format!("{address} cannot be bound: {}", error.kind()),
            "is it an address of this machine?",
        ),
    }
}

/// Whether `/healthz` answers as ours does.
async fn is_alive(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(&head == b"HTTP/1.1 200")
    };
    matches!(timeout(QUESTION, ask).await, Ok(Ok(true)))
}

async fn own_address(sheet: &Sheet, url: &str) {
    let outcome = match Place::of(url) {
        Some(place) => place.addresses().await,
        None => return,
    };
    match outcome {
        Ok(_) => sheet.good("url", format!("{} leads somewhere", quoted(url))),
        Err(why) => sheet.warning(
            "url",
            format!("{}: {why}", quoted(url)),
            "browsers have to find it: a DNS record, which this machine need not see",
        ),
    }
}
