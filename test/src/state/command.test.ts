/** `remora save` and `remora restore` as processes: what a person types, with mistakes in it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type Ended, folderInRepository, remora } from '../rig/processes.js';

/** Many processes, on a machine that may be busy. */
const TIMEOUT_MS = 900_000;
const MACHINE = fileURLToPath(new URL('../../fixtures/my-machine.ts', import.meta.url));

interface Event {
  readonly kind: string;
  readonly data: Readonly<Record<string, unknown>>;
}

function fails(t: ExecutionContext, { exitCode, stdout, stderr }: Ended, message: RegExp): void {
  t.is(exitCode, 2);
  t.is(stdout, '');
  t.regex(stderr, message);
  t.is(stderr.trim().split('\n').length, 1, stderr);
}

/** What reached the host and what DMA came of it: ioctls by name, fields and result, and transfers. */
function atTheHost(lines: string): unknown[] {
  const events = lines
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Event);
  return events.flatMap(({ kind, data }): unknown[] => {
    if (kind === 'ioctl') return [[data['name'], data['fields'], data['result']]];
    return kind === 'dma' ? [data] : [];
  });
}

test('vsva goes on after any of its steps: the host is asked the same, and DMA ends the same', async t => {
  t.timeout(TIMEOUT_MS);
  const folder = folderInRepository(t, 'state-');
  const whole = atTheHost((await remora('run', 'vsva', '--json', '--seed', '5')).stdout);
  for (const count of [0, 3, 6, 9]) {
    const file = join(folder, `${count}.rms`);
    const saved = await remora('save', 'vsva', file, '--steps', String(count), '--seed', '5', '--json');
    t.is(saved.exitCode, 0, saved.stderr);
    t.like(JSON.parse(saved.stdout), { steps: 9, resumable: true });
    const restored = await remora('restore', file, '--run', '--json');
    t.is(restored.stderr, '');
    t.is(restored.exitCode, 0);
    const [first = '', ...events] = restored.stdout.trim().split('\n');
    const { resumed } = JSON.parse(first) as { resumed: { what: string }[] };
    t.deepEqual(
      resumed.map(({ what }) => what),
      [...(count >= 3 && count < 8 ? ['PASID'] : []), ...(count >= 3 && count < 7 ? ['binding'] : []), 'host device'],
    );
    const rest = events.length === 0 ? [] : atTheHost(events.join('\n'));
    t.deepEqual(rest, whole.slice(whole.length - rest.length), `after ${count} steps`);
    t.is(rest.length > 0, count < 9);
  }
});

test('what was restored is told, aligned; on a host with another seed the guest still ends well', async t => {
  t.timeout(TIMEOUT_MS);
  const file = join(folderInRepository(t, 'state-'), 'vsva.rms');
  const saved = await remora('save', 'vsva', file, '--after', 'bind');
  t.regex(saved.stdout, /vsva, 3 of 9 steps done, \d+ bytes/);
  const { exitCode, stdout, stderr } = await remora('restore', file, '--run', '--seed', '99');
  t.is(stderr, '');
  t.is(exitCode, 0);
  t.regex(stdout, /intel-iommu {2}PASID {8}0x[0-9a-f]+ is the guest's again\n/);
  t.regex(stdout, /intel-iommu {2}binding {6}PASID 0x[0-9a-f]+ of 03\.0, from the guest's table\n/);
  t.regex(stdout, /vfio-pci {5}host device {2}0000:3f:00\.0/);
  t.regex(stdout, /its guest \(vsva\) has done start, allocate, bind\n/);
  t.regex(stdout, /CACHE_INVALIDATE/);
  t.regex(stdout, /REFUSED/, 'the last step: the engine is refused');
  const all = (await remora('save', 'vsva', file)).stdout;
  t.regex(all, /9 of 9 steps done/);
});

const GUEST = `
import { createMachine, defineMachine } from '@remora/machine';
import q35 from '@hw/q35/plugin';

class Counter {
  constructor(machine, from) {
    this.machine = machine;
    this.count = from === undefined ? 0 : from.integer('count');
  }
  get steps() {
    return ['one', 'two', 'three'].map(id => ({ id, title: id, run: () => this.next() }));
  }
  next() {
    const bytes = new Uint8Array(1);
    this.machine.memory.read(0, 0x1000, bytes);
    if (bytes[0] !== this.count) throw new Error('memory has ' + bytes[0] + ', not ' + this.count);
    this.machine.memory.write(0, 0x1000, Uint8Array.of(++this.count));
  }
  save(into) {
    into.integer('count', this.count);
  }
}

export default defineMachine({
  name: 'counter',
  description: 'counts',
  create: () => createMachine(undefined, { board: 'q35,memory=4M', plugins: [q35] }),
  guest: (machine, request, from) => new Counter(machine, from),
});
`;

test("a person's own machine and guest go on, from their file", async t => {
  t.timeout(TIMEOUT_MS);
  const folder = folderInRepository(t, 'state-');
  const machine = join(folder, 'counter.ts');
  const file = join(folder, 'counter.rms');
  await writeFile(machine, GUEST);
  t.is((await remora('save', machine, file, '--after', 'two')).exitCode, 0);
  const there = await remora('restore', file, '--run', '--machine', machine);
  t.is(there.stderr, '');
  t.is(there.exitCode, 0);
  fails(
    t,
    await remora('restore', file, '--run'),
    /is of "counter", which is not in Remora: name its file by --machine/,
  );
  t.is((await remora('restore', file)).exitCode, 0, 'without its guest it needs nothing but the file');
  await writeFile(machine, GUEST.replace("'two'", "'zwei'"));
  const other = await remora('restore', file, '--run', '--machine', machine);
  t.is(other.exitCode, 2);
  t.regex(other.stderr, /its guest did one, two, and the steps here are one, zwei, three/);
  await writeFile(machine, GUEST.replace('memory=4M', 'memory=8M'));
  fails(t, await remora('restore', file, '--machine', machine), /board\.memory: 4194304 in the state, 8388608 here/);
});

test('a guest that was not made to be saved: the machine is saved, its guest cannot go on, and both are said', async t => {
  t.timeout(TIMEOUT_MS);
  const file = join(folderInRepository(t, 'state-'), 'my.rms');
  const saved = await remora('save', MACHINE, file);
  t.is(saved.exitCode, 0);
  t.regex(saved.stdout, /its guest cannot go on from there/);
  t.is((await remora('restore', file)).exitCode, 0);
  fails(
    t,
    await remora('restore', file, '--run', '--machine', MACHINE),
    /cannot go on from it: its definition has no guest\(\) with save\(\)/,
  );
});

test('mistakes are told in one line', async t => {
  t.timeout(TIMEOUT_MS);
  const folder = folderInRepository(t, 'state-');
  const file = join(folder, 'x.rms');
  fails(t, await remora('save', 'vsva', file, '--after', 'bnid'), /vsva has no step "bnid"; expected start, allocate/);
  fails(t, await remora('save', 'vsva', file, '--steps', '10'), /vsva has 9 steps, not 10/);
  fails(t, await remora('save', 'vsva', file, '--steps', 'two'), /--steps: "two" is not a number of steps/);
  fails(t, await remora('save', 'vsva', file, '--steps', '2', '--after', 'bind'), /exclude each other/);
  fails(t, await remora('save', 'vsav', file), /there is no machine "vsav"; did you mean "vsva"/);
  fails(t, await remora('save', 'vsva', join(folder, 'no', 'x.rms')), /x\.rms: no such file or folder/);
  fails(t, await remora('save', 'vsva', folder), /is a folder/);
  fails(t, await remora('save', 'vsva'), /missing required argument 'file'/);
  fails(t, await remora('restore', file), /x\.rms: no such file or folder/);
  fails(t, await remora('restore', MACHINE), /my-machine\.ts: is not a state file of Remora/);
  t.is((await remora('save', 'q35-testdev', file)).exitCode, 0);
  fails(t, await remora('restore', file, '--run'), /x\.rms: its guest does nothing by itself/);
  fails(t, await remora('restore', file, '--machine', 'vsva'), /board\.memory: \d+ in the state, \d+ here/);
  const bytes = await readFile(file);
  await writeFile(file, bytes.subarray(0, 1000));
  fails(t, await remora('restore', file), /x\.rms: is truncated: 1000 of \d+ bytes are left/);
  bytes[700]! ^= 1;
  await writeFile(file, bytes);
  fails(t, await remora('restore', file), /x\.rms: is damaged: its checksum is wrong/);
});
