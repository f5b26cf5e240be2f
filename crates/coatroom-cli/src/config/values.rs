//! Values with a grammar of their own: durations, sizes, addresses, settings of a later release.
//!
//! Nothing here guesses: `300x`, `30` and `0.5h` are errors, not 300, 30 seconds and zero.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A duration: `30m`, `1h30m`, `1500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

/// A duration of whole seconds: what session limits and token times are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WholeSeconds(pub(crate) Duration);

/// A size in bytes: `10MiB`, `1 MB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// Permissions of a file, in octal: `660`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

/// Where a listener binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// What systemd passes: the sockets of a name, or all that nobody else names.
    Systemd(Option<String>),
}

/// A setting that is documented and that this build does not have: always an error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NotYet {}

/// A mapping whose keys are names, in the order of the file.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, T)>);

/// A word that a visitor maps to a value, or refuses with a message and a hint.
pub(crate) trait Written: Sized {
    /// What to write, for the message when something else came.
    const EXPECTED: &'static str;

    /// Reads the text.
    ///
    /// # Errors
    /// A message, and a hint on the second line.
    fn from_text(text: &str) -> Result<Self, String>;

    /// What a mapping in this place means, if that is a documented form of a later release.
    fn mapping() -> Option<&'static str> {
        None
    }
}

/// Deserializes a [`Written`] value.
pub(crate) fn written<'d, T: Written, D: Deserializer<'d>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);

    impl<'d, T: Written> Visitor<'d> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<T, A::Error> {
            Err(A::Error::custom(format!(
                "expected {}, found a list\nwrite one value, without brackets",
                T::EXPECTED
            )))
        }

        fn visit_map<A: MapAccess<'d>>(self, _: A) -> Result<T, A::Error> {
            Err(A::Error::custom(T::mapping().map_or_else(
                || {
                    format!(
                        "expected {}, found a mapping\nwrite one value, without braces",
                        T::EXPECTED
                    )
                },
                str::to_owned,
            )))
        }
    }

    deserializer.deserialize_any(Text(PhantomData))
}

impl Written for Interval {
    const EXPECTED: &'static str = "a duration";

    fn from_text(text: &str) -> Result<Self, String> {
        duration(text).map(Self).ok_or_else(|| {
            "expected a duration: whole numbers with the units d, h, m, s, ms, the larger first\n\
             write for example `30m`, `12h`, `10s`, `1500ms` or `1h30m`"
                .to_owned()
        })
    }
}

impl<'d> Deserialize<'d> for Interval {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Written for WholeSeconds {
    const EXPECTED: &'static str = Interval::EXPECTED;

    fn from_text(text: &str) -> Result<Self, String> {
        let Interval(duration) = Interval::from_text(text)?;
        if duration.subsec_nanos() != 0 {
            return Err("this duration is counted in whole seconds\nwrite for example `10s`".to_owned());
        }
        Ok(Self(duration))
    }
}

impl<'d> Deserialize<'d> for WholeSeconds {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Written for Size {
    const EXPECTED: &'static str = "a size";

    fn from_text(text: &str) -> Result<Self, String> {
        size(text).map(Self).ok_or_else(|| {
            "expected a size: a whole number of bytes, or one with a unit (kB, KiB, MB, MiB, GB, GiB)\n\
             write for example `10MiB`"
                .to_owned()
        })
    }
}

impl<'d> Deserialize<'d> for Size {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Written for Mode {
    const EXPECTED: &'static str = "permissions";

    fn from_text(text: &str) -> Result<Self, String> {
        let longer = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
        let digits = longer.filter(|_| text.len() > 3).unwrap_or(text);
        let good = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| good);
        mode.map(Self).ok_or_else(|| {
            "expected permissions: three octal digits, of owner, group and others\nwrite for example `660`".to_owned()
        })
    }
}

impl<'d> Deserialize<'d> for Mode {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Written for Listen {
    const EXPECTED: &'static str = "an address";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = "expected an IP address with a port, `unix:` with a path, or `systemd`\n\
                     write for example `127.0.0.1:8080`, `0.0.0.0:8080`, `[::]:8080` or `unix:/run/coatroom.sock`";
        if let Some(path) = text.strip_prefix("unix:") {
            // sockaddr_un holds 108 bytes with the final zero.
            let good = !path.is_empty() && path.len() < 108 && !path.contains('\0');
            return if good {
                Ok(Self::Unix(path.into()))
            } else {
                Err(wrong.to_owned())
            };
        }
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            // systemd.socket(5), `FileDescriptorName=`: printable, and the colon separates names.
            let good =
                (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            return if good {
                Ok(Self::Systemd(Some(name.to_owned())))
            } else {
                Err(wrong.to_owned())
            };
        }
        if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| wrong.to_owned())
    }
}

impl<'d> Deserialize<'d> for Listen {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Listen {
    /// `listen`, when it is not written.
    pub(crate) const PUBLIC: Self = Self::on_this_machine(8080);

    /// `admin`, when it is not written.
    pub(crate) const ADMIN: Self = Self::on_this_machine(9090);

    const fn on_this_machine(port: u16) -> Self {
        Self::Tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            },
            // What systemd passes is looked at when it is there.
            Self::Unix(_) | Self::Systemd(_) => true,
        }
    }

    /// Whether both would bind the same socket.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) => {
                let wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
                a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || wildcard)
            }
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Systemd(a), Self::Systemd(b)) => a == b,
            (Self::Tcp(_) | Self::Unix(_) | Self::Systemd(_), _) => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

impl<'d> Deserialize<'d> for NotYet {
    fn deserialize<D: Deserializer<'d>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(
            "this build does not have this setting yet\nremove the key: it would have no effect",
        ))
    }
}

impl<'d, T: Deserialize<'d>> Deserialize<'d> for Named<T> {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);

        impl<'d, T: Deserialize<'d>> Visitor<'d> for Pairs<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Named(pairs))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// A duration as a person writes it, for the summary of `check`.
pub(crate) fn shown(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut out = String::new();
    for (unit, millis) in UNITS {
        let count = rest / u128::from(millis);
        rest %= u128::from(millis);
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// A size as a person writes it: in the largest unit that leaves no rest.
pub(crate) fn size_shown(bytes: u64) -> String {
    let units: [(&str, u64); 6] = [
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1000),
    ];
    let whole = |unit: u64| bytes > 0 && bytes.is_multiple_of(unit);
    match units.iter().find(|(_, unit)| whole(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        // The iterator goes on where the last unit was found: each once, the larger first.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" if unit.is_empty() => 1,
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis, again) in [
            ("30m", 1_800_000, "30m"),
            ("12h", 43_200_000, "12h"),
            ("10s", 10_000, "10s"),
            ("1500ms", 1500, "1s500ms"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1d1h1m1s1ms", 90_061_001, "1d1h1m1s1ms"),
            ("0s", 0, "0s"),
        ] {
            let read = duration(text).expect(text);
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(shown(read), again, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "30",
            "m",
            "300x",
            "30m ",
            " 30m",
            "30 m",
            "-1s",
            "+1s",
            "0.5h",
            "1m1h",
            "1m1m",
            "1s1",
            "1ms1s",
            "99999999999999999999s",
            "18446744073709551615d",
            "1_000s",
            "1e3s",
            "infinite",
            "30M",
            "½h",
        ] {
            assert!(duration(text).is_none(), "{text}");
            assert!(
                Interval::from_text(text).is_err_and(|error| error.contains('\n')),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_in_whole_seconds_refuse_fractions() {
        assert_eq!(
            WholeSeconds::from_text("10s"),
            Ok(WholeSeconds(Duration::from_secs(10)))
        );
        assert_eq!(
            WholeSeconds::from_text("2000ms"),
            Ok(WholeSeconds(Duration::from_secs(2)))
        );
        assert!(WholeSeconds::from_text("1500ms").is_err());
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("4096", 4096),
            ("10B", 10),
            ("1kB", 1000),
            ("1 KiB", 1024),
            ("1 MB", 1_000_000),
            ("10MiB", 10_485_760),
            ("1GB", 1_000_000_000),
            ("2GiB", 2_147_483_648),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for (bytes, text) in [
            (10_485_760, "10MiB"),
            (1_000_000, "1MB"),
            (1_000_001, "1000001B"),
            (2048, "2KiB"),
            (1 << 31, "2GiB"),
            (0, "0B"),
        ] {
            assert_eq!(size_shown(bytes), text);
            assert_eq!(size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MB",
            "1 ",
            "1  MB",
            "1mb",
            "1Mb",
            "1TB",
            "1.5MB",
            "-1",
            "1_000",
            "18446744073709551615KiB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_read() {
        for (text, shown, local) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("localhost:9090", "127.0.0.1:9090", true),
            ("[::1]:80", "[::1]:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            ("[::]:443", "[::]:443", false),
            ("10.0.0.1:1", "10.0.0.1:1", false),
            ("unix:/run/coatroom.sock", "unix:/run/coatroom.sock", true),
            ("systemd", "systemd", true),
            ("systemd:coatroom-admin", "systemd:coatroom-admin", true),
        ] {
            let listen = Listen::from_text(text).expect(text);
            assert_eq!(listen.to_string(), shown, "{text}");
            assert_eq!(listen.is_local(), local, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "example.com:80",
            "unix:",
            "systemd:",
            "systemd:a:b",
            "systemd:a b",
            "Systemd",
        ] {
            assert!(Listen::from_text(text).is_err(), "{text}");
        }
        assert!(Listen::from_text(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn permissions_are_three_octal_digits() {
        for (text, mode) in [
            ("660", Some(0o660)),
            ("0600", Some(0o600)),
            ("0o777", Some(0o777)),
            ("000", Some(0)),
            ("66", None),
            ("6600", None),
            ("688", None),
            ("+66", None),
            ("rw-", None),
            ("", None),
        ] {
            assert_eq!(Mode::from_text(text).ok().map(|Mode(mode)| mode), mode, "{text}");
        }
    }

    #[test]
    fn listeners_that_would_bind_the_same_socket_collide() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "127.0.0.1:1", false),
            ("systemd", "systemd", true),
            ("systemd:a", "systemd", false),
            ("systemd:a", "systemd:a", true),
            ("systemd", "127.0.0.1:1", false),
        ] {
            let listen = |text| Listen::from_text(text).expect("the table holds addresses");
            assert_eq!(listen(a).collides_with(&listen(b)), expected, "{a} {b}");
        }
    }
}
