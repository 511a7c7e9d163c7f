// What every program here does: run the features of one library, and print a line of JSON for each.
//
//     REDIS_URL     where the library connects: a server, or a proxy before it
//     CONTROL_URL   the server itself
//     PREFIX        every key, stream and channel begins with it

const { isDeepStrictEqual, inspect } = require('node:util');

const { REDIS_URL, CONTROL_URL, PREFIX } = process.env;

// Only a failure waits it out.
const LIMIT = 30_000;

// What a proxy may add to a message.
const ADDED = ['traceparent', 'tracestate'];

// What becomes of the command whose reply was awaited when its connection was killed: the notes of `reconnect`.
const SENT_AGAIN = 'sent again over a new connection';
const FAILS = 'fails; later commands go over a new connection';

const key = (name) => `${PREFIX}:${name}`;

const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function expect(what, got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) {
    const short = (value) => inspect(value, { breakLength: Infinity }).slice(0, 100);
    throw new Error(`${what}: ${short(got)} instead of ${short(wanted)}`);
  }
}

// Every field as it was sent, and nothing else but what a proxy adds.
function expectFields(got, sent) {
  const own = Object.entries(got).filter(([name]) => !ADDED.includes(name));
  expect('fields', Object.fromEntries(own), sent);
}

// What a promise is rejected with.
async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('what must fail succeeded');
}

// A queue of what events bring.
function queue() {
  const values = [];
  const waiting = [];
  return {
    put: (value) => (waiting.length ? waiting.shift()(value) : values.push(value)),
    next: () => (values.length ? values.shift() : new Promise((resolve) => waiting.push(resolve))),
  };
}

// Runs `{name: function}` one after the other. A function may return a note.
async function run(features) {
  for (const [feature, body] of Object.entries(features)) {
    const began = Date.now();
    let line = { feature, ok: true };
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('no end in time')), LIMIT);
    });
    try {
      const note = await Promise.race([body(), limit]);
      if (note) line.note = note;
    } catch (error) {
      console.error(error);
      line = { feature, ok: false, why: String(error.message).split('\n')[0] };
    }
    clearTimeout(timer);
    console.log(JSON.stringify(line));
    console.error(`${feature}: ${(Date.now() - began) / 1000} s`);
  }
}

module.exports = { REDIS_URL, CONTROL_URL, SENT_AGAIN, FAILS, key, later, expect, expectFields, rejection, queue, run };
