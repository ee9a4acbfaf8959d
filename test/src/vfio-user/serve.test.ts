// `remora serve` as a person starts it: what it prints, whom it serves, how it ends, and what it says of mistakes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Descriptors } from '@remora/vfio-user';
import { ClientRam, VfioUserClient } from '@remora/vfio-user/client';
import { IDENTIFICATION, Reg } from '@hw/edu';
import test, { type ExecutionContext } from 'ava';
import { folderInRepository, MORTAL } from '../rig/processes.js';
import { koffiMissing } from './koffi.js';

const REMORA = fileURLToPath(new URL('../../../tools/bin/remora.js', import.meta.url));
const TUTORIAL = fileURLToPath(new URL('../../../docs/tutorials/device-in-a-real-guest.md', import.meta.url));
const CONFIG = 7;
const MSIX = 2;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Serving {
  readonly #child: ChildProcess;
  stdout = '';
  stderr = '';

  /** `node`: options of Node's. */
  constructor(args: readonly string[], node: readonly string[] = []) {
    const program = [...node, REMORA, 'serve', ...args];
    this.#child = spawn(process.execPath, program, { ...MORTAL, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  /** Resolves when it has said what QEMU takes. */
  async ready(): Promise<void> {
    while (!this.stdout.includes('-device')) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error(this.stderr);
      await Promise.race([once(this.#child.stdout!, 'data'), once(this.#child, 'exit')]);
    }
  }

  async ended(): Promise<Ended> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close');
    return { code: this.#child.exitCode, stdout: this.stdout, stderr: this.stderr };
  }

  end(): Promise<Ended> {
    this.#child.kill('SIGTERM');
    return this.ended();
  }
}

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), 'remora-serve-'));
  t.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Ends a child that a failed test leaves. */
function serving(t: ExecutionContext, ...args: string[]): Serving {
  const started = new Serving(args);
  t.teardown(() => started.end());
  return started;
}

test('a device is served until the command is told to end; QEMU is told how to take it', async t => {
  const at = folder(t);
  const [socket, memory] = [join(at, 'edu.sock'), join(at, 'ram')];
  writeFileSync(memory, new Uint8Array(0x2000));
  const edu = serving(t, 'edu,addr=5', '--socket', socket, '--memory', memory);
  await edu.ready();
  const client = await VfioUserClient.connect(socket);
  t.is(await client.readNumber(CONFIG, 0, 4), 0x11e8_1234);
  t.is(await client.readNumber(0, Reg.ID, 4), IDENTIFICATION);
  await client.write(CONFIG, 4, Uint8Array.of(6, 0));
  await client.dmaMap({ address: 0x10_0000, size: 0x2000, offset: 0 });
  writeFileSync(memory, 'guest memory', { flag: 'r+' });
  await copyTwice(client, 0x1000);
  t.is(readFileSync(memory).toString('latin1', 0x1000, 0x100c), 'guest memory');
  const { code, stdout, stderr } = await edu.end();
  t.deepEqual([code, stderr], [0, '']);
  t.true(stdout.startsWith(`edu is served at ${socket}\n`));
  t.true(stdout.includes(`-object memory-backend-file,id=ram,size=512M,share=on,mem-path=${memory}`));
  t.true(
    stdout.includes(`-device '{"driver":"vfio-user-pci","addr":"5.0","socket":{"type":"unix","path":"${socket}"}}'`),
  );
  t.false(existsSync(socket));
});

test('--memory message: the client is asked for what is in its memory', async t => {
  const socket = join(folder(t), 'edu.sock');
  const edu = serving(t, 'edu', '--socket', socket, '--memory', 'message');
  await edu.ready();
  using client = await VfioUserClient.connect(socket);
  const ram = new ClientRam(0x10_0000, new Uint8Array(0x2000));
  ram.bytes.set(Buffer.from('guest memory'));
  client.memory = message => ram.answer(message);
  await client.write(CONFIG, 4, Uint8Array.of(6, 0));
  await client.dmaMap({ address: ram.base, size: ram.bytes.length });
  await copyTwice(client, 0x1000);
  t.is(Buffer.from(ram.bytes).toString('latin1', 0x1000, 0x100c), 'guest memory');
  const { code, stdout, stderr } = await edu.end();
  t.is(code, 0);
  t.regex(stderr, /^(remora: .*: the client is lost: .*\n)*$/);
  t.true(stdout.includes('-machine q35 -m 512M'));
});

test('several devices in a folder, each on its socket; without memory that is said', async t => {
  const at = folder(t);
  const both = serving(t, 'edu,id=a', 'dma-engine', '--socket', at);
  await both.ready();
  for (const [name, id] of [
    ['a', 0x11e8_1234],
    ['dma-engine', undefined],
  ] as const) {
    const client = await VfioUserClient.connect(join(at, `${name}.sock`));
    const found = await client.readNumber(CONFIG, 0, 4);
    if (id === undefined) t.not(found, 0x11e8_1234);
    else t.is(found, id);
    client[Symbol.dispose]();
  }
  const { code, stderr } = await both.end();
  t.is(code, 0);
  t.is(stderr, 'remora: no --memory: what a device reads or writes in memory is refused\n');
});

const noKoffi = koffiMissing();
const withKoffi = noKoffi === undefined ? test : test.skip;
const because = noKoffi === undefined ? '' : ` (skipped: ${noKoffi})`;

/** The device copies 12 bytes of its guest's memory, which is at 1 MiB, from the beginning to `to`. */
async function copyTwice(client: VfioUserClient, to: number): Promise<void> {
  const quad = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
  for (const [source, target, command] of [
    [0x10_0000, 0x4_0000, 1],
    [0x4_0000, 0x10_0000 + to, 3],
  ] as const) {
    await client.write(0, Reg.DMA_SRC, quad(source));
    await client.write(0, Reg.DMA_DST, quad(target));
    await client.write(0, Reg.DMA_COUNT, quad(12));
    await client.write(0, Reg.DMA_CMD, quad(command));
    while (((await client.read(0, Reg.DMA_CMD, 8))[0]! & 1) !== 0) await new Promise(resolve => setTimeout(resolve, 5));
  }
}

/** What QEMU passes: its guest's memory. Returns what the device copied from its beginning to `to`. */
async function copied(t: ExecutionContext, socket: string, memory: string, to: number): Promise<string> {
  using client = await VfioUserClient.over(new Descriptors().connect(socket), { max_msg_fds: 8 });
  const fd = openSync(memory, 'r+');
  t.teardown(() => closeSync(fd));
  await client.write(CONFIG, 4, Uint8Array.of(6, 0));
  await client.dmaMap({ address: 0x10_0000, size: 0x2000, offset: 0, fd });
  await copyTwice(client, to);
  return readFileSync(memory).toString('latin1', to, to + 12);
}

withKoffi(`--fds: memory comes with the client, and no file needs to be named${because}`, async t => {
  const at = folder(t);
  const [socket, memory] = [join(at, 'edu.sock'), join(at, 'ram')];
  writeFileSync(memory, 'guest memory'.padEnd(0x2000, '\0'));
  const edu = serving(t, 'edu', '--socket', socket, '--fds');
  await edu.ready();
  t.is(await copied(t, socket, memory, 0x1000), 'guest memory');
  const { code, stdout, stderr } = await edu.end();
  t.deepEqual([code, stderr], [0, '']);
  t.true(stdout.includes('-machine q35,memory-backend=ram -m 512M'));
  t.true(stdout.includes('-object memory-backend-memfd,id=ram,size=512M,share=on'));
  t.false(existsSync(socket));
});

withKoffi(`a device that needs descriptors gets them, beside one that does not${because}`, async t => {
  const at = folder(t);
  const memory = join(at, 'ram');
  writeFileSync(memory, 'guest memory'.padEnd(0x2000, '\0'));
  const both = serving(t, 'nvme,msi=false', 'edu', '--socket', at, '--memory', memory);
  await both.ready();
  using disk = await VfioUserClient.over(new Descriptors().connect(join(at, 'nvme.sock')));
  t.is((await disk.irqInfo(MSIX)).count, 65);
  using edu = await VfioUserClient.connect(join(at, 'edu.sock'));
  t.is((await edu.irqInfo(MSIX)).count, 0);
  const { code, stderr } = await both.end();
  t.is(code, 0);
  t.regex(stderr, /^(remora: .*: the client is lost: .*\n)*$/);
});

test('without koffi: what needs it says so, and everything else is as it is', async t => {
  const at = folder(t);
  const without = join(at, 'without.cjs');
  const absent = `Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' })`;
  writeFileSync(
    without,
    `const Module = require('node:module');
    const load = Module._load;
    Module._load = (name, ...more) => { if (name === 'koffi') throw ${absent}; return load(name, ...more); };`,
  );
  const start = (...args: string[]): Serving => {
    const started = new Serving(args, ['--require', without]);
    t.teardown(() => started.end());
    return started;
  };
  for (const [device, needs] of [
    ['nvme,msi=false', 'devices[0]: MSI-X, which takes event descriptors,'],
    ['nvme,msi=false,msix=false', 'devices[0]: INTx, which takes event descriptors,'],
    ['edu', 'descriptors: to be passed descriptors'],
  ] as const) {
    const fds = device === 'edu' ? ['--fds'] : [];
    const { code, stderr } = await start(device, '--socket', join(at, 's'), ...fds).ended();
    t.is(code, 2);
    t.is(stderr, `remora: ${needs} needs koffi, which is not installed here: npm install koffi\n`);
  }
  const nvme = start('nvme', '--socket', join(at, 's'), '--memory', join(at, 'ram'));
  await nvme.ready();
  t.is((await nvme.end()).code, 0);
});

test("a person's own device, from a TypeScript file: that of the tutorial", async t => {
  const own = folderInRepository(t, 'lamp-');
  writeFileSync(join(own, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(own, 'lamp.ts'), /```ts\n\/\/ lamp\.ts\n(.*?)```/s.exec(readFileSync(TUTORIAL, 'utf8'))![1]!);
  const socket = join(folder(t), 'lamp');
  const lamp = serving(t, `${join(own, 'lamp.ts')},colour=7`, '--socket', socket, '--memory', '/nonexistent');
  await lamp.ready();
  const client = await VfioUserClient.connect(socket);
  t.is(await client.readNumber(0, 0, 4), 7);
  await client.write(0, 0, Uint8Array.of(5, 0, 0, 0));
  t.is(await client.readNumber(0, 0, 4), 5);
  await client.reset();
  t.is(await client.readNumber(0, 0, 4), 7);
  t.is((await lamp.end()).code, 0);
});

test('a mistake is one line, and exit code 2', async t => {
  const { code, stderr } = await serving(t, 'eud', '--socket', join(folder(t), 's')).ended();
  t.is(code, 2);
  t.regex(stderr, /^remora: devices\[0\]: "eud" is not a device.*\n$/);
});
