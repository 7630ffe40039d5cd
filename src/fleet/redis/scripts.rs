//! The scripts that the engine runs: what must happen at once. The table of the module above says which keys there are.

/// Checks the key of the members, and says how the stream stands: its age in this run, epoch, last number, last entries, newest tokens.
pub(super) const JOIN: &str = r"
local key = redis.call('GET', KEYS[6])
if key and key ~= ARGV[1] then return redis.error_reply('FLEETKEY another key') end
redis.call('SET', KEYS[6], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[5], ARGV[3], 'NX')
local time = redis.call('TIME')
local millis = time[1] * 1000 + math.floor(time[2] / 1000)
local began = redis.call('HMGET', KEYS[7], 'run', 'at')
if began[1] ~= ARGV[5] then
    redis.call('HSET', KEYS[7], 'run', ARGV[5], 'at', millis)
    began[2] = millis
end
return {
    math.max(0, millis - tonumber(began[2])),
    redis.call('GET', KEYS[5]),
    tonumber(redis.call('GET', KEYS[2]) or '0'),
    redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[4]),
    redis.call('HVALS', KEYS[3]),
}";

/// Checks that nothing was lost, notes that the member lives and what it has read, and gives the clock.
pub(super) const TURN: &str = r"
if redis.call('GET', KEYS[5]) ~= ARGV[1] then return redis.error_reply('FLEETFORGOT another epoch') end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[4]) then return redis.error_reply('FLEETFORGOT entries') end
local key = redis.call('GET', KEYS[6])
if key and key ~= ARGV[2] then return redis.error_reply('FLEETKEY another key') end
redis.call('SET', KEYS[6], ARGV[2], 'PX', ARGV[5])
local time = redis.call('TIME')
local millis = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[3])
redis.call('ZADD', KEYS[7], millis, ARGV[3])
return millis";

/// Numbers an entry and appends it, with the tokens that members need that join later.
pub(super) const ANNOUNCE: &str = r"
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return redis.error_reply('FLEETFORGOT another epoch') end
local number = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], number .. '-0', 'm', ARGV[3])
for at = 4, #ARGV, 3 do
    local held = redis.call('HGET', KEYS[3], ARGV[at])
    if not held or string.sub(held, 1, 20) < ARGV[at + 1] then
        redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1] .. ARGV[at + 2])
    end
end
return number";

/// Forgets members that are gone, and counts those that have not read an entry.
pub(super) const UNCONFIRMED: &str = r"
local time = redis.call('TIME')
local millis = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', millis - ARGV[2])
for _, member in ipairs(gone) do
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
end
return redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])";

/// Gives the head of a record of this run, and the lease of it if it is wanted and free.
pub(super) const LOOK_UP: &str = r"
local record = redis.call('HMGET', KEYS[1], 'run', 'head')
local fence = 0
if ARGV[3] ~= '0' and redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then
    fence = redis.call('INCR', KEYS[3])
end
if record[1] ~= ARGV[1] then record[2] = false end
return {record[2], fence}";

/// Replaces a record unless that of a later lease is there, and gives the lease back.
pub(super) const PUBLISH: &str = r"
local held = redis.call('HMGET', KEYS[1], 'run', 'fence')
if held[1] ~= ARGV[1] or tonumber(held[2]) <= tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'run', ARGV[1], 'fence', ARGV[2], 'head', ARGV[3])
    if ARGV[6] then redis.call('HSET', KEYS[1], 'body', ARGV[6]) end
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
if redis.call('GET', KEYS[2]) == ARGV[5] then redis.call('DEL', KEYS[2]) end";

/// Gives a lease back.
pub(super) const RELEASE: &str =
    r"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
