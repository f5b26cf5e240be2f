-- Session records, marks, announcements, leases and small entries. {p} is the configured prefix.
-- Times are milliseconds since 1970 by the clock of the machine, but for last_active and at, which are
-- seconds and the writer's. expires_at: from when on a row may be forgotten.

create table {p}sessions (
  key blob primary key,
  version integer not null,
  last_active integer not null,
  expires_at integer not null,
  format integer not null,
  metadata blob not null,
  access blob not null,
  agent blob not null
);
create index {p}sessions_expiry on {p}sessions (expires_at);

create table {p}indexes (
  name blob not null,
  session blob not null references {p}sessions (key) on delete cascade,
  primary key (name, session)
);
create index {p}indexes_session on {p}indexes (session);

create table {p}marks (
  key blob primary key,
  at integer not null,
  expires_at integer not null
);
create index {p}marks_expiry on {p}marks (expires_at);

-- position: never used twice (autoincrement).
create table {p}ended (
  position integer primary key autoincrement,
  kind integer not null,
  name blob not null,
  expires_at integer not null
);
create index {p}ended_expiry on {p}ended (expires_at);

-- A lease without a holder was given back.
create table {p}leases (
  key blob primary key,
  holder blob,
  held_until integer not null,
  rest_until integer not null,
  after_death integer not null,
  expires_at integer not null
);
create index {p}leases_expiry on {p}leases (expires_at);

create table {p}entries (
  key blob primary key,
  value blob not null,
  expires_at integer not null
);
create index {p}entries_expiry on {p}entries (expires_at);
