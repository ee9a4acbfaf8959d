/**
 * VMs whose containers have a VMID: the machine carries it from container to container, and what the host's unit caches of one VM is
 * neither used by another nor flushed with it. The host's tables are blanked behind the unit's back, so that only its caches answer.
 */
import test, { type ExecutionContext } from 'ava';
import { ConfigError, Errno, type Ram } from '@remora/core';
import type { HostProcess, KernelKnobs, SimulatedHost } from '@remora/host-sim';
import { createMachine, type Host, type Machine } from '@remora/machine';
import { ENGINE, GuestEngine, lendingHost, SECOND_ENGINE } from '@remora/machines';
import { owner } from '@remora/testing';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { first, second } from '../behaviours/vmid.js';
import { HostLog } from '../rig/host-log.js';
import type { NestingContainer } from '../rig/nesting-container.js';

const PAGE = 4096;
const SET_IOMMU = 0x3b66;
const GET_VMID = 0x3b7a;
const SET_VMID = 0x3b7b;
const NESTING = 6;
const TYPE1V2 = 3;
const WORDS = new Set([SET_IOMMU, GET_VMID, SET_VMID]);
const BAR = 0xe000_0000;
const AT = 7;
/** Nothing of the way to it is on the way to AT. */
const OTHER = 2 ** 27 + 9;
const BYTES = Uint8Array.of(0xca, 0xfe);

function vmidHost(t: ExecutionContext, kernel: Partial<KernelKnobs> = {}): Host<SimulatedHost> {
  return owner(t)(lendingHost({ memory: 32 * 0x10_0000, kernel: { uapi: 'vmid-rfc-v2', ...kernel } }));
}

interface Vm extends Disposable {
  readonly machine: Machine;
  /** The calls that concern VMIDs since the last time, by name, with a number that is the argument or the answer. */
  take(): string[];
}

function vm(host: Host<SimulatedHost>, devices: readonly string[], more: readonly string[] = []): Vm {
  let log: HostLog | undefined;
  const machine = createMachine(host, {
    board: 'q35,memory=4M',
    plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin],
    devices: [...more, ...devices],
    interpose: syscalls => (log = new HostLog(syscalls)),
  });
  machine.start();
  const take = (): string[] =>
    log!.calls.splice(0).flatMap(({ request, value, answer }) => {
      if (!WORDS.has(request)) return [];
      if (request === SET_IOMMU) return [`SET_IOMMU ${value}`];
      return [
        request === SET_VMID ? `SET_VMID ${value}` : `GET_VMID ${new DataView(answer.buffer).getUint32(0, true)}`,
      ];
    });
  return { machine, take, [Symbol.dispose]: () => machine[Symbol.dispose]() };
}

function device(host: string, addr: string, options = ''): string {
  return `vfio-pci,id=dev-${addr},host=${host},addr=${addr},container=new,x-vmid=on${options}`;
}

const BOTH = [device(ENGINE, '03.0'), device(SECOND_ENGINE, '04.0')];

/** Domain ids that serve requests, by requester id. */
function tags({ platform }: Host<SimulatedHost>): Record<string, number> {
  const { functions } = platform.dump()['iommu'] as {
    functions: { requesterId: number; pasids: { entry: Record<string, number> }[] }[];
  };
  return Object.fromEntries(functions.map(each => [each.requesterId.toString(16), each.pasids[0]!.entry['did']!]));
}

test('a machine gets its VMID from the first container and sets it on the second before SET_IOMMU', t => {
  const host = vmidHost(t);
  using one = vm(host, BOTH);
  const vmid = tags(host)['3f00']!;
  t.deepEqual(tags(host), { '3f00': vmid, '3f08': vmid });
  t.deepEqual(one.take(), [`SET_IOMMU ${NESTING}`, `GET_VMID ${vmid}`, `SET_VMID ${vmid}`, `SET_IOMMU ${NESTING}`]);
  for (const [index, addr] of ['00:03.0', '00:04.0'].entries()) {
    const engine = new GuestEngine(one.machine, addr, BAR + index * 0x10_0000);
    t.true(engine.fill({ to: 0x1000 * (index + 1), length: 2, pattern: 0xfeca }).ok);
    const read = new Uint8Array(2);
    one.machine.memory.read(0, 0x1000 * (index + 1), read);
    t.deepEqual(read, BYTES);
  }
});

test('the last container takes the VMID along: the next one gets another, and never that of a VM that has it by now', t => {
  const host = vmidHost(t);
  using one = vm(host, [BOTH[0]!]);
  const vmid = tags(host)['3f00']!;
  one.take();
  one.machine.unplug('dev-03.0');
  using other = vm(host, [BOTH[1]!]);
  t.deepEqual(other.take(), [`SET_IOMMU ${NESTING}`, `GET_VMID ${vmid}`]);
  one.machine.plug(BOTH[0]!);
  t.deepEqual(one.take(), [`SET_IOMMU ${NESTING}`, `GET_VMID ${vmid + 1}`]);
  t.deepEqual(tags(host), { '3f00': vmid + 1, '3f08': vmid });
});

test('one of two containers goes and comes back with the same VMID', t => {
  const host = vmidHost(t);
  using one = vm(host, BOTH);
  const before = tags(host);
  one.machine.unplug('dev-03.0');
  one.take();
  one.machine.plug(BOTH[0]!);
  t.deepEqual(one.take(), [`SET_VMID ${before['3f08']}`, `SET_IOMMU ${NESTING}`]);
  t.deepEqual(tags(host), before);
});

test('quirk-vmid-after-set-iommu: in the documented order the second container keeps the tag that the host chose for it', t => {
  const host = vmidHost(t);
  const late = ',quirk-vmid-after-set-iommu=on';
  using one = vm(host, [device(ENGINE, '03.0', late), device(SECOND_ENGINE, '04.0', late)]);
  const all = tags(host);
  t.deepEqual(one.take(), [
    `SET_IOMMU ${NESTING}`,
    `GET_VMID ${all['3f00']}`,
    `SET_IOMMU ${NESTING}`,
    `SET_VMID ${all['3f00']}`,
  ]);
  t.not(all['3f00'], all['3f08']);
});

test('a host that cannot nest is used without a VMID; one of the other series is refused', t => {
  const plain = vmidHost(t, { nestingType: false });
  using one = vm(plain, BOTH);
  t.deepEqual(one.take(), [`SET_IOMMU ${TYPE1V2}`, `SET_IOMMU ${TYPE1V2}`]);
  const rfc = vmidHost(t, { uapi: 'vsva-rfc-v3.1' });
  const before = rfc.platform.dump();
  t.throws(() => vm(rfc, BOTH), { instanceOf: ConfigError, message: /VFIO_IOMMU_GET_VMID: EFAULT/ });
  t.deepEqual(rfc.platform.dump(), before);
  const literal = vmidHost(t, { vmidDefects: { getAfterAttach: true } });
  t.throws(() => vm(literal, BOTH), { instanceOf: ConfigError, message: /VFIO_SET_IOMMU.*EPERM/ });
});

test('x-vmid is for devices that no vIOMMU translates', t => {
  for (const iommu of ['intel-iommu,x-scalable-mode=modern', 'intel-iommu,caching-mode=on']) {
    const host = vmidHost(t);
    const before = host.platform.dump();
    t.throws(() => vm(host, [BOTH[0]!], [iommu]), { instanceOf: ConfigError, message: /x-vmid.*no vIOMMU/ });
    t.deepEqual(host.platform.dump(), before);
  }
});

/** Acts while the roots of all second stages are blank. */
function withoutTables<T>(host: SimulatedHost, act: () => T): T {
  const { memory } = host;
  const { domains } = host.dump()['iommu'] as { domains: { rootFrame: number }[] };
  const saved = domains.map(({ rootFrame }) => {
    const bytes = new Uint8Array(PAGE);
    memory.read(0, rootFrame * PAGE, bytes);
    memory.write(0, rootFrame * PAGE, new Uint8Array(PAGE));
    return { rootFrame, bytes };
  });
  try {
    return act();
  } finally {
    for (const { rootFrame, bytes } of saved) memory.write(0, rootFrame * PAGE, bytes);
  }
}

interface Lent {
  readonly process: HostProcess;
  readonly container: NestingContainer;
  readonly ram: Ram;
}

/** A container with its VMID set, and a page at AT and at OTHER, neither of which was used yet. */
function lend(process: HostProcess, container: NestingContainer): Lent {
  const memory = process.mmap(2 * PAGE);
  if (typeof memory === 'number') throw new Error(`mmap: ${memory}`);
  container.map(AT, memory.address);
  container.map(OTHER, (memory.address + PAGE) as typeof memory.address);
  return { process, container, ram: memory.ram };
}

function arrives(t: ExecutionContext, { container, ram }: Lent, seed: number): void {
  t.true(container.writes(AT, Uint8Array.of(seed, seed)));
  const read = new Uint8Array(2);
  ram.read(0, 0, read);
  t.deepEqual(read, Uint8Array.of(seed, seed));
}

test("two VMs' translations stand side by side, and a flush of one leaves the other's alone", t => {
  const { platform } = vmidHost(t);
  const lent = [first, second].map((make, index) => {
    const process = platform.process(`vm${index}`);
    const container = make(platform, process);
    t.is(container.setVmid(0x40 + index), 0);
    t.is(container.setIommu(), 0);
    return lend(process, container);
  });
  const [one, other] = [lent[0]!, lent[1]!];
  for (const [index, each] of lent.entries()) arrives(t, each, 1 + index);
  withoutTables(platform, () => {
    // Cached at the same address for both; and this is the cache, for what was never used cannot be had.
    for (const [index, each] of lent.entries()) {
      arrives(t, each, 3 + index);
      t.false(each.container.writes(OTHER, BYTES));
    }
  });
  t.is(one.container.unmap(AT), 0);
  withoutTables(platform, () => {
    t.false(one.container.writes(AT, BYTES), 'flushed');
    arrives(t, other, 7);
  });
  // The whole of it: the VM ends.
  one.process[Symbol.dispose]();
  withoutTables(platform, () => arrives(t, other, 8));
  other.process[Symbol.dispose]();
});

// Also what leads to a page is cached under the tag, so that a walk of one table may go on in the other: whoever shares a VMID maps the same
// in both, and until it has done so in the second what was in the first may be missing there.
test('two containers of one VM share what is cached, and one flush is for both', t => {
  const { platform } = vmidHost(t);
  const process = platform.process('vm0');
  const one = first(platform, process);
  t.is(one.setIommu(), 0);
  const other = second(platform, process);
  t.is(other.setVmid(one.vmid), 0);
  t.is(other.setIommu(), 0);
  const lent = lend(process, one);
  const { address } = (process.state() as { mappings: { address: number }[] }).mappings[0]!;
  t.is(other.map(AT, address), 0);
  arrives(t, lent, 1);
  withoutTables(platform, () => arrives(t, { ...lent, container: other }, 2));
  t.is(one.unmap(AT), 0);
  withoutTables(platform, () => t.false(other.writes(AT, BYTES)));
  t.is(other.unmap(AT), 0);
  for (const container of [one, other]) t.false(container.writes(AT, BYTES));
  for (const container of [one, other]) t.is(container.map(AT, address), 0);
  for (const [seed, container] of [one, other].entries()) arrives(t, { ...lent, container }, 3 + seed);
  process[Symbol.dispose]();
});

test("defect 4: with another VM's VMID a device reaches that VM's memory; without the defect it is refused", t => {
  for (const unowned of [false, true]) {
    const { platform } = vmidHost(t, { vmidDefects: { unowned } });
    const victim = platform.process('vm0');
    const theirs = first(platform, victim);
    t.is(theirs.setIommu(), 0);
    const lent = lend(victim, theirs);
    arrives(t, lent, 1);
    const mine = second(platform, platform.process('vm1'));
    t.is(mine.setVmid(theirs.vmid), 0);
    t.is(mine.setIommu(), unowned ? 0 : -Errno.EACCES);
    t.is(mine.writes(AT, Uint8Array.of(6, 6)), unowned);
    const read = new Uint8Array(2);
    lent.ram.read(0, 0, read);
    t.deepEqual(read, unowned ? Uint8Array.of(6, 6) : Uint8Array.of(1, 1));
  }
});
