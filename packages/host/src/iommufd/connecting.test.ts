/** How devices come to an iommufd and leave it: in which order the host is asked, and what stays when it refuses. */
import test from 'ava';
import { Errno, Ledger } from '@remora/core';
import { HostIommuFlag, Stage1Format } from '@remora/iommu';
import { VfioError } from '../vfio/vfio-error.js';
import { backendOn, connect, FIRST, guestMemory, ScriptedIommufd, SECOND } from './scripted-iommufd.test.helper.js';

const NEST_PARENT_AND_PASID = 9;

test('nested: bind, ask, address space, nesting parent, attach, map; and all of it back', t => {
  const host = new ScriptedIommufd();
  const backend = backendOn(host);
  const connection = connect(backend, FIRST, guestMemory());
  t.deepEqual(host.take(), [
    'BIND 1',
    'GET_HW_INFO',
    'IOAS_ALLOC 2',
    `HWPT_ALLOC 3 on 2 flags ${NEST_PARENT_AND_PASID}`,
    'ATTACH 3',
    'IOAS_MAP',
  ]);
  t.deepEqual(
    host.calls.filter(call => /open|readdir/.test(call)),
    ['open /dev/iommu', `readdir /sys/bus/pci/devices/${FIRST}/vfio-dev`, 'open /dev/vfio/devices/vfio0'],
  );
  t.true(connection.nested);
  t.deepEqual(
    [connection.context?.flags, connection.context?.stage1Format, connection.context?.replacesAtomically],
    [
      HostIommuFlag.NESTING | HostIommuFlag.PASID_0 | HostIommuFlag.PASID_REQUEST | HostIommuFlag.GUEST_PASIDS,
      Stage1Format.INTEL_VTD,
      true,
    ],
  );
  host.calls.length = 0;
  connection[Symbol.dispose]();
  t.deepEqual(host.take(), ['IOAS_UNMAP', 'DETACH', 'DESTROY 3', 'DESTROY 2']);
  t.deepEqual(host.calls, ['close 4', 'munmap 139637976727552 65536', 'close 3']);
});

test('bytes: bind, the nesting parent, its attachment and the map', t => {
  const host = new ScriptedIommufd();
  const connection = connect(backendOn(host), FIRST, guestMemory());
  const said = host.ioctls.map(({ fd, request, argument }) => [fd, request.toString(16), argument]);
  t.deepEqual(said[0], [4, '3b76', `180000000000000003000000${'00'.repeat(12)}`]);
  t.deepEqual(said.at(-4), [3, '3b89', `3000000009000000010000000200000000000000${'00'.repeat(28)}`]);
  t.deepEqual(said.at(-3), [4, '3b77', '10000000000000000300000000000000']);
  t.deepEqual(said.at(-2), [
    3,
    '3b85',
    `28000000${'07000000'}02000000000000000000001000000000${'0000010000000000'}${'0000000000000000'}`,
  ]);
  connection[Symbol.dispose]();
});

test('without nesting the table is a plain one, and there is no context', t => {
  const host = new ScriptedIommufd();
  const connection = connect(backendOn(host), FIRST, guestMemory(), { wantsNesting: false });
  t.deepEqual(host.take().slice(3, 5), ['HWPT_ALLOC 3 on 2 flags 0', 'ATTACH 3']);
  t.deepEqual([connection.nested, connection.context, connection.nestingRefused], [false, undefined, undefined]);
  connection[Symbol.dispose]();
});

for (const [title, hardware, why] of [
  ['another vendor', { type: 2 }, /of type 2, only 1 \(Intel VT-d\) is known/],
  ['no NEST', { nests: false }, /ECAP\.NEST is clear/],
] as const) {
  test(`the host cannot nest, ${title}: said in the ledger, and the other space is mapped`, t => {
    const host = new ScriptedIommufd(hardware);
    const ledger = new Ledger();
    ledger.on = true;
    let asked = 0;
    const plain = guestMemory();
    const connection = connect(backendOn(host), FIRST, guestMemory(), {
      ledger,
      spaceWithoutNesting: () => (asked++, plain),
    });
    t.is(asked, 1);
    t.regex(connection.nestingRefused ?? '', why);
    t.regex(String(ledger.events[0]?.data['message']), /^no nesting: the host/);
    t.is(connection.context, undefined);
    connection[Symbol.dispose]();
  });
}

for (const erratum of [false, true]) {
  test(`read-only memory below a nesting parent, a unit ${erratum ? 'with' : 'without'} erratum 772415`, t => {
    const host = new ScriptedIommufd({ erratum });
    const connection = connect(backendOn(host), FIRST, guestMemory(true));
    t.is(connection.nestingRefused, undefined);
    t.is(host.take().filter(call => call === 'IOAS_MAP').length, erratum ? 1 : 2);
    connection[Symbol.dispose]();
    t.is(host.take().filter(call => call === 'IOAS_UNMAP').length, erratum ? 1 : 2);
  });
}

test('devices that see the same memory share the address space and the table, until the last has left', t => {
  const host = new ScriptedIommufd();
  const backend = backendOn(host);
  const space = guestMemory();
  const first = connect(backend, FIRST, space);
  host.take();
  const second = connect(backend, SECOND, space);
  t.deepEqual(host.take(), ['BIND 4', 'GET_HW_INFO', 'ATTACH 3']);
  t.is(first.ioas, second.ioas);
  t.not(first.context, second.context, 'a context is a device’s own');
  first[Symbol.dispose]();
  t.deepEqual(host.take(), ['DETACH']);
  second[Symbol.dispose]();
  t.deepEqual(host.take(), ['IOAS_UNMAP', 'DETACH', 'DESTROY 3', 'DESTROY 2']);
});

test('a table that does not fit the second device gets a sibling; an address space that does not, too', t => {
  const host = new ScriptedIommufd();
  const backend = backendOn(host);
  const space = guestMemory();
  const first = connect(backend, FIRST, space);
  host.take();
  host.refuse('ATTACH 3', -Errno.EINVAL);
  const second = connect(backend, SECOND, space);
  t.deepEqual(host.take().slice(2), ['ATTACH 3 refused', 'HWPT_ALLOC 5 on 2 flags 9', 'ATTACH 5']);
  t.is(second.ioas, first.ioas);
  second[Symbol.dispose]();
  t.deepEqual(host.take(), ['DETACH', 'DESTROY 5']);
  host.refuse('ATTACH 3', -Errno.EADDRINUSE);
  const third = connect(backend, SECOND, space);
  t.deepEqual(host.take().slice(2), [
    'ATTACH 3 refused',
    'IOAS_ALLOC 7',
    'HWPT_ALLOC 8 on 7 flags 9',
    'ATTACH 8',
    'IOAS_MAP',
  ]);
  t.not(third.ioas, first.ioas);
  third[Symbol.dispose]();
  first[Symbol.dispose]();
});

test('container=new: an address space of its own', t => {
  const backend = backendOn(new ScriptedIommufd());
  const space = guestMemory();
  const connections = [FIRST, SECOND].map(bdf => connect(backend, bdf, space, { fresh: true }));
  t.not(connections[0]!.ioas, connections[1]!.ioas);
  for (const connection of connections) connection[Symbol.dispose]();
});

for (const [refused, why] of [
  ['BIND', /VFIO_DEVICE_BIND_IOMMUFD: EBUSY/],
  ['GET_HW_INFO', /IOMMU_GET_HW_INFO: EBUSY/],
  ['IOAS_ALLOC', /ioas0: IOMMU_IOAS_ALLOC: EBUSY/],
  ['HWPT_ALLOC', /ioas0: attach 0000:3f:00\.0: EBUSY/],
  ['ATTACH', /ioas0: attach 0000:3f:00\.0: EBUSY/],
  ['IOAS_MAP', /ioas0: MAP_DMA 0x0 \+0x10000 \(ram\): EBUSY/],
] as const) {
  test(`${refused} is refused: the error says so, and nothing stays open`, t => {
    const host = new ScriptedIommufd();
    const backend = backendOn(host);
    host.refuse(refused, -Errno.EBUSY);
    const error = t.throws(() => connect(backend, FIRST, guestMemory()), { instanceOf: VfioError, message: why });
    t.is(error.errno, Errno.EBUSY);
    const allocated = host.done.flatMap(done => /^(?:IOAS|HWPT)_ALLOC (\d+)/.exec(done)?.[1] ?? []);
    const destroyed = host.done.flatMap(done => /^DESTROY (\d+)/.exec(done)?.[1] ?? []);
    t.deepEqual(destroyed, allocated.toReversed());
    t.is(host.calls.filter(call => call.startsWith('close')).length, 2);
    t.is(backend.devices.size, 0);
    const again = connect(backend, FIRST, guestMemory());
    t.notThrows(() => again[Symbol.dispose]());
  });
}

test('what is missing on the host is said', t => {
  const without = new ScriptedIommufd();
  without.open = () => -Errno.ENOENT;
  t.throws(() => connect(backendOn(without), FIRST, guestMemory()), {
    message: "vm0/iommufd0: open /dev/iommu (the host's kernel needs CONFIG_IOMMUFD): ENOENT",
  });
  const old = new ScriptedIommufd();
  old.directories.clear();
  t.throws(() => connect(backendOn(old), FIRST, guestMemory()), {
    message: `${FIRST}: ENOENT, it has no device file (the host's kernel needs CONFIG_VFIO_DEVICE_CDEV)`,
  });
  const bound = new ScriptedIommufd();
  bound.readlink = path => (path.endsWith('driver') ? '../drivers/nvme' : '../7');
  t.throws(() => connect(backendOn(bound), FIRST, guestMemory()), { message: /bound to "nvme", not to vfio-pci/ });
});

test('one device twice', t => {
  const backend = backendOn(new ScriptedIommufd());
  const connection = connect(backend, FIRST, guestMemory());
  t.throws(() => connect(backend, FIRST, guestMemory()), {
    message: `${FIRST}: it is attached to this machine already`,
  });
  t.is(backend.devices.size, 1);
  connection[Symbol.dispose]();
});
