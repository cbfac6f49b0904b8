// A whole worker in JavaScript:  npm install && node worker.js PORT
// PORT is the server's --json-port, where silent workers are spoken to in JSON lines.
'use strict';

const { spawn } = require('node:child_process');
const net = require('node:net');
const duplexEmitter = require('duplex-emitter');

const stream = net.connect(Number(process.argv[2]), process.argv[3] || '127.0.0.1');
const server = duplexEmitter(stream);

server.on('spawn', (command, args, options) => {
  const child = spawn(command, args || [], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.on('data', (data) => server.emit('stdout', data));
  child.stderr.on('data', (data) => server.emit('stderr', data));
  child.on('error', (error) => {
    server.emit('stderr', Buffer.from(error.message + '\n'));
    if (child.pid === undefined) server.emit('close', error.code === 'ENOENT' ? 127 : 126);
  });
  child.on('close', (code, signal) => {
    if (child.pid === undefined) return; // told above: it never started
    if (signal) server.emit('close', null, signal);
    else server.emit('close', code);
  });
});

stream.on('error', (error) => console.error(error.message));
stream.on('close', () => process.exit(0));
