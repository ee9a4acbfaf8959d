import test from 'ava';
import { ConfigError, Errno, Inspector } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { linuxHost } from './linux-host.js';
import { obstacles } from './obstacles.js';

const BDF = '0000:3f:00.0';
const FUNCTION = `/sys/bus/pci/devices/${BDF}`;
const GROUP = '/dev/vfio/12';

/** A machine as its files show it: folders by what they list, links by where they lead, files by what opening them gives. */
interface Files {
  readonly [path: string]: readonly string[] | string | number;
}

const WELL: Files = {
  [FUNCTION]: ['driver', 'iommu_group', 'vfio-dev'],
  [`${FUNCTION}/iommu_group`]: '../../../kernel/iommu_groups/12',
  [`${FUNCTION}/iommu_group/devices`]: [BDF, '0000:3f:00.1'],
  [`${FUNCTION}/driver`]: '../../../bus/pci/drivers/vfio-pci',
  [`${FUNCTION}/vfio-dev`]: ['vfio3'],
  '/sys/bus/pci/devices/0000:3f:00.1/driver': '../../../bus/pci/drivers/pcieport',
  '/sys/bus/pci/drivers/vfio-pci': ['bind'],
  '/dev/vfio/vfio': 5,
  [GROUP]: 6,
  '/dev/iommu': 7,
  '/dev/vfio/devices/vfio3': 8,
};

function host(changes: Readonly<Record<string, readonly string[] | string | number | undefined>> = {}): {
  syscalls: HostSyscalls;
  closed: number[];
} {
  const files = { ...WELL, ...changes };
  const closed: number[] = [];
  const get = (path: string, type: string): unknown => {
    const found = files[path];
    return found !== undefined && (type === 'object' ? Array.isArray(found) : typeof found === type)
      ? found
      : -Errno.ENOENT;
  };
  const syscalls = {
    open: (path: string) => get(path, 'number'),
    readlink: (path: string) => get(path, 'string'),
    readdir: (path: string) => get(path, 'object'),
    close: (fd: number) => (closed.push(fd), 0),
  } as unknown as HostSyscalls;
  return { syscalls, closed };
}

test('what can be lent has no obstacles, by its group or by its own file; what was tried is closed', t => {
  const { syscalls, closed } = host();
  t.deepEqual(obstacles(syscalls, BDF), []);
  t.deepEqual(closed.splice(0), [5, 6]);
  t.deepEqual(obstacles(syscalls, BDF, { iommufd: true }), []);
  t.deepEqual(closed, [7, 8]);
});

const CASES: readonly [string, Parameters<typeof host>[0], boolean, readonly RegExp[]][] = [
  ['no such function', { [FUNCTION]: undefined }, false, [/^there is no PCI function 0000:3f:00\.0 .*lspci -D/]],
  ['no IOMMU', { [`${FUNCTION}/iommu_group`]: undefined }, false, [/^no IOMMU stands .*intel_iommu=on/]],
  [
    "another driver's",
    { [`${FUNCTION}/driver`]: '../nvme' },
    false,
    [/not bound to vfio-pci: the driver nvme has it .*driver_override; echo 0000:3f:00.0 >.*\/unbind; .*drivers_probe/],
  ],
  [
    "nobody's, and no driver is there",
    { [`${FUNCTION}/driver`]: undefined, '/sys/bus/pci/drivers/vfio-pci': undefined, [GROUP]: undefined },
    false,
    [/not loaded .*modprobe vfio-pci/, /no driver has it/, /^there is no \/dev\/vfio\/12/],
  ],
  [
    'a neighbour is used',
    { '/sys/bus/pci/devices/0000:3f:00.1/driver': '../snd_hda_intel' },
    false,
    [/^0000:3f:00\.1 is in the same IOMMU group 12, and the driver snd_hda_intel has it/],
  ],
  ['no VFIO', { '/dev/vfio/vfio': undefined }, false, [/^there is no \/dev\/vfio\/vfio .*modprobe vfio/]],
  ['no right', { [GROUP]: -Errno.EACCES }, false, [/\/dev\/vfio\/12 may not be opened by this user .*chown/]],
  ['in use', { [GROUP]: -Errno.EBUSY }, false, [/^somebody else has \/dev\/vfio\/12 open .*fuser/]],
  ['an error', { [GROUP]: -Errno.EIO }, false, [/^\/dev\/vfio\/12 cannot be opened: EIO/]],
  ['no iommufd', { '/dev/iommu': undefined }, true, [/^there is no \/dev\/iommu .*CONFIG_IOMMUFD/]],
  ['no files of devices', { [`${FUNCTION}/vfio-dev`]: undefined }, true, [/vfio-dev.*CONFIG_VFIO_DEVICE_CDEV/]],
];

for (const [title, changes, iommufd, expected] of CASES) {
  test(`${title}: what is missing, and how to get it`, t => {
    using linux = linuxHost({ syscalls: host(changes).syscalls });
    const error = t.throws(() => linux.check(BDF, { iommufd }, 'devices[0].host'), { instanceOf: ConfigError });
    t.true(error.message.startsWith('devices[0].host: '));
    const found = obstacles(host(changes).syscalls, BDF, { iommufd }).map(({ what, remedy }) => `${what} (${remedy})`);
    t.is(error.message, `devices[0].host: ${found.join('; ')}`);
    t.is(found.length, expected.length, found.join('\n'));
    for (const [index, pattern] of expected.entries()) t.regex(found[index]!, pattern);
  });
}

test('a process gives back what it has, newest descriptor first', t => {
  const calls: string[] = [];
  let next = 10;
  const syscalls = {
    open: () => next++,
    eventfd: () => next++,
    close: (fd: number) => (calls.push(`close ${fd}`), 0),
    ioctl: () => next++,
    mmap: (length: number) => ({ address: 0x1000 * length, ram: undefined }),
    munmap: (address: number, length: number) => (calls.push(`munmap ${address} ${length}`), 0),
  } as unknown as HostSyscalls;
  const linux = linuxHost({ syscalls });
  const process = linux.process('vm0');
  const group = process.open('/dev/vfio/12');
  const closed = process.eventfd();
  process.ioctl(group, 0x3b6a, new Uint8Array(1));
  process.ioctl(group, 0x3b67, new Uint8Array(8));
  process.mmap(4096);
  process.close(closed);
  const into = new Inspector();
  linux.inspect(into);
  t.deepEqual(JSON.parse(JSON.stringify(into.child('processes'))), { vm0: { descriptors: [10, 12], bytes: 4096 } });
  linux[Symbol.dispose]();
  t.deepEqual(calls, ['close 11', 'close 12', 'close 10', `munmap ${0x1000 * 4096} 4096`]);
});
