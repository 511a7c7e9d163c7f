// BullMQ over ioredis. Scripts do all: jobs are lists and hashes, events are XADD in a script and XREAD BLOCK in QueueEvents.

const { Queue, QueueEvents, Worker } = require('bullmq');
const { Redis } = require('ioredis');
const { REDIS_URL, key, expect, queue: queueOf } = require('./protocol.js');

const JOBS = 20;

const name = 'jobs';
const prefix = key('bull');
const connection = () => new Redis(REDIS_URL, { maxRetriesPerRequest: null });

const queue = new Queue(name, { connection: connection(), prefix });
const events = new QueueEvents(name, { connection: connection(), prefix });
const sent = [];
let worker;

async function send() {
  await events.waitUntilReady();
  for (let n = 0; n < JOBS; n++) sent.push(await queue.add('double', { n }));
  const delayed = await queue.add('double', { n: JOBS }, { delay: 100, priority: 1 });
  sent.push(delayed, ...(await queue.addBulk([{ name: 'double', data: { n: JOBS + 1 } }])));
}

async function consume() {
  worker = new Worker(
    name,
    async (job) => {
      if (job.name === 'fails once' && job.attemptsMade === 0) throw new Error('once');
      return 2 * job.data.n;
    },
    { connection: connection(), prefix, concurrency: 4 },
  );
  const results = await Promise.all(sent.map((job) => job.waitUntilFinished(events, 15_000)));
  expect('results', results, sent.map((_, n) => 2 * n));
}

async function redelivery() {
  const failures = queueOf();
  worker.on('failed', (job, error) => failures.put([job.attemptsMade, error.message]));
  const job = await queue.add('fails once', { n: 7 }, { attempts: 2, backoff: 10 });
  expect('the first attempt', await failures.next(), [1, 'once']);
  expect('the second attempt', await job.waitUntilFinished(events, 15_000), 14);
  expect('jobs', (await queue.getJobCounts('completed', 'failed')), { completed: sent.length + 1, failed: 0 });
  await Promise.all([worker, events, queue].map((part) => part.close()));
}

module.exports = { send, consume, redelivery };
