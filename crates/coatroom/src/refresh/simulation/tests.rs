//! What is run: small configurations to the last schedule, large ones at random, broken refreshes.

use super::*;

const REUSES: [Reuse; 4] = [Reuse::Kills, Reuse::Refused, Reuse::Grace, Reuse::Kept];
const NO: Faults = Faults {
    crash: false,
    freeze: false,
    outage: false,
    store: false,
    late: false,
    provider: false,
};

/// Small enough to be taken to the end.
fn small_ones() -> Vec<(&'static str, Config)> {
    use Role::{Amend, BackChannel, Renew, RenewLatest, SignOut};
    let crash = Faults { crash: true, ..NO };
    let freeze = Faults { freeze: true, ..NO };
    let outage = Faults { outage: true, ..NO };
    let store = Faults { store: true, ..NO };
    let late = Faults { late: true, ..NO };
    let provider = Faults { provider: true, ..NO };
    let mut all = Vec::new();
    for reuse in REUSES {
        let of = |roles: &[Role]| Config::new(roles, reuse);
        let two = || of(&[Renew, RenewLatest]);
        let slow = |config: Config| Config {
            slow_provider: true,
            ..config
        };
        all.extend([
            ("two", slow(of(&[Renew, Renew]))),
            ("three", of(&[Renew, Renew, Renew])),
            ("sign-out", of(&[Renew, RenewLatest, SignOut])),
            ("slow sign-out", slow(of(&[Renew, SignOut]))),
            ("back-channel", of(&[Renew, Renew, BackChannel])),
            ("amended", of(&[Renew, Renew, Amend])),
            ("crash", two().with(1, crash)),
            ("freeze", two().with(1, freeze)),
            ("store", two().with(2, store)),
            ("late", two().with(1, late)),
            ("provider", two().with(2, provider)),
            ("sign-out, store", of(&[Renew, SignOut]).with(1, store)),
            ("sign-out, crash", of(&[Renew, SignOut]).with(1, crash)),
        ]);
    }
    // nothing is sent twice in an outage, so what the provider makes of that does not matter
    let outage = Config::new(&[Renew, Renew], Reuse::Kills).with(1, outage);
    all.push((
        "outage",
        Config {
            longest_outage: 24_000,
            ..outage
        },
    ));
    if schedules().is_some() {
        all.extend(REUSES.map(|reuse| {
            let three = Config::new(&[Renew, Renew, RenewLatest], reuse);
            ("crashes", three.with(2, crash))
        }));
    }
    all
}

/// How many random schedules were asked for, if somebody has time.
fn schedules() -> Option<u64> {
    let text = std::env::var("COATROOM_SCHEDULES").ok()?;
    Some(text.parse().expect("COATROOM_SCHEDULES is a number"))
}

/// Large, with everything that can go wrong.
fn large_ones() -> Vec<Config> {
    use Role::{Amend, BackChannel, Renew, RenewLatest, SignOut};
    let everything = Faults {
        crash: true,
        freeze: true,
        outage: true,
        store: true,
        late: true,
        provider: true,
    };
    let store = Faults {
        outage: true,
        store: true,
        ..NO
    };
    let mut all = Vec::new();
    for reuse in REUSES {
        for end in [Amend, BackChannel, SignOut, RenewLatest] {
            for (faults, kinds) in [(0, NO), (2, everything), (5, everything), (3, store)] {
                let roles = [Renew, Renew, RenewLatest, RenewLatest, end];
                let mut config = Config::new(&roles, reuse).with(faults, kinds);
                config
                    .tasks
                    .extend([Renew, RenewLatest].map(|role| Player { role, session: 1 }));
                config.coarse = false;
                config.slow_provider = true;
                config.deadline = 10_000;
                config.replicas = 3;
                all.push(config);
            }
        }
    }
    all
}

/// The configurations in turn, each with calls to the store that take no time and that take some.
fn random_ones(schedules: u64) -> impl Iterator<Item = (Config, u64)> {
    let configs = large_ones();
    (0..schedules).map(move |seed| {
        let mut config = configs[usize::try_from(seed).expect("64 bits") % configs.len()].clone();
        config.op_time = if seed % 3 == 0 { 2_000 } else { 0 };
        (config, seed)
    })
}

#[test]
fn every_schedule_of_a_small_configuration_keeps_the_rules() {
    let mut all = Seen::default();
    for (name, config) in small_ones() {
        let seen = exhaustively(&config);
        let seen = seen.unwrap_or_else(|breach| panic!("{name}, {:?}: {breach:?}", config.reuse));
        if ["store", "late", "outage"].contains(&name) {
            // the store alone costs nobody a session
            assert_eq!(seen.lost, 0, "{name}, {:?}", config.reuse);
        }
        all.add(seen);
    }
    eprintln!("{all:?}");
}

#[test]
fn random_schedules_of_large_configurations_keep_the_rules() {
    let mut all = Seen::default();
    for (config, seed) in random_ones(schedules().unwrap_or(4_000)) {
        let seen = at_random(&config, seed);
        all.add(seen.unwrap_or_else(|breach| panic!("schedule {seed} of {config:?}: {breach:?}")));
    }
    eprintln!("{all:?}");
}

#[test]
fn a_dead_holder_costs_a_session_only_where_a_used_token_is_refused() {
    let crashes = small_ones().into_iter().filter(|(name, _)| *name == "crash");
    for (_, config) in crashes {
        let seen = exhaustively(&config).unwrap_or_else(|breach| panic!("{breach:?}"));
        let is_refused = matches!(config.reuse, Reuse::Kills | Reuse::Refused);
        assert_eq!(seen.lost > 0, is_refused, "{:?}", config.reuse);
    }
}

/// Every way to break it, and the rule that this breaks first.
const BROKEN: [(Broken, &str); 15] = [
    (Broken::NoSecondLoad, "a refresh token was used again"),
    (Broken::NoLookAtTheClock, "a request was sent without a lease"),
    (Broken::NoLease, "a request was sent without a lease"),
    (Broken::NoRelease, "a lease is stuck"),
    (
        Broken::ReleaseOfAnothersLease,
        "a request was sent without a lease",
    ),
    (Broken::NoRest, "a failed refresh was tried again at once"),
    (Broken::NoGrace, "a refresh token was used again"),
    (
        Broken::SaveIgnoresGone,
        "tokens were given out that are not saved",
    ),
    (Broken::SaveOnce, "a session that is there was said to have ended"),
    (Broken::NotSaved, "tokens were given out that are not saved"),
    (Broken::NoDiscard, "new tokens were given up"),
    (
        Broken::EndWithoutLook,
        "a session was ended that the provider would still refresh",
    ),
    (
        Broken::EndForgotten,
        "a session that is there was said to have ended",
    ),
    (
        Broken::NeverNewer,
        "a session was ended that the provider would still refresh",
    ),
    (Broken::OneHolder, "a request was sent without a lease"),
];

#[test]
fn a_broken_refresh_is_caught() {
    for (broken, expected) in BROKEN {
        // what only an outage shows takes longest
        let is_candidate = |name: &str| (name == "outage") == (broken == Broken::NoGrace);
        let candidates = small_ones().into_iter().filter(|(name, _)| is_candidate(name));
        let breach = candidates
            .map(|(_, config)| Config {
                broken: Some(broken),
                ..config
            })
            .find_map(|config| exhaustively(&config).err());
        let breach = breach.unwrap_or_else(|| panic!("{broken:?} breaks no rule"));
        assert!(breach.rule.starts_with(expected), "{broken:?}: {}", breach.rule);
        assert!(!breach.schedule.is_empty());
    }
}
