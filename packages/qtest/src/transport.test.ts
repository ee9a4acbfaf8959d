import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { FlatTarget } from './flat-target.test.helper.js';
import { serveQtest } from './server.js';
import { openTransport } from './transport.js';

function scratch(): { readonly path: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'qtest-'));
  return { path: join(folder, 'socket'), [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
}

/** Sends a line, gets one. */
function ask(socket: Socket, line: string): Promise<string> {
  return new Promise(resolve => {
    socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    socket.write(`${line}\n`);
  });
}

test("as a socket's client, the way libqtest wants it", async t => {
  using place = scratch();
  const listener = createServer().listen(place.path);
  const accepted = new Promise<Socket>(resolve => listener.once('connection', resolve));
  using transport = openTransport({ kind: 'unix', path: place.path, server: false });
  const served = serveQtest(await transport.stream, new FlatTarget());
  t.teardown(() => served[Symbol.dispose]());
  const socket = await accepted;
  t.is(await ask(socket, 'endianness'), 'OK little\n');
  socket.destroy();
  listener.close();
});

test('as the server of a socket; one that was left there is taken over', async t => {
  using place = scratch();
  for (let round = 0; round < 2; round++) {
    using transport = openTransport({ kind: 'unix', path: place.path, server: true });
    await transport.listening;
    const socket = connect(place.path);
    const served = serveQtest(await transport.stream, new FlatTarget());
    t.teardown(() => served[Symbol.dispose]());
    t.is(await ask(socket, 'endianness'), 'OK little\n');
    socket.destroy();
  }
});

test('a file that is no socket stays', async t => {
  using place = scratch();
  writeFileSync(place.path, 'precious');
  using transport = openTransport({ kind: 'unix', path: place.path, server: true });
  await t.throwsAsync(transport.stream);
  t.true(existsSync(place.path));
});

test('nobody listens there', async t => {
  using place = scratch();
  using transport = openTransport({ kind: 'unix', path: place.path, server: false });
  await t.throwsAsync(transport.stream, { message: /ENOENT/ });
});
