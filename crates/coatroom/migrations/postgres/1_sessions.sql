-- Session records, marks, announcements, leases and small entries. {p} is the configured prefix.
-- Times are milliseconds since 1970 by the server's clock, but for last_active and at, which are
-- seconds and the writer's. expires_at: from when on a row may be forgotten.

create table {p}sessions (
  key bytea primary key,
  version bigint not null,
  last_active bigint not null,
  expires_at bigint not null,
  format bigint not null,
  metadata bytea not null,
  access bytea not null,
  agent bytea not null
);
-- What is sealed does not compress.
alter table {p}sessions
  alter column metadata set storage external,
  alter column access set storage external,
  alter column agent set storage external;
create index {p}sessions_expiry on {p}sessions (expires_at);

create table {p}indexes (
  name bytea not null,
  session bytea not null references {p}sessions (key) on delete cascade,
  primary key (name, session)
);
create index {p}indexes_session on {p}indexes (session);

create table {p}marks (
  key bytea primary key,
  at bigint not null,
  expires_at bigint not null
);
create index {p}marks_expiry on {p}marks (expires_at);

-- position: the transaction that announced it, so that a reader can tell whether everything before
-- a position has been committed.
create table {p}ended (
  position bigint not null,
  kind bigint not null,
  name bytea not null,
  expires_at bigint not null
);
create index {p}ended_position on {p}ended (position);
create index {p}ended_expiry on {p}ended (expires_at);

-- A lease without a holder was given back.
create table {p}leases (
  key bytea primary key,
  holder bytea,
  held_until bigint not null,
  rest_until bigint not null,
  after_death bigint not null,
  expires_at bigint not null
);
create index {p}leases_expiry on {p}leases (expires_at);

create table {p}entries (
  key bytea primary key,
  value bytea not null,
  expires_at bigint not null
);
create index {p}entries_expiry on {p}entries (expires_at);
