// The ancestor's runner in small: a queue (level-jobs, in memory), a server that emits `spawn` over
// duplex-emitter, workers that spawn one child at a time and emit its output and its end back.
//   node ancestor.js true TOTAL | node ancestor.js output BYTES    prints the seconds of the work
// The server of this file starts the workers, `node ancestor.js worker PORT`, and ends them.
'use strict';

const { fork, spawn } = require('node:child_process');
const net = require('node:net');
const duplexEmitter = require('duplex-emitter');

const WORKERS = 8;
const WARM = 50;
const BATCH = 1000;

function worker(port) {
  const stream = net.connect(port, '127.0.0.1');
  const server = duplexEmitter(stream);
  stream.setNoDelay(true);
  server.on('spawn', (command, args) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (data) => server.emit('stdout', data));
    child.stderr.on('data', (data) => server.emit('stderr', data));
    child.on('close', (code) => server.emit('close', code));
  });
  stream.on('close', () => process.exit(0));
}

// The workers that have connected, each as a function that runs a job and answers with its output.
async function connected(count) {
  const idle = [];
  const all = new Promise((resolve) => {
    const listener = net.createServer((stream) => {
      stream.setNoDelay(true);
      const remote = duplexEmitter(stream);
      let job = null;
      remote.on('stdout', (data) => job.chunks.push(Buffer.from(data)));
      remote.on('stderr', (data) => job.chunks.push(Buffer.from(data)));
      remote.on('close', (code) => {
        const { chunks, done } = job;
        idle.push(run);
        done(code, chunks);
      });
      function run(payload, done) {
        job = { chunks: [], done };
        remote.emit('spawn', payload.command, payload.args);
      }
      idle.push(run);
      if (idle.length === count) resolve(idle);
    });
    listener.listen(0, '127.0.0.1', () => {
      for (let i = 0; i < count; i++) fork(__filename, ['worker', listener.address().port]);
    });
  });
  return all;
}

async function main(kind, amount) {
  const idle = await connected(WORKERS);
  let bytes = 0;
  let left = 0;
  let finished = null;
  const queue = require('level-jobs')(require('memdb')(), (id, payload, done) => {
    idle.pop()(payload, (code, chunks) => {
      if (code !== 0) throw new Error(`a job ended with ${code}`);
      for (const chunk of chunks) bytes += chunk.length;
      done();
      left -= 1;
      if (left === 0) finished();
    });
  }, WORKERS);

  async function work(jobs) {
    const end = new Promise((resolve) => { finished = resolve; });
    const begin = process.hrtime.bigint();
    left = jobs.length;
    for (let first = 0; first < jobs.length; first += BATCH) {
      queue.pushBatch(jobs.slice(first, first + BATCH));
    }
    await end;
    return Number(process.hrtime.bigint() - begin) / 1e9;
  }

  const trues = (count) => Array.from({ length: count }, () => ({ command: '/bin/true', args: [] }));
  await work(trues(WARM));
  if (kind === 'true') {
    console.log(await work(trues(amount)));
  } else {
    console.log(await work([{ command: 'head', args: ['-c', String(amount), '/dev/zero'] }]));
    if (bytes !== amount) throw new Error(`${bytes} of ${amount} bytes arrived`);
  }
  process.exit(0); // the workers end with their connections
}

const [kind, amount] = [process.argv[2], Number(process.argv[3])];
if (kind === 'worker') worker(amount);
else main(kind, amount);
