// ioredis. Its replies are those of RESP2 also over RESP3, which it speaks by default.

const { Redis } = require('ioredis');
const { REDIS_URL, CONTROL_URL, SENT_AGAIN, FAILS, key, later, expect, expectFields, rejection, queue } = require('./protocol.js');

const redis = new Redis(REDIS_URL);
const control = new Redis(CONTROL_URL); // past the proxy

// [name, value, name, value] as an object.
const fieldsOf = (list) => Object.fromEntries(Array.from({ length: list.length / 2 }, (_, n) => [list[2 * n], list[2 * n + 1]]));

async function connect() {
  const client = new Redis(REDIS_URL.replace(/0$/, '1'), { connectionName: 'a-client' });
  expect('PING', await client.ping(), 'PONG');
  const info = await client.client('INFO');
  expect('name and db', [/ name=(\S*)/.exec(info)[1], / db=(\d+)/.exec(info)[1]], ['a-client', '1']);
  if (info.includes(' lib-name=')) expect('lib-name', / lib-name=(\w*)/.exec(info)[1], 'ioredis'); // since 7.2
  await client.set(key('db'), '1');
  expect('the same key of database 0', await redis.get(key('db')), null);
  await client.quit();
}

async function resp3() {
  const client = new Redis(REDIS_URL, { protocol: 3, replyMapping: 'resp3' });
  await client.hset(key('hash'), { a: '1', b: '2' });
  expect('a map', { ...(await client.call('HGETALL', key('hash'))) }, { a: '1', b: '2' });
  expect('a double', await client.call('ZADD', key('scores'), 'INCR', '1.5', 'm'), 1.5);
  // Pushes: a connection that is subscribed takes other commands too.
  const messages = queue();
  client.on('message', (channel, message) => messages.put([channel, message]));
  await client.subscribe(key('pushes'));
  for (let n = 0; n < 20; n++) {
    await control.publish(key('pushes'), `n${n}`);
    expect('message', await messages.next(), [key('pushes'), `n${n}`]);
  }
  client.disconnect();
}

async function pipeline() {
  const stream = key('pipeline');
  const commands = redis.pipeline();
  for (let n = 0; n < 250; n++) {
    commands.set(key(`pipeline:${n}`), n).get(key(`pipeline:${n}`));
    commands.xadd(stream, '*', 'n', n).incr(key('pipeline:count'));
  }
  const replies = await commands.exec();
  expect('replies', replies.length, 1000);
  expect('errors', replies.filter(([error]) => error), []);
  for (let n = 0; n < 250; n++) {
    const [set, got, , count] = replies.slice(4 * n, 4 * n + 4).map(([, reply]) => reply);
    expect('SET, GET, INCR', [set, got, count], ['OK', String(n), n + 1]);
  }
  const entries = await redis.xrange(stream, '-', '+');
  expect('ids', entries.map(([id]) => id), replies.filter((_, n) => n % 4 === 2).map(([, id]) => id));
  entries.forEach(([, fields], n) => expectFields(fieldsOf(fields), { n: String(n) }));
}

async function transaction() {
  const stream = key('transaction');
  const replies = await redis.multi().set(key('t'), '1').xadd(stream, '*', 'in', 'multi').get(key('t')).exec();
  expect('EXEC', [replies[0], replies[2]], [[null, 'OK'], [null, '1']]);
  const [[id, fields]] = await redis.xrange(stream, '-', '+');
  expect('XADD in MULTI', id, replies[1][1]);
  expectFields(fieldsOf(fields), { in: 'multi' });

  await redis.watch(key('t'));
  await control.set(key('t'), '2');
  expect('EXEC after a change', await redis.multi().set(key('t'), '3').xadd(stream, '*', 'in', 'aborted').exec(), null);
  expect('after the abort', [await redis.get(key('t')), await redis.xlen(stream)], ['2', 1]);

  const [[refused], [error]] = await redis.multi().lpush(key('t'), 'x').xadd(stream, '*', 'in', 'multi').exec();
  expect('LPUSH on a string', [refused.message.split(' ')[0], error], ['WRONGTYPE', null]);
  expect('XLEN', await redis.xlen(stream), 2);

  const aborted = await rejection(redis.multi().xadd(stream, '*', 'in', 'discarded').call('GET').exec());
  expect('an error in the queue', aborted.message.split(' ')[0], 'EXECABORT');
  expect('XLEN after EXECABORT', await redis.xlen(stream), 2);
}

async function scripts() {
  expect('EVAL', await redis.eval('return {KEYS[1], ARGV[1], 7}', 1, key('k'), 'a'), [key('k'), 'a', 7]);
  // Unknown to the server: EVALSHA is answered by NOSCRIPT, and the library sends EVAL.
  redis.defineCommand('addTo', { numberOfKeys: 1, lua: `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${key('once')}` });
  expect('EVALSHA', await redis.addTo(key('n'), 5), 5);
  expect('EVALSHA again', await redis.addTo(key('n'), 5), 10);
  const library = key('lib').replace(/\W/g, '_');
  const body = `redis.register_function('${library}_add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)`;
  await redis.function('LOAD', 'REPLACE', `#!lua name=${library}\n${body}`);
  expect('FCALL', await redis.fcall(`${library}_add`, 1, key('n'), 1), 11);
}

async function pubsub() {
  const client = new Redis(REDIS_URL, { protocol: 2 });
  const messages = queue();
  client.on('message', (channel, message) => messages.put([channel, message]));
  client.on('pmessage', (_, channel, message) => messages.put([channel, message]));
  expect('SUBSCRIBE', await client.subscribe(key('news')), 1);
  expect('PSUBSCRIBE', await client.psubscribe(key('w*')), 2);
  for (let n = 0; n < 20; n++) {
    expect('PUBLISH', await redis.publish(key('news'), `n${n}`), 1);
    expect('message', await messages.next(), [key('news'), `n${n}`]);
    await control.publish(key('weather'), `w${n}`);
    expect('pmessage', await messages.next(), [key('weather'), `w${n}`]);
  }
  expect('PING', await client.ping(), ['pong', '']);
  expect('UNSUBSCRIBE', await client.unsubscribe(key('news')), 1);
  expect('PUNSUBSCRIBE', await client.punsubscribe(key('w*')), 0);
  await client.set(key('after'), '1');
  expect('GET', await client.get(key('after')), '1');
  client.disconnect();
}

async function blocking() {
  const client = new Redis(REDIS_URL);
  const stream = key('blocking');
  expect('BLPOP, time-out', await client.blpop(key('list'), 0.1), null);
  let sent = later(50).then(() => control.rpush(key('list'), 'x'));
  expect('BLPOP', await client.blpop(key('list'), 15), [key('list'), 'x']);
  await sent;
  expect('XREAD BLOCK, time-out', await client.xread('BLOCK', 100, 'STREAMS', stream, '0'), null);
  sent = later(50).then(() => redis.xadd(stream, '*', 'late', 'yes'));
  const [[name, [[id, fields]]]] = await client.xread('BLOCK', 15_000, 'STREAMS', stream, '0');
  expect('XREAD BLOCK', [name, id], [stream, await sent]);
  expectFields(fieldsOf(fields), { late: 'yes' });
  client.disconnect();
}

async function groups() {
  const stream = key('groups');
  await redis.xgroup('CREATE', stream, 'g', '$', 'MKSTREAM');
  const sent = new Map();
  for (let n = 0; n < 100; n++) {
    const fields = { n: String(n), text: `täst ${n}\r\n$5`, empty: '' };
    sent.set(await redis.xadd(stream, '*', ...Object.entries(fields).flat()), fields);
  }
  const consumers = [new Redis(REDIS_URL), new Redis(REDIS_URL)];
  for (let read = 0; read < sent.size;) {
    for (const [number, consumer] of consumers.entries()) {
      const [[, entries]] = await consumer.xreadgroup('GROUP', 'g', `c${number}`, 'COUNT', 10, 'STREAMS', stream, '>');
      for (const [id, fields] of entries) {
        expectFields(fieldsOf(fields), sent.get(id));
        expect('XACK', await consumer.xack(stream, 'g', id), 1);
        read += 1;
      }
    }
  }
  expect('pending', (await redis.xpending(stream, 'g'))[0], 0);
  consumers.forEach((consumer) => consumer.disconnect());
}

async function claims() {
  const stream = key('claims');
  await redis.xgroup('CREATE', stream, 'g', '$', 'MKSTREAM');
  const sent = [];
  for (let n = 0; n < 3; n++) sent.push(await redis.xadd(stream, '*', 'n', n));
  await redis.xreadgroup('GROUP', 'g', 'one', 'STREAMS', stream, '>');
  expect('XPENDING', await redis.xpending(stream, 'g'), [3, sent[0], sent[2], [['one', '3']]]);
  const details = await redis.xpending(stream, 'g', '-', '+', 10);
  expect('XPENDING, range', details.map(([id, consumer, , count]) => [id, consumer, count]), sent.map((id) => [id, 'one', 1]));
  const [[id, fields]] = await redis.xclaim(stream, 'g', 'two', 0, sent[0]);
  expect('XCLAIM', id, sent[0]);
  expectFields(fieldsOf(fields), { n: '0' });
  expect('XCLAIM JUSTID', await redis.xclaim(stream, 'g', 'two', 0, sent[0], 'JUSTID'), [sent[0]]);
  const [, claimed] = await redis.xautoclaim(stream, 'g', 'two', 0, '0');
  expect('XAUTOCLAIM', claimed.map(([claimedId]) => claimedId), sent);
  claimed.forEach(([, claimedFields], n) => expectFields(fieldsOf(claimedFields), { n: String(n) }));
  const info = fieldsOf(await redis.xinfo('STREAM', stream));
  expect('XINFO STREAM', [info.length, info['first-entry'][0], info['last-entry'][0]], [3, sent[0], sent[2]]);
  const [group] = (await redis.xinfo('GROUPS', stream)).map(fieldsOf);
  expect('XINFO GROUPS', [group.name, group.pending], ['g', 3]);
  const consumers = (await redis.xinfo('CONSUMERS', stream, 'g')).map(fieldsOf);
  expect('XINFO CONSUMERS', consumers.map(({ name, pending }) => [name, pending]), [['one', 0], ['two', 3]]);
  expect('XACK', await redis.xack(stream, 'g', ...sent), 3);
}

async function large() {
  const value = '0123456789abcdef'.repeat((20 * 1024 * 1024) / 16);
  expect('SET', await redis.set(key('20mb'), value), 'OK');
  expect('GET', (await redis.get(key('20mb'))) === value, true);
  await redis.del(key('20mb'));
  const part = value.slice(0, 2 * 1024 * 1024);
  const id = await redis.xadd(key('large'), '*', 'large', part);
  const [[, [[found, fields]]]] = await redis.xread('STREAMS', key('large'), '0');
  expect('XREAD', [found, fields.length, fields[0], fields[1] === part], [id, 2, 'large', true]);
}

async function reconnect() {
  const client = new Redis(REDIS_URL);
  const before = await client.client('ID');
  const killed = (async () => {
    while (!/ flags=\w*b/.test(await control.client('LIST', 'ID', before))) await later(10);
    expect('CLIENT KILL', await control.client('KILL', 'ID', before), 1);
    await control.rpush(key('killed'), 'x');
  })();
  let note = SENT_AGAIN;
  try {
    expect('BLPOP', await client.blpop(key('killed'), 15), [key('killed'), 'x']);
  } catch (error) {
    note = FAILS;
  }
  await killed;
  const id = await client.xadd(key('reconnect'), '*', 'after', 'kill');
  expect('a new connection', (await client.client('ID')) !== before, true);
  expect('XRANGE', (await client.xrange(key('reconnect'), '-', '+')).map(([found]) => found), [id]);
  return note;
}

module.exports = { connect, resp3, pipeline, transaction, scripts, pubsub, blocking, groups, claims, large, reconnect };
