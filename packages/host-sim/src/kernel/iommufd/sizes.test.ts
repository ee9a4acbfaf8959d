/** Structures of every size, unknown flags and reserved bytes, for each ioctl of /dev/iommu (peers.md 3.6, number 1). */
import test from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { IOMMUFD_TABLE } from './dispatch.js';
import { IommufdBench } from './iommufd.test.helper.js';

const OF_IOMMUFD = uapi.IOMMUFD_IOCTLS.filter(({ name }) => name.startsWith('IOMMU_'));

test('3.6/1: the table has every ioctl of linux/iommufd.h, with its structure; another number is ENOTTY', t => {
  const shown = (list: readonly uapi.IoctlType[]): unknown =>
    list.map(({ name, request, struct }) => [name, request, struct?.name]).sort();
  t.deepEqual(shown(IOMMUFD_TABLE), shown(OF_IOMMUFD));
  const { user, process } = new IommufdBench(t);
  for (const request of [0, 0x3b7f, 0x3b96, 0x3bff, 0x13b81]) t.is(process.ioctl(user.fd, request), -Errno.ENOTTY);
});

/** Which minimum each structure had when its ioctl came, if it was not all of it. */
const MINIMA: Readonly<Record<string, number>> = {
  IOMMU_HWPT_ALLOC: 24,
  IOMMU_GET_HW_INFO: 32,
  IOMMU_VIOMMU_ALLOC: 24,
  IOMMU_VEVENTQ_ALLOC: 28,
};

for (const ioctl of IOMMUFD_TABLE) {
  const { name, request, struct } = ioctl;
  const { size } = struct;

  /** The result for a caller whose structure, all zeros but for `set`, claims `claimed` bytes, and has as many as `there`. */
  const call = (
    b: IommufdBench,
    claimed: number,
    set: Readonly<Record<number, number>> = {},
    there = claimed,
  ): number => {
    const bytes = new Uint8Array(Math.max(4, there));
    uapi.viewOf(bytes).setUint32(0, claimed, true);
    for (const [at, value] of Object.entries(set)) bytes[Number(at)] = value;
    return b.process.ioctl(b.user.fd, request, bytes);
  };

  test(`3.6/1: ${name}: too short is EINVAL, longer is as long as zeros follow, E2BIG otherwise; and nothing happens`, t => {
    const b = new IommufdBench(t);
    const before = JSON.stringify(b.bench.host.dump());
    t.is(ioctl.minimum, MINIMA[name] ?? size);
    for (const claimed of [0, 1, 4, ioctl.minimum - 1]) t.is(call(b, claimed, {}, size), -Errno.EINVAL, `${claimed}`);
    for (const tail of [1, 8, 4096]) {
      t.is(call(b, size + tail, { [size + tail - 1]: 1 }), -Errno.E2BIG, `last of ${tail}`);
      t.is(call(b, size + tail, { [size]: 0x80 }), -Errno.E2BIG, `first of ${tail}`);
    }
    t.is(call(b, size, {}, size - 1), -Errno.EFAULT);
    t.is(b.process.ioctl(b.user.fd, request), -Errno.EFAULT);
    t.is(b.process.ioctl(b.user.fd, request, 5), -Errno.EFAULT);
    t.is(b.process.ioctl(b.user.fd, request, new Uint8Array(3)), -Errno.EFAULT);
    t.is(JSON.stringify(b.bench.host.dump()), before);
    const exact = call(new IommufdBench(t), size);
    for (const tail of [1, 8, 4096]) t.is(call(new IommufdBench(t), size + tail), exact, `${tail} zeros more`);
    for (let less = ioctl.minimum; less < size; less++) t.is(call(new IommufdBench(t), less), exact, `${less} bytes`);
  });

  if (struct.padding.length > 0) {
    test(`3.6/1: ${name}: every reserved byte is EOPNOTSUPP`, t => {
      const b = new IommufdBench(t);
      const before = JSON.stringify(b.bench.host.dump());
      for (const [start, end] of struct.padding) {
        for (let at = start; at < end; at++) t.is(call(b, size, { [at]: 1 }), -Errno.EOPNOTSUPP, `byte ${at}`);
      }
      t.is(JSON.stringify(b.bench.host.dump()), before);
    });
  }

  const { flags } = struct.specs;
  if (flags !== undefined) {
    test(`3.6/1: ${name}: an unknown flag is EOPNOTSUPP`, t => {
      const b = new IommufdBench(t);
      const device = b.bind(0).id;
      const ioas = b.user.ioas();
      const dev = struct.specs['dev_id'];
      const pt = struct.specs['pt_id'];
      const ids = { ...(dev && { [dev.offset]: device }), ...(pt && { [pt.offset]: ioas }) };
      const before = JSON.stringify(b.bench.host.dump());
      for (const bit of [0x10, 0x80]) {
        for (let byte = 1; byte < flags.size; byte++) {
          t.is(call(b, size, { ...ids, [flags.offset + byte]: bit }), -Errno.EOPNOTSUPP, `${bit} in byte ${byte}`);
        }
      }
      t.is(JSON.stringify(b.bench.host.dump()), before);
    });
  }
}

test('3.6/1: an answer goes as far as the structure of the caller, and not on', t => {
  const b = new IommufdBench(t);
  const { fd, id } = b.bind(0);
  const struct = uapi.IommuHwInfo;
  const bytes = new Uint8Array(struct.size).fill(0xee);
  bytes.set(struct.encode({ size: 32, dev_id: id }).subarray(0, 32));
  t.is(b.process.ioctl(b.user.fd, uapi.IOMMU_GET_HW_INFO, bytes), 0);
  t.deepEqual([...bytes.subarray(32)], new Array<number>(8).fill(0xee));
  t.true(fd >= 0);
});
