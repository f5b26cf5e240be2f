// Real stores on free ports of loopback, each in a folder of its own: started here, ended by their ids, and reached by
// nobody else.
//
// A store is `{name, store, ports, start(), stop(), kill(), restart(), wipe(), dump(), command(), states, failOver()}`.
// `store` is the address for `session.store`; `dump()` everything that is stored, to search in; `states` conditions that
// it can be put into (`read-only`, `full`), each `{begin(), end()}`; `failOver()` where it can.
// `behind` puts something in front: it is given a server's port and answers the port that clients shall use.

import { installed, startRedis, startRedisCluster, startRedisSentinel } from './stores/redis.js';
import { openSqlite, postgresPrograms, startPostgres } from './stores/sql.js';

/** By the name that flags and tables use. Options: `{directory, durable, behind}`. */
export const STORES = {
  redis: startRedis,
  valkey: (options) => startRedis({ ...options, name: 'valkey', binary: installed('valkey-server') }),
  cluster: startRedisCluster,
  sentinel: startRedisSentinel,
  postgres: startPostgres,
  sqlite: openSqlite,
};

/** Whether what a store needs is on this machine. */
export function isInstalled(name) {
  if (name === 'sqlite' || name === 'cookie') return true;
  if (name === 'postgres') return postgresPrograms() !== null;
  return installed(name === 'valkey' ? 'valkey-server' : 'redis-server') !== null;
}
