// State files that are damaged, foreign, newer or made with ill intent, and machines that cannot be saved or take a state: told, not half done.
import { createHash } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { Random } from '@remora/bits';
import { ConfigError, sectionBytes, StateError, StateReader, StateWriter, type Device } from '@remora/core';
import { ForwardingSyscalls, type IoctlArgument } from '@remora/host';
import {
  assembleOn,
  createHost,
  createMachine,
  guestOf,
  loadState,
  openState,
  restoreMachine,
  saveState,
  type Machine,
  type RestoreParts,
  type StateFile,
} from '@remora/machine';
import { ENGINE, lendingHost, PHYSICAL_VTD, physicalVtd, plugins, vsva, vsvaMachine } from '@remora/machines';
import { DeviceKinds, PciFunction, type DeviceKind, type PciDeviceContext } from '@remora/pci';
import { owner } from '@remora/testing';
import { Errno, definePlugin, properties } from '@remora/core';
import { VFIO_DEVICE_FEATURE } from '@remora/uapi';
import test, { type ExecutionContext } from 'ava';
import { ContainerModule } from 'inversify';
import { outcomeOf } from './outcome.js';
import { close } from './runs.js';

const parts: RestoreParts = { plugins, iommus: { [PHYSICAL_VTD]: physicalVtd } };
const FLIPS = 200;
const DIGEST_BYTES = 32;
const FIXED_BYTES = 24;

/** The vsva machine with a PASID bound, after `done` of its steps. */
function vsvaAfter(done: number): Machine {
  const machine = vsva.create({ seed: 1 });
  machine.start();
  for (const step of guestOf(vsva, machine, { seed: 1 })!.steps.slice(0, done)) step.run();
  return machine;
}

function fileOf(machine: Machine): Uint8Array {
  try {
    return saveState(machine);
  } finally {
    close(machine);
  }
}

function restored(t: ExecutionContext, file: StateFile): Machine {
  const { machine } = restoreMachine(file, parts);
  t.teardown(() => close(machine));
  return machine;
}

/** The file with its length and checksum made right again. */
function sealed(bytes: Uint8Array): Uint8Array {
  const file = bytes.slice();
  new DataView(file.buffer).setBigUint64(16, BigInt(file.length), true);
  const end = file.length - DIGEST_BYTES;
  file.set(createHash('sha256').update(file.subarray(0, end)).digest(), end);
  return file;
}

const small = fileOf(vsvaAfter(3));

test('the same state is the same file, and another state is another one', t => {
  t.deepEqual(fileOf(vsvaAfter(3)), small);
  t.notDeepEqual(fileOf(vsvaAfter(4)), small);
  t.true(small.length < 16_384, `${small.length} bytes`);
});

test('a byte that is not what it was, anywhere, and a file that was cut, anywhere, are found out', t => {
  const random = new Random(1);
  for (let count = 0; count < FLIPS; count++) {
    const damaged = small.slice();
    const at = count < FIXED_BYTES ? count : random.below(small.length);
    damaged[at]! ^= 1 << random.below(8);
    t.throws(() => openState(damaged, 'x.rms'), { instanceOf: StateError, message: /^x\.rms: / }, `byte ${at}`);
  }
  for (let count = 0; count < FLIPS; count++) {
    const cut = small.subarray(0, random.below(small.length));
    t.throws(() => openState(cut, 'x.rms'), { instanceOf: StateError, message: /truncated/ }, `${cut.length} bytes`);
  }
  t.throws(() => openState(Uint8Array.of(...small, 0), 'x.rms'), { message: 'x.rms: has 1 bytes too many' });
});

test('what is no state file, and one of a later format, is told as that', t => {
  t.throws(() => openState(new TextEncoder().encode('#!/bin/sh\n'.repeat(20)), 'x.sh'), {
    instanceOf: StateError,
    message: 'x.sh: is not a state file of Remora',
  });
  t.throws(() => openState(deflateSync(small), 'x.gz'), { message: 'x.gz: is not a state file of Remora' });
  const later = small.slice();
  later[8] = 9;
  t.throws(() => openState(later, 'x.rms'), { message: 'x.rms: is of format 9, and this Remora reads format 1' });
});

/** A file with these parts in the place of `small`'s, and the right checksum. */
function made(change: { header?: string; sections?: Uint8Array; plain?: number; pages?: Uint8Array }): Uint8Array {
  const view = new DataView(small.buffer, small.byteOffset);
  const headerEnd = FIXED_BYTES + view.getUint32(12, true);
  const sectionsEnd = headerEnd + 8 + view.getUint32(headerEnd + 4, true);
  const header =
    change.header === undefined ? small.subarray(FIXED_BYTES, headerEnd) : new TextEncoder().encode(change.header);
  const sections = change.sections ?? small.subarray(headerEnd + 8, sectionsEnd);
  const pages = change.pages ?? small.subarray(sectionsEnd, small.length - DIGEST_BYTES);
  const lengths = new DataView(new ArrayBuffer(8));
  lengths.setUint32(0, change.plain ?? view.getUint32(headerEnd, true), true);
  lengths.setUint32(4, sections.length, true);
  const fixed = small.slice(0, FIXED_BYTES);
  new DataView(fixed.buffer).setUint32(12, header.length, true);
  const all = [fixed, header, new Uint8Array(lengths.buffer), sections, pages, new Uint8Array(DIGEST_BYTES)];
  return sealed(Uint8Array.from(Buffer.concat(all)));
}

test('a file that was made to blow up, or to lie about itself, is refused in little memory', t => {
  const bomb = deflateSync(new Uint8Array(64 * 0x10_0000));
  const run = new Uint8Array(8 + bomb.length);
  new DataView(run.buffer).setUint32(0, 1, true);
  new DataView(run.buffer).setUint32(4, bomb.length, true);
  run.set(bomb, 8);
  const { header } = openState(small);
  const refused: [string, Uint8Array, RegExp][] = [
    ['sections that grow beyond what they say', made({ sections: bomb, plain: 1000 }), /do not unpack/],
    ['sections that say too much', made({ plain: 0xffff_ffff }), /sections would end/],
    ['sections of something else', made({ sections: deflateSync(small), plain: small.length }), /damaged at byte/],
    ['no header', made({ header: 'nonsense' }), /header is not JSON/],
    ['no machine', made({ header: '{}' }), /header has no version/],
    ['another header', made({ header: JSON.stringify({ ...header, machine: { name: 'x' } }) }), /has no machine/],
    [
      'another host',
      made({ header: JSON.stringify({ ...header, machine: { ...header.machine, host: {} } }) }),
      /the host/,
    ],
  ];
  const before = process.memoryUsage().arrayBuffers;
  for (const [what, file, message] of refused) {
    t.throws(() => openState(file, 'x.rms'), { instanceOf: StateError, message }, what);
  }
  t.true(process.memoryUsage().arrayBuffers - before < 16 * 0x10_0000);
  const pages: [string, Uint8Array][] = [
    ['a page that grows', run],
    ['no end', new Uint8Array()],
    ['a run that is cut', Uint8Array.of(1, 0, 0, 0, 255, 0, 0, 0)],
    ['a page of none', new Uint8Array(9)],
  ];
  for (const [what, bytes] of pages) {
    const file = openState(made({ pages: bytes }), 'x.rms');
    t.throws(() => restoreMachine(file, parts), { instanceOf: StateError, message: /pages of RAM are damaged/ }, what);
  }
});

test('whatever a section says, a machine takes it or is refused with the place; none is half loaded', t => {
  const random = new Random(2);
  const { sections } = openState(small);
  const bytes = sectionBytes(sections);
  let taken = 0;
  for (let count = 0; count < 60; count++) {
    const changed = bytes.slice();
    changed[random.below(bytes.length)]! ^= 1 << random.below(8);
    try {
      const file = openState(made({ sections: deflateSync(changed), plain: changed.length }));
      close(restoreMachine(file, parts).machine);
      taken++;
    } catch (failure) {
      t.true(failure instanceof StateError || failure instanceof ConfigError, String((failure as Error).stack));
    }
  }
  t.true(taken < 60);
});

test('a machine of another shape is told the first difference, and stays as it is', t => {
  const own = owner(t);
  const machine = (options: string): Machine => {
    const made = own(
      createMachine(undefined, {
        board: 'q35,memory=4M',
        plugins,
        devices: ['intel-iommu', `dma-engine,id=engine${options}`],
      }),
    );
    made.start();
    made.memory.write(0, 0x1000, Uint8Array.of(7));
    return made;
  };
  const file = openState(saveState(machine(',latency=5')));
  const cases: [Machine, string][] = [
    [machine(',latency=6'), 'devices.engine.latency: 5 in the state, 6 here'],
    [machine(',latency=5,addr=09.0'), 'devices.engine.addr: 01.0 in the state, 09.0 here'],
    [restored(t, openState(small)), 'board.memory: 4194304 in the state, 67108864 here'],
  ];
  for (const [other, message] of cases) {
    const before = outcomeOf(other);
    t.throws(() => loadState(other, file), { instanceOf: StateError, message });
    t.deepEqual(outcomeOf(other), before);
  }
  const same = machine(',latency=5');
  same.memory.write(0, 0x2000, Uint8Array.of(9));
  loadState(same, file);
  const byte = new Uint8Array(1);
  same.memory.read(0, 0x2000, byte);
  t.is(byte[0], 0, 'what was in its RAM before is gone');
  const extra = own(createMachine(undefined, { board: 'q35,memory=4M', plugins, devices: ['intel-iommu'] }));
  extra.start();
  t.throws(() => loadState(extra, file), { message: 'devices.engine: the state has a "dma-engine" that is not here' });
});

test('a load that fails on the way leaves a machine that is reset, with empty RAM', t => {
  const machine = owner(t)(createMachine(undefined, { board: 'q35,memory=4M', plugins, devices: ['intel-iommu'] }));
  machine.start();
  const fresh = outcomeOf(machine);
  machine.memory.write(0, 0x1000, Uint8Array.of(7));
  const file = openState(saveState(machine));
  const into = new StateWriter();
  into.child('machine').child('clock').integer('now', 0).integer('timers', 0);
  t.throws(() => loadState(machine, { ...file, sections: into.section }), { message: 'machine.devices: is missing' });
  t.deepEqual(outcomeOf(machine), fresh);
});

class Forgetful implements Device {
  readonly name: string;
  readonly #context: PciDeviceContext;
  readonly #fn: PciFunction;

  constructor(context: PciDeviceContext) {
    this.name = context.name;
    this.#context = context;
    this.#fn = new PciFunction(context.name, { vendor: 0x1234, device: 1, classCode: 0 });
  }

  realize(): void {
    this.#context.plug(this.#fn);
  }

  [Symbol.dispose](): void {
    this.#fn.bus?.unplug(this.#fn);
  }
}

const forgetful: DeviceKind<object, 'pci'> = {
  id: 'forgetful',
  bus: 'pci',
  properties: properties({}),
  create: context => new Forgetful(context),
};
const forgetfulPlugin = definePlugin({
  name: 'forgetful',
  api: 1,
  module: new ContainerModule(({ bind }) => void bind(DeviceKinds).toConstantValue(forgetful)),
});

test('a device that has no state to give is a reason not to save, by name', t => {
  const machine = owner(t)(
    createMachine(undefined, {
      board: 'q35,memory=4M',
      plugins: [...plugins, forgetfulPlugin],
      devices: ['forgetful,id=f0'],
    }),
  );
  machine.start();
  t.throws(() => saveState(machine), {
    instanceOf: StateError,
    message: 'machine.devices.f0: "forgetful" has no save and load: a machine with it cannot be saved',
  });
});

test('a plug-in or an IOMMU that is not here is named', t => {
  const file = openState(small, 'x.rms');
  const without = plugins.filter(({ name }) => name !== '@hw/vfio-pci');
  t.throws(() => restoreMachine(file, { ...parts, plugins: without }), {
    instanceOf: StateError,
    message: 'x.rms: plugins: there is no plug-in "@hw/vfio-pci" here',
  });
  t.throws(() => restoreMachine(file, { plugins }), {
    message: 'x.rms: host.iommu: there is no physical IOMMU "vtd" here',
  });
});

/** A host whose devices cannot move. */
class NoMigration extends ForwardingSyscalls {
  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return request === VFIO_DEVICE_FEATURE ? -Errno.ENOTTY : super.ioctl(fd, request, argument);
  }
}

test('a host that cannot move the state of its device keeps a machine from being saved, by name', t => {
  const machine = assembleOn(lendingHost(), host =>
    vsvaMachine(host, { interpose: syscalls => new NoMigration(syscalls) }),
  );
  t.teardown(() => close(machine));
  machine.start();
  t.throws(() => saveState(machine), {
    instanceOf: StateError,
    message: `machine.devices.vfio-pci.state: the host cannot move the state of its device ${ENGINE}`,
  });
});

test('a PASID that the new host has given away is not replaced by another', t => {
  const file = openState(small, 'x.rms');
  const host = lendingHost({ seed: 1 });
  t.teardown(() => host[Symbol.dispose]());
  const neighbour = createMachine(host, {
    name: 'neighbour',
    board: 'q35,memory=16M',
    plugins,
    devices: ['intel-iommu,x-scalable-mode=modern', 'vfio-pci,host=3f:01.0,addr=03.0'],
  });
  neighbour.start();
  // The same seed: the neighbour is given the number that the guest has.
  const guest = guestOf(vsva, neighbour, { seed: 1 })!;
  for (const step of guest.steps.slice(0, 2)) step.run();
  const before = host.platform.dump();
  t.throws(() => restoreMachine(file, { ...parts, host }), {
    instanceOf: StateError,
    message: /^devices\.intel-iommu: .*does not give the guest its PASID \d+ again: ENOSPC/,
  });
  t.deepEqual(host.platform.dump(), before, 'nothing is left of the machine that could not be');
  t.notThrows(() => neighbour[Symbol.dispose]());
  const { machine, resumed } = restoreMachine(file, { ...parts, host });
  t.is(resumed.filter(({ what }) => what === 'PASID').length, 1);
  machine[Symbol.dispose]();
});

test('state of an unknown part, or a newer one, is refused with its place', t => {
  const machine = owner(t)(createMachine(undefined, { board: 'q35,memory=4M', plugins, devices: ['intel-iommu'] }));
  machine.start();
  const into = new StateWriter();
  machine.save(into.child('machine'));
  const state = into.section.fields.get('machine') as typeof into.section;
  new StateWriter(state).flag('surprise', true);
  const file = openState(saveState(machine));
  t.throws(() => loadState(machine, { ...file, sections: into.section }), {
    instanceOf: StateError,
    message: 'machine.surprise: is unknown to this Remora',
  });
  const newer = new StateWriter();
  machine.save(newer.child('machine', 2));
  t.throws(() => loadState(machine, { ...file, sections: newer.section }), {
    message: 'machine: version 2 found, only version 1 is known to this Remora',
  });
  t.notThrows(() => new StateReader(newer.section));
});

test('a host that was not described cannot be made again, but a machine on it can be saved and take a state', t => {
  const host = createHost({
    iommu: platform => physicalVtd()(platform),
    plugins,
    devices: [`dma-engine,addr=${ENGINE}`],
  });
  t.teardown(() => host[Symbol.dispose]());
  const options = { board: 'q35,memory=4M', plugins, devices: [`vfio-pci,host=${ENGINE}`] };
  const machine = createMachine(host, options);
  machine.start();
  machine.memory.write(0, 0x1000, Uint8Array.of(42));
  const file = openState(saveState(machine), 'x.rms');
  t.throws(() => restoreMachine(file, parts), {
    instanceOf: StateError,
    message: 'x.rms: host: its physical IOMMU does not say which model it is',
  });
  machine[Symbol.dispose]();
  const incoming = createMachine(host, options);
  incoming.start();
  loadState(incoming, file);
  const byte = new Uint8Array(1);
  incoming.memory.read(0, 0x1000, byte);
  t.is(byte[0], 42);
});

test('devices that were plugged while the machine ran are there again, in the same order and place; those unplugged are not', t => {
  const own = owner(t);
  const host = lendingHost();
  t.teardown(() => host[Symbol.dispose]());
  const machine = createMachine(host, {
    board: 'q35,memory=16M',
    plugins,
    devices: ['intel-iommu,x-scalable-mode=modern', 'pcie-root-port,id=rp1', 'dma-engine,id=gone', 'edu'],
  });
  machine.start();
  machine.unplug('gone');
  machine.plug(`vfio-pci,id=late,host=${ENGINE},bus=rp1`);
  machine.plug('dma-engine,id=between');
  const bytes = saveState(machine);
  const { machine: again } = restoreMachine(openState(bytes), parts);
  own({ [Symbol.dispose]: () => close(again) });
  t.deepEqual(again.ids, machine.ids);
  t.deepEqual(again.description.devices, machine.description.devices);
  t.is(again.functions('late')[0]!.bus!.parent, again.functions('rp1')[0]);
  t.is(again.functions('between')[0]!.devfn, machine.functions('between')[0]!.devfn);
  t.deepEqual(outcomeOf(again).config, outcomeOf(machine).config);
  const after = openState(saveState(again));
  t.deepEqual(after.sections, openState(bytes).sections);
});

test('an option that the state does not know has its default; one that is not known here is told', t => {
  const file = openState(small, 'x.rms');
  const [iommu, ...devices] = file.header.machine.devices;
  const { 'iotlb-entries': entries, ...older } = iommu!.options;
  t.is(entries, 4096);
  const withOptions = (options: typeof older): StateFile => ({
    ...file,
    header: {
      ...file.header,
      machine: { ...file.header.machine, devices: [{ driver: 'intel-iommu', options }, ...devices] },
    },
  });
  const machine = restored(t, withOptions(older));
  t.is(machine.description.devices[0]!.options['iotlb-entries'], 4096);
  t.throws(() => restoreMachine(withOptions({ ...iommu!.options, 'x-later': true }), parts), {
    instanceOf: ConfigError,
    message: /x-later/,
  });
});
