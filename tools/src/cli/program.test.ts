import test, { type ExecutionContext } from 'ava';
import { ConfigError } from '@remora/core';
import { shippedRecordings } from '../replay/index.js';
import { program } from './program.js';
import { UsageError } from './usage-error.js';

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function remora(...args: string[]): Promise<Outcome> {
  const out: string[] = [];
  const err: string[] = [];
  const exitCode = await program(args, {
    stdout: { write: text => out.push(text), columns: 200 },
    stderr: { write: text => err.push(text) },
  });
  return { exitCode, stdout: out.join(''), stderr: err.join('') };
}

async function mistake(t: ExecutionContext, args: string[], message: RegExp): Promise<void> {
  const error = await t.throwsAsync(remora(...args));
  t.true(error instanceof UsageError || error instanceof ConfigError, String(error));
  t.regex(error.message, message);
  t.false(error.message.includes('\n'), 'one line');
}

interface Event {
  readonly id: number;
  readonly cause: number;
  readonly source: string;
  readonly kind: string;
  readonly data: Record<string, unknown>;
}

async function events(seed: number): Promise<Event[]> {
  const { stdout } = await remora('run', 'vsva', '--json', '--seed', String(seed));
  return stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Event)
    .filter(event => 'kind' in event);
}

test('run vsva: the table tells the way from the guest to DMA, and all recordings replay', async t => {
  const { exitCode, stdout, stderr } = await remora('run', 'vsva');
  t.is(exitCode, 0);
  t.is(stderr, '');
  const calls = ['PASID_REQUEST 0x3b7a argsz=20', 'BIND 0x3b7b argsz=80', 'CACHE_INVALIDATE 0x3b7c', 'argsz=56'];
  for (const call of calls) t.true(stdout.includes(call), call);
  t.regex(stdout, /FAULT 0x59/);
  t.regex(stdout, /REFUSED/);
  t.is(stdout.match(/ 0 mismatches/g)?.length, shippedRecordings().length);
});

test('run shadow: what the guest reports becomes MAP_DMA and UNMAP_DMA, and DMA follows', async t => {
  const { exitCode, stdout, stderr } = await remora('run', 'shadow');
  t.is(exitCode, 0);
  t.is(stderr, '');
  for (const call of ['VFIO_IOMMU_MAP_DMA 0x3b71 argsz=32', 'VFIO_IOMMU_UNMAP_DMA 0x3b72 argsz=24']) {
    t.true(stdout.includes(call), call);
  }
  t.regex(stdout, /FAULT 0x79/);
  t.regex(stdout, /REFUSED/);
});

test('run --json: each host call is caused by a decision of the vIOMMU, and that by a step of the guest', async t => {
  const all = await events(1);
  const byId = new Map(all.map(event => [event.id, event]));
  const names = ['VFIO_IOMMU_BIND', 'VFIO_IOMMU_CACHE_INVALIDATE'];
  const calls = all.filter(event => event.kind === 'ioctl' && names.includes(String(event.data['name'])));
  t.deepEqual(
    calls.map(call => call.data['name']),
    ['VFIO_IOMMU_BIND', 'VFIO_IOMMU_CACHE_INVALIDATE', 'VFIO_IOMMU_BIND'],
  );
  for (const call of calls) {
    const kinds: string[] = [];
    for (let event = byId.get(call.cause); event !== undefined; event = byId.get(event.cause)) kinds.push(event.kind);
    t.deepEqual(kinds, ['decision', 'descriptor', 'mmio-write', 'guest-step']);
  }
});

test('run --seed: addresses and PASIDs move with the seed, and only with it', async t => {
  const binding = (all: readonly Event[]): unknown =>
    all.find(event => event.data['name'] === 'VFIO_IOMMU_BIND' && event.kind === 'ioctl')?.data['bytes'];
  const targets = (all: readonly Event[]): unknown[] =>
    all
      .filter(event => event.kind === 'translation')
      .map(event => [event.data['hi'], event.data['lo'], event.data['toLo']]);
  const [one, again, other] = [await events(1), await events(1), await events(2)];
  t.deepEqual(one, again);
  t.not(binding(one), binding(other));
  t.notDeepEqual(targets(one), targets(other));
});

test('run --verbose: every event, below its cause', async t => {
  const { stdout } = await remora('run', 'vsva', '--verbose');
  t.regex(stdout, /\n {2}vm0\/intel-iommu mmio-write .*\n {4}vm0\/intel-iommu descriptor /);
});

test('run: a machine whose guest does nothing says so', async t => {
  const { exitCode, stdout } = await remora('run', 'q35-testdev');
  t.is(exitCode, 0);
  t.regex(stdout, /^q35-testdev runs: .*intel-iommu.*; its guest does nothing by itself\n$/);
});

test('info: buses, address spaces and capabilities', async t => {
  const { stdout } = await remora('info', 'vsva');
  t.regex(stdout, /0000:00:03\.0 {2}1f1f:d0e0 {2}vm0\/vfio-pci {2}MSI, MSI-X, Express, PASID \(20 bits\)/);
  t.regex(stdout, /00000000fed90000-00000000fed90fff .*intel-iommu-registers/);
  t.regex(stdout, /ecap: .*smts=1 vcs=1 fsts=1/);
  const json = JSON.parse((await remora('info', 'vsva', '--json')).stdout) as Record<string, unknown>;
  t.deepEqual(Object.keys(json), ['board', 'devices']);
});

test("walk: each table of the guest's, then the host's nested walk", async t => {
  const pasid = await firstPasid();
  const { exitCode, stdout } = await remora('walk', 'vsva', '00:03.0', pasid.pasid, pasid.iova);
  t.is(exitCode, 0);
  const [guest, host] = stdout.split('host/vtd, for 0000:3f:00.0\n') as [string, string];
  const kinds = (text: string): string[] => [...text.matchAll(/^ {2}0x\S+ +(\S+ \S+)/gm)].map(match => match[1]!);
  t.deepEqual(kinds(guest).slice(0, 4), ['root entry', 'context entry', 'PASID directory', 'PASID entry']);
  t.is(kinds(guest).filter(kind => kind === 'paging entry').length, 4);
  t.regex(guest, /-> 0x[0-9a-f]+ rw \(page of 2\^12 bytes\)/);
  t.is(
    kinds(host).filter(kind => kind === 'paging entry').length,
    4 * 5 + 4,
    'four tables and the page, each by four levels',
  );
  t.regex(host, /PASID entry +p=1 aw=2 pgtt=3/);
});

async function firstPasid(): Promise<{ pasid: string; iova: string }> {
  const translated = (await events(1)).find(event => event.kind === 'translation' && Number(event.data['pasid']) > 0)!;
  const { pasid, hi, lo } = translated.data as { pasid: number; hi: number; lo: number };
  return { pasid: String(pasid), iova: `0x${((BigInt(hi) << 32n) | BigInt(lo)).toString(16)}` };
}

test('walk: a PASID that is not bound faults, in words', async t => {
  const { stdout } = await remora('walk', 'vsva', '00:03.0', '3', '0x1000');
  t.regex(
    stdout,
    /PASID directory +not present\n {2}fault SPD\.2 \(0x51: PASID directory entry not present\)|PASID entry +not present\n {2}fault SPT\.2/,
  );
});

test('mistakes are told in one line', async t => {
  await mistake(t, ['run', 'vsav'], /^there is no machine "vsav".*vsva/);
  await mistake(t, ['run', 'nowhere.ts'], /^nowhere\.ts: no such file$/);
  await mistake(t, ['run', 'vsva', '--seed', 'x'], /^--seed: "x" is not a whole number/);
  await mistake(t, ['run', 'vsva', '--bogus'], /^unknown option '--bogus'/);
  await mistake(t, ['run'], /^missing required argument 'machine'/);
  await mistake(t, ['dance'], /dance/);
  await mistake(t, ['walk', 'vsva', '00:09.0', '1', '0'], /has no device at 00:09\.0/);
  await mistake(t, ['walk', 'vsva', 'zz', '1', '0'], /"zz" is not a PCI address/);
  await mistake(
    t,
    ['walk', 'vsva', '00:03.0', '1048576', '0'],
    /^pasid: "1048576" is not a whole number up to 0xfffff$/,
  );
  await mistake(t, ['walk', 'vsva', '00:03.0', '1', '0x1g'], /^iova: "0x1g"/);
  await mistake(t, ['walk', 'vsva', '00:03.0', '1', '0', '--after', 'lunch'], /has no step "lunch"; expected start, /);
  await mistake(t, ['walk', 'q35-passthrough', '00:03.0', '1', '0'], /has no intel-iommu/);
});

test('replay reports a bad file and exits with 2', async t => {
  const { exitCode, stderr } = await remora('replay', 'nowhere.trace.gz');
  t.is(exitCode, 2);
  t.regex(stderr, /^remora replay: nowhere\.trace\.gz: .*\n$/);
});

test('--version', async t => {
  const { exitCode, stdout } = await remora('--version');
  t.is(exitCode, 0);
  t.regex(stdout, /^\d+\.\d+\.\d+\n$/);
});

test('help names the commands and the machines', async t => {
  const { exitCode, stdout } = await remora('--help');
  t.is(exitCode, 0);
  for (const word of ['run', 'replay', 'info', 'walk', 'vsva', 'q35-testdev'])
    t.regex(stdout, new RegExp(`^ +${word} `, 'm'));
});

test('host: a function that is not there, and one that cannot be', async t => {
  const { exitCode, stdout } = await remora('host', '1e:1f.7');
  t.is(exitCode, 1);
  t.is(stdout, 'there is no PCI function 0000:1e:1f.7\n  `lspci -D` lists those that there are\n');
  await mistake(t, ['host', '1e:20.7'], /^function: "1e:20\.7"/);
});

test('live --record: mistakes are told before anything is fetched or started', async t => {
  await mistake(
    t,
    ['live', '--mode', 'all', '--record', 'boot.trace'],
    /^--record: a recording is of one mode: --mode/,
  );
  await mistake(
    t,
    ['live', '--record', '/nowhere/boot.trace'],
    /^--record: \/nowhere\/boot\.trace: no such file or folder$/,
  );
  await mistake(
    t,
    ['live', '--mode', 'host', '--record', 'boot.trace'],
    /^--record: mode host is not recorded: all but host and host-nesting are$/,
  );
  await mistake(t, ['live', '--record', '/'], /^--record: \/ is there, and is no file$/);
});
