/** What a broken or hostile test program sends: it gets the protocol's error, the machine goes on, and nothing of it stays. */
import { createConnection, createServer, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test, { type ExecutionContext } from 'ava';
import { serveQtest } from '@remora/qtest';
import { inProcess, type InProcess } from './in-process.js';
import { LineSocket, ProgramUnderTest } from './program-under-test.js';

const ARGS = ['-M', 'q35', '-net', 'none', '-device', 'intel-iommu', '-device', 'iommu-testdev'];

interface Bench {
  readonly program: InProcess;
  /** Sessions that were ended. */
  ended(): number;
  connect(): Promise<{ readonly lines: LineSocket; readonly socket: Socket }>;
}

/** A machine that any number of clients reach by a socket. */
async function bench(t: ExecutionContext): Promise<Bench> {
  const program = inProcess(ARGS);
  const folder = mkdtempSync(join(tmpdir(), 'qtest-'));
  let ended = 0;
  const server = createServer(socket => void serveQtest(socket, program.system.qtest, { ended: () => ended++ }));
  await new Promise<void>(resolve => server.listen(join(folder, 'socket'), resolve));
  t.teardown(() => {
    server.close();
    program[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });
  const connect = async (): Promise<{ readonly lines: LineSocket; readonly socket: Socket }> => {
    const socket = createConnection(join(folder, 'socket'));
    await new Promise<void>(resolve => socket.once('connect', resolve));
    return { lines: new LineSocket(socket), socket };
  };
  return { program, ended: () => ended, connect };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5));
}

test.serial('errors of every kind, and the machine answers as before', async t => {
  const { connect } = await bench(t);
  const { lines, socket } = await connect();
  const wrong = [
    ...['readb', 'readb 0x10000000000000000', 'writeq 0 99999999999999999999', 'read 0 0', 'read 0 0x80000000'],
    ...['write 0 0x80000000 0xff', 'write 0x0 4 hello', 'b64write 0 4 *', 'memset 0 0x80000000 0', 'outl 0x10000 0'],
    ...[
      'clock_step -1',
      'set_irq_in ioapic unnamed-gpio-in 24 1',
      'irq_intercept_in nowhere',
      'irq_intercept_out ioapic x',
    ],
    ...['\u0000', 'quit', 'writeb 0xfed90000', `readb ${'0'.repeat(5000)}1`],
  ];
  for (const line of wrong) {
    lines.send(`${line}\n`);
    t.regex(await lines.line(), /^FAIL /, line.slice(0, 40));
  }
  lines.send('readq 0xfed90010\nreadl 0xfed9001c\nread 0x0 0x8\n');
  t.deepEqual(
    [await lines.line(), await lines.line(), await lines.line()],
    ['OK 0x0000000000f00f4a', 'OK 0x0000000000000000', 'OK 0x0000000000000000'],
  );
  socket.destroy();
});

test.serial('addresses without anybody, up to the last byte', async t => {
  const { program } = await bench(t);
  for (const command of ['readq 0xffffffffffffffff', 'readl 0xfffffffffffffffc', 'readw 0x7fffffffffffffff'])
    t.is(program.ask(command), 'OK 0x0000000000000000');
  t.is(program.ask('read 0xfffffffffffffff0 0x20'), `OK 0x${'00'.repeat(32)}`);
  t.is(program.ask('writeq 0xffffffffffffffff 1'), 'OK');
  t.is(program.ask('memset 0xfffffffffffff000 0x40000000 0xff'), 'OK');
  t.is(program.ask('memset 0x7ffff00 0x40000000 0xff'), 'OK', '128 MiB end there');
  t.is(program.ask('read 0x7fffeff 0x2'), 'OK 0x00ff');
  t.is(program.ask('read 0x7ffffff 0x2'), 'OK 0xff00');
  t.is(program.ask('readl 0xfed90000'), 'OK 0x0000000000000010', 'registers beyond it are not overrun by a length');
});

test.serial('clients that vanish in the middle of a command leave nothing', async t => {
  const { connect, ended, program } = await bench(t);
  for (let client = 0; client < 20; client++) {
    const { lines, socket } = await connect();
    lines.send('irq_intercept_in ioapic\n');
    t.is(await lines.line(), 'OK');
    lines.send('writeb 0x1000 0x5');
    if (client % 2 === 0) socket.destroy();
    else socket.end();
  }
  await until(() => ended() === 20);
  t.is(ended(), 20);
  t.is(program.ask('readb 0x1000'), 'OK 0x0000000000000000');
  t.is(program.ask('irq_intercept_in ioapic'), 'OK');
  program.ask('set_irq_in ioapic unnamed-gpio-in 7 1');
  t.deepEqual(program.told, ['IRQ raise 7'], 'nobody else is told, or all would have failed');
});

test.serial('a line without an end does not fill memory', async t => {
  const { connect } = await bench(t);
  const { lines, socket } = await connect();
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const kept = (): number => {
    // What the first one frees is counted by the second.
    collectGarbage();
    collectGarbage();
    return process.memoryUsage().arrayBuffers;
  };
  const before = kept();
  const chunk = Buffer.alloc(2 ** 20, 0x61);
  for (let mebibyte = 0; mebibyte < 96; mebibyte++) {
    if (!socket.write(chunk)) await new Promise<void>(resolve => socket.once('drain', resolve));
  }
  t.true(kept() - before < 64 * 2 ** 20);
  lines.send('\nreadl 0xfed90000\n');
  t.is(await lines.line(), 'FAIL the line is too long');
  t.is(await lines.line(), 'OK 0x0000000000000010');
  socket.destroy();
});

test.serial('the program goes on after garbage, and its monitor too', async t => {
  await using program = await ProgramUnderTest.start(ARGS);
  for (const line of ['write 0 0x80000000 0xff', '\xff\xfe\x00', 'readb '.repeat(1000)]) {
    t.regex(await program.ask(line), /^FAIL /);
  }
  t.is(await program.ask('readl 0xfed90000'), 'OK 0x0000000000000010');
  await program.reset();
  t.is(await program.stop(), 0);
});
