import test from 'ava';
import { Errno, Ledger } from '@remora/core';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_SET_IOMMU,
  viewOf,
} from '@remora/uapi';
import { ScriptedSyscalls } from '../scripted-syscalls.test.helper.js';
import { VfioContainer } from './container.js';
import { VfioError } from './vfio-error.js';

/** A host that offers these extensions, with these answers. */
function host(extensions: Readonly<Record<number, number>>): ScriptedSyscalls {
  return new ScriptedSyscalls()
    .on(VFIO_GET_API_VERSION, 0)
    .on(VFIO_CHECK_EXTENSION, extension => extensions[extension as number] ?? 0)
    .on(VFIO_GROUP_GET_STATUS, argument => {
      viewOf(argument as Uint8Array).setUint32(4, 1, true);
      return 0;
    })
    .on(VFIO_GROUP_SET_CONTAINER, 0)
    .on(VFIO_GROUP_UNSET_CONTAINER, 0)
    .on(VFIO_SET_IOMMU, 0)
    .on(VFIO_IOMMU_GET_INFO, 0);
}

/** Which extensions were asked for, in order, and which type was chosen. */
function chosen(
  extensions: Readonly<Record<number, number>>,
  wantsNesting: boolean,
): { asked: unknown[]; type: number } {
  const syscalls = host(extensions);
  const { type } = VfioContainer.open(syscalls, { name: 'c', wantsNesting });
  const asked = syscalls.ioctls
    .filter(({ request }) => request === VFIO_CHECK_EXTENSION)
    .map(({ argument }) => argument);
  return { asked, type };
}

test('the order of preference [A03]', t => {
  t.deepEqual(chosen({ 6: 1, 9: 1, 3: 1, 1: 1 }, true), { asked: [6, 9], type: 6 });
  t.deepEqual(chosen({ 6: 1, 9: 2, 3: 1, 1: 1 }, true), { asked: [6, 9], type: 6 }, 'a newer version is accepted');
  t.deepEqual(chosen({ 6: 1, 9: 0, 3: 1, 1: 1 }, true), { asked: [6, 9, 3], type: 3 });
  t.deepEqual(chosen({ 6: 1, 9: -Errno.EIO, 3: 1, 1: 1 }, true), { asked: [6, 9, 3], type: 3 });
  t.deepEqual(chosen({ 6: 0, 9: 1, 3: 0, 1: 1 }, true), { asked: [6, 3, 1], type: 1 });
  t.deepEqual(chosen({ 6: 1, 9: 1, 3: 1, 1: 1 }, false), { asked: [3], type: 3 }, 'nobody wants nesting');
});

test('no type at all, another API version, no VFIO', t => {
  const syscalls = host({});
  t.throws(() => VfioContainer.open(syscalls, { name: 'c', wantsNesting: true }), {
    instanceOf: VfioError,
    message: 'c: VFIO_CHECK_EXTENSION: EINVAL, the host offers no known IOMMU type',
  });
  t.deepEqual(syscalls.calls, ['open /dev/vfio/vfio', 'close 3']);
  const newer = host({ 3: 1 }).on(VFIO_GET_API_VERSION, 1);
  t.throws(() => VfioContainer.open(newer, { name: 'c', wantsNesting: false }), {
    message: 'c: the host speaks VFIO API version 1, not 0',
  });
  t.deepEqual(newer.calls, ['open /dev/vfio/vfio', 'close 3']);
  const none = host({});
  none.open = () => -Errno.ENOENT;
  const error = t.throws(() => VfioContainer.open(none, { name: 'c', wantsNesting: false }), { instanceOf: VfioError });
  t.is(error.message, 'c: open /dev/vfio/vfio: ENOENT');
  t.is(error.errno, Errno.ENOENT);
});

test('the version warning is in the ledger, once', t => {
  const ledger = new Ledger();
  ledger.on = true;
  VfioContainer.open(host({ 6: 1, 3: 1 }), { name: 'c', wantsNesting: true, ledger });
  t.deepEqual(
    ledger.events.map(({ kind, data }) => [kind, data]),
    [['warning', { message: "no nesting: the host's IOMMU uAPI version is 0, at least 1 is needed" }]],
  );
});

test('attaching and leaving: in this order, and each descriptor closed', t => {
  const syscalls = host({ 3: 1 });
  const container = VfioContainer.open(syscalls, { name: 'c', wantsNesting: false });
  syscalls.takeIoctls();
  container.attachGroup(12);
  container.attachGroup(13);
  t.deepEqual(
    syscalls.takeIoctls().map(([request]) => request),
    [
      VFIO_GROUP_GET_STATUS,
      VFIO_GROUP_SET_CONTAINER,
      VFIO_SET_IOMMU,
      VFIO_IOMMU_GET_INFO,
      VFIO_GROUP_GET_STATUS,
      VFIO_GROUP_SET_CONTAINER,
    ],
  );
  container[Symbol.dispose]();
  container[Symbol.dispose]();
  t.deepEqual(syscalls.calls, [
    'open /dev/vfio/vfio',
    'open /dev/vfio/12',
    'open /dev/vfio/13',
    'close 5',
    'close 4',
    'close 3',
  ]);
  t.deepEqual(
    syscalls.takeIoctls().map(([request]) => request),
    [VFIO_GROUP_UNSET_CONTAINER, VFIO_GROUP_UNSET_CONTAINER],
  );
});

test('a group that is not viable is closed again, and never attached', t => {
  const syscalls = host({ 3: 1 }).on(VFIO_GROUP_GET_STATUS, 0);
  const container = VfioContainer.open(syscalls, { name: 'c', wantsNesting: false });
  t.throws(() => container.attachGroup(12), { message: /^group 12: not viable/ });
  t.deepEqual(syscalls.calls.slice(1), ['open /dev/vfio/12', 'close 4']);
  t.false(syscalls.ioctls.some(({ request }) => request === VFIO_GROUP_SET_CONTAINER));
});
