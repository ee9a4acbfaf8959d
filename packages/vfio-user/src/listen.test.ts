import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import test from 'ava';
import { ConfigError } from '@remora/core';
import { listen } from './listen.js';

const folder = mkdtempSync(join(tmpdir(), 'remora-listen-'));
test.after.always(() => rmSync(folder, { recursive: true }));

async function mistake(path: string): Promise<string> {
  try {
    (await listen(path, () => undefined))[Symbol.dispose]();
    return 'none';
  } catch (failure) {
    if (failure instanceof ConfigError) return failure.message;
    throw failure;
  }
}

test('clients are taken while it listens, and the socket is gone afterwards', async t => {
  const path = join(folder, 'a');
  const taken: unknown[] = [];
  const listening = await listen(path, stream => taken.push(stream.destroy()));
  await once(createConnection(path).resume(), 'close');
  t.is(taken.length, 1);
  t.regex(await mistake(path), /^socket: .*a is in use: something listens there/);
  listening[Symbol.dispose]();
  t.false(existsSync(path));
});

test('a socket that a dead server left there is taken over; a file is not', async t => {
  const path = join(folder, 'b');
  const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', program], { timeout: 240_000, killSignal: 'SIGKILL' });
  t.true(existsSync(path));
  t.is(await mistake(path), 'none');
  writeFileSync(path, 'precious');
  t.regex(await mistake(path), /^socket: .*b is there already, and no socket/);
});

test('a name that the kernel would cut, and one in a folder that is not there', async t => {
  t.regex(await mistake(join(folder, 'x'.repeat(107))), /^socket: .* bytes long, and a socket's name 107 at most/);
  t.regex(await mistake(join(folder, 'none', 'c')), /^socket: .*none is no folder$/);
});
