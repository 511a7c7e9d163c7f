// node-redis (the package `redis`), with its cache on the client's side. It speaks RESP3 by default.

const { createClient, defineScript, WatchError, MultiErrorReply } = require('redis');
const { REDIS_URL, CONTROL_URL, SENT_AGAIN, FAILS, key, later, expect, expectFields, rejection, queue } = require('./protocol.js');

// Without a listener an error ends the program: the library says so.
const open = (options) => createClient({ url: REDIS_URL, ...options }).on('error', () => {}).connect();

const add = defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${key('once')}`,
  parseCommand(parser, name, amount) {
    parser.pushKey(name);
    parser.push(String(amount));
  },
  transformReply: undefined,
});

let redis;
let control; // past the proxy

async function connect() {
  redis = await open({ scripts: { add } });
  control = await open({ url: CONTROL_URL });
  const client = await open({ url: REDIS_URL.replace(/0$/, '1'), name: 'a-client' });
  expect('PING', await client.ping(), 'PONG');
  const info = await client.clientInfo();
  expect('name and db', [info.name, info.db], ['a-client', 1]);
  if (info.libName !== undefined) expect('lib-name', info.libName, 'node-redis'); // since 7.2
  await client.set(key('db'), '1');
  expect('the same key of database 0', await redis.get(key('db')), null);
  await client.close();
}

async function resp3() {
  const client = await open({ RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } });
  await client.hSet(key('hash'), { a: '1', b: '2' });
  expect('HGETALL', { ...(await client.hGetAll(key('hash'))) }, { a: '1', b: '2' });
  expect('ZADD INCR', await client.zAddIncr(key('scores'), { score: 1.5, value: 'm' }), 1.5);
  await client.set(key('cached'), '1');
  expect('GET', [await client.get(key('cached')), await client.get(key('cached'))], ['1', '1']);
  expect('answered by the cache', client.clientSideCache.stats().hitCount, 1);
  const invalidated = new Promise((resolve) => client.clientSideCache.once('invalidate', resolve));
  await control.set(key('cached'), '2');
  await invalidated;
  expect('GET after the invalidation', await client.get(key('cached')), '2');
  await messages(client);
  await client.close();
}

async function pipeline() {
  const stream = key('pipeline');
  const commands = redis.multi();
  for (let n = 0; n < 250; n++) {
    commands.set(key(`pipeline:${n}`), n).get(key(`pipeline:${n}`));
    commands.xAdd(stream, '*', { n: String(n) }).incr(key('pipeline:count'));
  }
  const replies = await commands.execAsPipeline();
  expect('replies', replies.length, 1000);
  for (let n = 0; n < 250; n++) {
    const [set, got, , count] = replies.slice(4 * n, 4 * n + 4);
    expect('SET, GET, INCR', [set, got, count], ['OK', String(n), n + 1]);
  }
  const entries = await redis.xRange(stream, '-', '+');
  expect('ids', entries.map(({ id }) => id), replies.filter((_, n) => n % 4 === 2));
  entries.forEach(({ message }, n) => expectFields(message, { n: String(n) }));
}

async function transaction() {
  const stream = key('transaction');
  const replies = await redis.multi().set(key('t'), '1').xAdd(stream, '*', { in: 'multi' }).get(key('t')).exec();
  expect('EXEC', [replies[0], replies[2]], ['OK', '1']);
  const [{ id, message }] = await redis.xRange(stream, '-', '+');
  expect('XADD in MULTI', id, replies[1]);
  expectFields(message, { in: 'multi' });

  await redis.watch(key('t'));
  await control.set(key('t'), '2');
  const watched = await rejection(redis.multi().set(key('t'), '3').xAdd(stream, '*', { in: 'aborted' }).exec());
  expect('EXEC after a change', watched instanceof WatchError, true);
  expect('after the abort', [await redis.get(key('t')), await redis.xLen(stream)], ['2', 1]);

  const failed = await rejection(redis.multi().lPush(key('t'), 'x').xAdd(stream, '*', { in: 'multi' }).exec());
  expect('LPUSH on a string', [failed instanceof MultiErrorReply, failed.errorIndexes], [true, [0]]);
  expect('XLEN', await redis.xLen(stream), 2);

  const aborted = await rejection(redis.multi().xAdd(stream, '*', { in: 'discarded' }).addCommand(['GET']).exec());
  expect('an error in the queue', aborted instanceof Error, true);
  expect('XLEN after EXECABORT', await redis.xLen(stream), 2);
}

async function scripts() {
  expect('EVAL', await redis.eval('return {KEYS[1], ARGV[1], 7}', { keys: [key('k')], arguments: ['a'] }), [key('k'), 'a', 7]);
  // Unknown to the server: EVALSHA is answered by NOSCRIPT, and the library sends EVAL.
  expect('EVALSHA', await redis.add(key('n'), 5), 5);
  expect('EVALSHA again', await redis.add(key('n'), 5), 10);
  const library = key('lib').replace(/\W/g, '_');
  const body = `redis.register_function('${library}_add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)`;
  await redis.functionLoad(`#!lua name=${library}\n${body}`, { REPLACE: true });
  expect('FCALL', await redis.fCall(`${library}_add`, { keys: [key('n')], arguments: ['1'] }), 11);
}

async function pubsub() {
  const client = await open({ RESP: 2 });
  await messages(client);
  await client.set(key('after'), '1');
  // After RESP2's subscriptions this library gives Buffers.
  expect('GET', String(await client.get(key('after'))), '1');
  await client.close();
}

async function messages(client) {
  const got = queue();
  const listener = (message, channel) => got.put([channel, message]);
  await client.subscribe(key('news'), listener);
  await client.pSubscribe(key('w*'), listener);
  for (let n = 0; n < 20; n++) {
    expect('PUBLISH', await redis.publish(key('news'), `n${n}`), 1);
    expect('message', await got.next(), [key('news'), `n${n}`]);
    await control.publish(key('weather'), `w${n}`);
    expect('pmessage', await got.next(), [key('weather'), `w${n}`]);
  }
  expect('PING', (await client.ping()).toUpperCase(), 'PONG');
  await client.unsubscribe(key('news'), listener);
  await client.pUnsubscribe(key('w*'), listener);
  expect('PUBLISH to nobody', await redis.publish(key('news'), 'x'), 0);
}

async function blocking() {
  const client = await open();
  const stream = { key: key('blocking'), id: '0' };
  expect('BLPOP, time-out', await client.blPop(key('list'), 0.1), null);
  let sent = later(50).then(() => control.rPush(key('list'), 'x'));
  expect('BLPOP', { ...(await client.blPop(key('list'), 15)) }, { key: key('list'), element: 'x' });
  await sent;
  expect('XREAD BLOCK, time-out', await client.xRead(stream, { BLOCK: 100 }), null);
  sent = later(50).then(() => redis.xAdd(stream.key, '*', { late: 'yes' }));
  const [{ id, message }] = entriesOf(await client.xRead(stream, { BLOCK: 15_000 }), stream.key);
  expect('XREAD BLOCK', id, await sent);
  expectFields(message, { late: 'yes' });
  await client.close();
}

// A list of streams in RESP2, an object in RESP3.
function entriesOf(reply, stream) {
  return Array.isArray(reply) ? reply.find(({ name }) => name === stream).messages : reply[stream];
}

async function groups() {
  const stream = key('groups');
  await redis.xGroupCreate(stream, 'g', '$', { MKSTREAM: true });
  const sent = new Map();
  for (let n = 0; n < 100; n++) {
    const fields = { n: String(n), text: `täst ${n}\r\n$5`, empty: '' };
    sent.set(await redis.xAdd(stream, '*', fields), fields);
  }
  const consumers = [await open(), await open()];
  for (let read = 0; read < sent.size;) {
    for (const [number, consumer] of consumers.entries()) {
      const reply = await consumer.xReadGroup('g', `c${number}`, { key: stream, id: '>' }, { COUNT: 10 });
      for (const { id, message } of entriesOf(reply, stream)) {
        expectFields(message, sent.get(id));
        expect('XACK', await consumer.xAck(stream, 'g', id), 1);
        read += 1;
      }
    }
  }
  expect('pending', (await redis.xPending(stream, 'g')).pending, 0);
  await Promise.all(consumers.map((consumer) => consumer.close()));
}

async function claims() {
  const stream = key('claims');
  await redis.xGroupCreate(stream, 'g', '$', { MKSTREAM: true });
  const sent = [];
  for (let n = 0; n < 3; n++) sent.push(await redis.xAdd(stream, '*', { n: String(n) }));
  await redis.xReadGroup('g', 'one', { key: stream, id: '>' });
  const { pending, firstId, lastId } = await redis.xPending(stream, 'g');
  expect('XPENDING', [pending, firstId, lastId], [3, sent[0], sent[2]]);
  const details = await redis.xPendingRange(stream, 'g', '-', '+', 10);
  expect('XPENDING, range', details.map((d) => [d.id, d.consumer, d.deliveriesCounter]), sent.map((id) => [id, 'one', 1]));
  const [{ id, message }] = await redis.xClaim(stream, 'g', 'two', 0, sent[0]);
  expect('XCLAIM', id, sent[0]);
  expectFields(message, { n: '0' });
  expect('XCLAIM JUSTID', await redis.xClaimJustId(stream, 'g', 'two', 0, sent[0]), [sent[0]]);
  const { messages: claimed } = await redis.xAutoClaim(stream, 'g', 'two', 0, '0');
  expect('XAUTOCLAIM', claimed.map((entry) => entry.id), sent);
  claimed.forEach((entry, n) => expectFields(entry.message, { n: String(n) }));
  const info = await redis.xInfoStream(stream);
  expect('XINFO STREAM', [info.length, info['first-entry'].id, info['last-entry'].id], [3, sent[0], sent[2]]);
  const [group] = await redis.xInfoGroups(stream);
  expect('XINFO GROUPS', [group.name, group.pending], ['g', 3]);
  const consumers = await redis.xInfoConsumers(stream, 'g');
  expect('XINFO CONSUMERS', consumers.map((c) => [c.name, c.pending]), [['one', 0], ['two', 3]]);
  expect('XACK', await redis.xAck(stream, 'g', sent), 3);
}

async function large() {
  const value = '0123456789abcdef'.repeat((20 * 1024 * 1024) / 16);
  expect('SET', await redis.set(key('20mb'), value), 'OK');
  expect('GET', (await redis.get(key('20mb'))) === value, true);
  await redis.del(key('20mb'));
  const part = value.slice(0, 2 * 1024 * 1024);
  const sent = await redis.xAdd(key('large'), '*', { large: part });
  const [{ id, message }] = entriesOf(await redis.xRead({ key: key('large'), id: '0' }), key('large'));
  expect('XREAD', [id, Object.keys(message), message.large === part], [sent, ['large'], true]);
}

async function reconnect() {
  const client = await open();
  const before = await client.clientId();
  const killed = (async () => {
    while (!(await control.clientList({ TYPE: 'NORMAL' })).some((c) => c.id === before && c.flags.includes('b'))) await later(10);
    expect('CLIENT KILL', await control.clientKill({ filter: 'ID', id: before }), 1);
    await control.rPush(key('killed'), 'x');
  })();
  let note = SENT_AGAIN;
  try {
    expect('BLPOP', { ...(await client.blPop(key('killed'), 15)) }, { key: key('killed'), element: 'x' });
  } catch (error) {
    note = FAILS;
  }
  await killed;
  const sent = await client.xAdd(key('reconnect'), '*', { after: 'kill' });
  expect('a new connection', (await client.clientId()) !== before, true);
  expect('XRANGE', (await client.xRange(key('reconnect'), '-', '+')).map(({ id }) => id), [sent]);
  return note;
}

module.exports = { connect, resp3, pipeline, transaction, scripts, pubsub, blocking, groups, claims, large, reconnect };
