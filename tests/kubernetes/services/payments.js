// Takes orders from a stream, one by one, and puts payments into another. It knows nothing of traces.
//
// Told to end, it finishes the order at hand, waits for LINGER seconds, and says goodbye in a stream. CLUSTER: the URL is one of a Redis Cluster's.

const { hostname } = require('node:os');
const { Cluster, Redis } = require('ioredis');

const me = hostname();
const { REDIS_URL, CLUSTER } = process.env;
const redis = CLUSTER ? new Cluster([REDIS_URL]) : new Redis(REDIS_URL, { maxRetriesPerRequest: 0 });
let ending = false;
process.on('SIGTERM', () => { ending = true; });
redis.on('error', (error) => console.log(error.message));

const later = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// Whatever fails is counted, and tried again as far as it is not known to be done.
async function surely(command) {
  for (;;) {
    try {
      return await command();
    } catch (error) {
      console.log(error.message);
      if (error.message.startsWith('BUSYGROUP')) return null;
      await later(0.2);
      redis.hincrby('faults', me, 1).catch(() => {});
    }
  }
}

async function main() {
  await surely(() => redis.xgroup('CREATE', 'orders', 'payments', '0', 'MKSTREAM'));
  while (!ending) {
    const reply = await surely(() => redis.xreadgroup('GROUP', 'payments', me, 'COUNT', 1, 'BLOCK', 500, 'STREAMS', 'orders', '>'));
    for (const [, entries] of reply ?? []) {
      for (const [id, fields] of entries) {
        const order = fields[fields.indexOf('order') + 1];
        await surely(() => redis.xadd('payments', '*', 'order', order));
        await surely(() => redis.xack('orders', 'payments', id));
      }
    }
  }
  await later(Number(process.env.LINGER ?? 0));
  await surely(() => redis.xadd('goodbyes', '*', 'pod', me));
  await redis.quit();
}

main();
