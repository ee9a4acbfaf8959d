/** `-object iommufd` and `vfio-pci,iommufd=`: what is asked for wrongly is told with its path, and nothing stays open. */
import test, { type ExecutionContext } from 'ava';
import { ConfigError, Leaks } from '@remora/core';
import { createMachine, iommufd, type Machine, type MachineOptions } from '@remora/machine';
import { type VfioPci, vfioPci } from '@hw/vfio-pci';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import q35Plugin from '@hw/q35/plugin';
import { ENGINE, lendingHost, SECOND_ENGINE } from './lending-host.js';
import { machineOn, own } from './vfio-pci.test.helper.js';

const OBJECT = 'iommufd,id=iommufd0';
const LENT = `vfio-pci,host=${ENGINE},id=lent,iommufd=iommufd0`;

/** The message with which a machine is refused; the host holds what it held before. */
function refusal(t: ExecutionContext, devices: readonly string[], options: Partial<MachineOptions>): string {
  const host = own(t, lendingHost());
  const before = host.platform.dump();
  let message = '';
  Leaks.check(() => {
    const error = t.throws(() => machineOn(host, devices, options).start(), { instanceOf: ConfigError });
    message = error.message;
  });
  t.deepEqual(host.platform.dump(), before);
  return message;
}

test('strings and objects mean the same', t => {
  for (const [object, device] of [
    [OBJECT, LENT],
    ['qom-type=iommufd,id=iommufd0', LENT],
    [iommufd({ id: 'iommufd0' }), vfioPci({ host: ENGINE, id: 'lent', iommufd: 'iommufd0' })],
  ] as const) {
    const host = own(t, lendingHost());
    const machine = createMachine(host, {
      board: 'q35,memory=8M',
      plugins: [q35Plugin, vfioPciPlugin],
      objects: [object],
      devices: [device],
    });
    machine.start();
    const { connection } = machine.device<VfioPci>('lent');
    t.is(connection?.home, 'vm0/iommufd0/ioas0');
    t.deepEqual(machine.description.objects, [{ driver: 'iommufd', options: { id: 'iommufd0' } }]);
  }
});

for (const [title, devices, options, expected] of [
  [
    'no such object',
    [LENT],
    { objects: ['iommufd,id=other'] },
    /^devices\[0\]\.iommufd: there is no iommufd object "iommufd0" \(expected other\)/,
  ],
  [
    'no object at all',
    [LENT],
    {},
    /^devices\[0\]\.iommufd: .*this machine has none: give it `-object iommufd,id=\.\.\.`/,
  ],
  [
    'an id twice',
    [LENT],
    { objects: [OBJECT, OBJECT] },
    /^objects\[1\]\.id: "iommufd0" is the id of objects\[0\] already/,
  ],
  ['no id', [], { objects: ['iommufd'] }, /^objects\[0\]\.id: an object has an id, as iommufd0/],
  ['a bad id', [], { objects: ['iommufd,id=0x'] }, /^objects\[0\]\.id: "0x" is no id: expected a letter/],
  [
    'another option',
    [],
    { objects: ['iommufd,id=a,fd=3'] },
    /^objects\[0\]\.fd: "3": iommufd has no option "fd", expected id/,
  ],
  [
    'another type',
    [],
    { objects: ['iothread,id=a'] },
    /^objects\[0\]: there is no object type "iothread", expected iommufd/,
  ],
  [
    'a device twice',
    [LENT, `vfio-pci,host=${ENGINE},iommufd=iommufd0`],
    { objects: [OBJECT] },
    /^devices\[\d\]\.host: 0000:3f:00\.0: it is attached to this machine already/,
  ],
  [
    'a device by iommufd and by VFIO',
    [LENT, `vfio-pci,host=${ENGINE}`],
    { objects: [OBJECT] },
    /^devices\[\d\]\.host: 0000:3f:00\.0: it is attached to this machine already/,
  ],
  [
    'an option of containers',
    [`${LENT},quirk-call-per-device=on`],
    { objects: [OBJECT] },
    /^devices\[0\]\.quirk-call-per-device: it is about VFIO containers: iommufd=iommufd0 has none/,
  ],
  ['VMIDs', [`${LENT},x-vmid=on`], { objects: [OBJECT] }, /^devices\[0\]\.x-vmid: it is about VFIO containers/],
  [
    'a device that is not there',
    ['vfio-pci,host=3f:07.0,iommufd=iommufd0'],
    { objects: [OBJECT] },
    /^devices\[0\]\.host: 0000:3f:07\.0: ENOENT, the host has no such device/,
  ],
] as const satisfies readonly (readonly [string, readonly string[], Partial<MachineOptions>, RegExp])[]) {
  test(`refused: ${title}`, t => {
    t.regex(refusal(t, devices, options), expected);
  });
}

test('without a host the object is there, and a device that uses it is told that there is no host', t => {
  const options = { board: 'q35,memory=8M', plugins: [q35Plugin, vfioPciPlugin], objects: [OBJECT] };
  const machine: Machine = own(t, createMachine(undefined, options));
  t.notThrows(() => machine.start());
  const refused = createMachine(undefined, { ...options, devices: [LENT] });
  t.throws(() => refused.start(), { message: /^devices\[0\]\.host: .*this machine runs on no host/ });
});

test('nothing is opened before a device uses it, and nothing stays open after the last', t => {
  const host = own(t, lendingHost());
  const machine = machineOn(host, [], { objects: [OBJECT] });
  machine.start();
  const idle = host.platform.dump();
  t.deepEqual(files(idle), []);
  const id = machine.plug(LENT);
  const second = machine.plug(`vfio-pci,host=${SECOND_ENGINE},iommufd=iommufd0`);
  t.is(files(host.platform.dump()).filter(kind => kind === 'iommufd').length, 1);
  machine.unplug(id);
  machine.unplug(second);
  t.deepEqual(host.platform.dump(), idle);
});

function files(dump: Record<string, unknown>): string[] {
  const [process] = dump['processes'] as { files: { kind: string }[] }[];
  return process!.files.map(({ kind }) => kind);
}
