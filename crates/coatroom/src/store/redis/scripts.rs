//! The scripts that make each operation atomic. Each touches one key, so that it runs in a cluster, and
//! takes the time from the server: no clock of Coatroom's decides.
//!
//! Lua's numbers hold milliseconds of some hundred thousand years exactly; `%.0f` keeps them from being
//! written with an exponent.

use std::sync::LazyLock;

use ::redis::aio::ConnectionLike;
use ::redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};

/// A script, and the digest that servers know it by.
pub(super) struct Script {
    text: &'static str,
    digest: LazyLock<String>,
}

impl Script {
    /// Runs it: by digest, or whole where the server does not have it (after a restart, a failover).
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        key: &str,
        arguments: &[&[u8]],
    ) -> Result<T, RedisError> {
        let command = |name: &str, script: &str| {
            let mut command = ::redis::cmd(name);
            command.arg(script).arg(1).arg(key).arg(arguments);
            command
        };
        match command("EVALSHA", &self.digest).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.text).query_async(connection).await
            }
            outcome => outcome,
        }
    }
}

macro_rules! script {
    ($(#[$about:meta])* $name:ident = $text:expr) => {
        $(#[$about])*
        pub(super) static $name: Script = Script {
            text: $text,
            digest: LazyLock::new(|| ::redis::Script::new($text).get_hash().to_owned()),
        };
    };
}

script! {
    /// Value, version, life. 1: it is there now; 0: another one has the name.
    INSERT = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 16)
if head == '' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  return 1
end
if string.sub(head, 2) == ARGV[2] then return 1 end
return 0"
}

script! {
    /// Expected version, new version, head, body, life. 0: gone; 1: changed since; else the indexes.
    REPLACE = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 50)
if head == '' then return 0 end
local version = string.sub(head, 2, 17)
if version ~= ARGV[1] and version ~= ARGV[2] then return 1 end
local count = string.sub(head, 50, 51)
local indexes = redis.call('GETRANGE', KEYS[1], 51, 50 + 32 * tonumber(count, 16))
if version ~= ARGV[2] then
  local next = ARGV[3]
  local active = string.sub(head, 18, 33)
  if tonumber(active, 16) > tonumber(string.sub(next, 18, 33), 16) then
    next = string.sub(next, 1, 17) .. active .. string.sub(next, 34)
  end
  redis.call('SET', KEYS[1], next .. count .. indexes .. ARGV[4], 'PX', ARGV[5])
end
return indexes"
}

script! {
    /// Time, life. False: there is none; else the indexes.
    TOUCH = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 50)
if head == '' then return false end
if tonumber(ARGV[1], 16) > tonumber(string.sub(head, 18, 33), 16) then
  redis.call('SETRANGE', KEYS[1], 17, ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')
return redis.call('GETRANGE', KEYS[1], 51, 50 + 32 * tonumber(string.sub(head, 50, 51), 16))"
}

script! {
    /// False: there is none; else the indexes.
    DELETE = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 50)
if head == '' then return false end
local count = tonumber(string.sub(head, 50, 51), 16) or 0
local indexes = redis.call('GETRANGE', KEYS[1], 51, 50 + 32 * count)
redis.call('DEL', KEYS[1])
return indexes"
}

script! {
    /// Version. 0: there is none; 1: it is at another one; else the indexes of what is gone now.
    DELETE_AT = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 50)
if head == '' then return 0 end
if string.sub(head, 2, 17) ~= ARGV[1] then return 1 end
local count = tonumber(string.sub(head, 50, 51), 16) or 0
local indexes = redis.call('GETRANGE', KEYS[1], 51, 50 + 32 * count)
redis.call('DEL', KEYS[1])
return indexes"
}

script! {
    /// Name of a record, life of its entry. The entry's score is the end of its life; what is over
    /// goes, and the index lives as long as its longest entry.
    INDEX = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + life), ARGV[1])
if redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1"
}

script! {
    /// Time, life: the later and the longer stay.
    MARK = r"
local at = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
local life = ARGV[2]
if left > tonumber(life) then life = string.format('%.0f', left) end
if at and tonumber(at, 16) > tonumber(ARGV[1], 16) then
  redis.call('PEXPIRE', KEYS[1], life)
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', life)
end
return 1"
}

script! {
    /// Ended things, how long they are kept.
    ANNOUNCE = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = tonumber(ARGV[2])
redis.call('XADD', KEYS[1], 'MINID', '~', string.format('%.0f', now - kept), '*', 'e', ARGV[1])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 2 * kept))
return 1"
}

script! {
    /// Where to begin (nothing: only the last is wanted), how many. Now, and entries.
    ENDED = r"
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if ARGV[1] == '' then return {now, redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)} end
return {now, redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])}"
}

script! {
    /// Holder, life, how long an end is remembered. `{0, after death}`, `{1, left}`: held,
    /// `{2, left}`: resting.
    ///
    /// The value is holder, end in milliseconds, and what it is: `h` held, `d` held after a death,
    /// `r` a rest.
    ACQUIRE = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = 'h'
local value = redis.call('GET', KEYS[1])
if value then
  local holder, till, was = string.match(value, '^(%x+) (%d+) (%a)$')
  till = tonumber(till)
  if was == 'r' then
    if till > now then return {2, till - now} end
  elseif holder == ARGV[1] then
    state = was
  else
    if till > now then return {1, till - now} end
    state = 'd'
  end
end
local life = tonumber(ARGV[2])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', now + life) .. ' ' .. state,
  'PX', string.format('%.0f', life + tonumber(ARGV[3])))
return {0, state == 'd' and 1 or 0}"
}

script! {
    /// Holder, rest.
    RELEASE = r"
local value = redis.call('GET', KEYS[1])
if not value then return 0 end
local holder, _, was = string.match(value, '^(%x+) (%d+) (%a)$')
if holder ~= ARGV[1] or was == 'r' then return 0 end
local rest = tonumber(ARGV[2])
if rest == 0 then return redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', now + rest) .. ' r', 'PX', ARGV[2])
return 1"
}

script! {
    /// Who claims, life. 1: it is the caller's, maybe since an answer that was lost.
    CLAIM = r"
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0"
}
