// `run.js LIBRARY`: runs every feature with the library; see protocol.js.

const { run } = require('./protocol.js');

const PROGRAMS = {
  ioredis: './ioredis_features.js',
  'node-redis': './node_redis_features.js',
  BullMQ: './bullmq_app.js',
};

// Libraries keep their connections open.
run(require(PROGRAMS[process.argv[2]])).then(() => process.exit());
