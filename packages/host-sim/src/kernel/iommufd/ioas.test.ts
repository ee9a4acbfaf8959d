/** Mappings of I/O address spaces, and what DMA then does (peers.md 3.6, number 14). */
import test from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { ENGINE, SECOND } from '../../bench.test.helper.js';
import { FIXED, IommufdBench, PAGE, READ, RW, U64_MAX, WRITE } from './iommufd.test.helper.js';

const { SET } = uapi.IommuOptionOp;
const { HUGE_PAGES } = uapi.IommuOptionId;
/** What a message to the interrupt controller takes of every device's addresses. */
const MSI = [0xfee0_0000, 0xfeef_ffff] as const;

for (const domains of [0, 1, 2] as const) {
  for (const huge of [true, false]) {
    for (const kind of ['memory', 'file'] as const) {
      test(`3.6/14: every start and length of ${kind} on ${domains} page tables, ${huge ? 'with' : 'without'} huge pages`, t => {
        const b = new IommufdBench(t);
        const { user, bench, process } = b;
        const [ioas, copy] = [user.ioas(), user.ioas()];
        for (const id of [ioas, copy]) if (!huge) b.option({ option_id: HUGE_PAGES, op: SET, object_id: id, val64: 0 });
        const devices = ([0, 1] as const).slice(0, domains).map(index => b.bind(index));
        for (const { fd } of devices) t.true(user.attach(fd, user.hwpt(devices[0]!.id, ioas)) >= 0);
        const file = process.memfd(8 * PAGE);
        const memory = kind === 'file' ? process.mmapFile(file, 0, 8 * PAGE) : process.mmap(8 * PAGE);
        if (typeof memory === 'number') return t.fail(`mmap ${memory}`);
        for (let page = 0; page < 8; page++) memory.ram.write(0, page * PAGE, Uint8Array.of(page + 1));
        const base = 0x40_0000;
        const finest = domains > 0 || !huge ? PAGE : 1;
        for (const start of [0, 1, 2, 0x800, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE]) {
          for (const length of [1, 2, 0x800, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 5 * PAGE]) {
            const aligned = start % finest === 0 && length % finest === 0;
            const iova = base + start;
            const placed =
              kind === 'file'
                ? b.mapFile(ioas, { fd: file, start, length, iova })
                : b.map(ioas, { user_va: memory.address + start, length, iova });
            const what = `${start} +${length}`;
            t.deepEqual(placed, aligned ? { iova } : -Errno.EINVAL, what);
            const copied = b.copy(copy, ioas, { length, src_iova: iova, dst_iova: iova + 0x100_0000 });
            t.deepEqual(copied, aligned ? { iova: iova + 0x100_0000 } : -Errno.ENOENT, what);
            for (const bdf of [ENGINE, SECOND].slice(0, domains)) {
              const last = iova + length - 1;
              t.is(b.dmaRead(last - (last % PAGE), bdf), aligned ? (start + length) / PAGE : undefined, what);
              t.is(b.dmaRead(base + start + length, bdf), undefined, `${what}: not one byte more`);
            }
            if (!aligned) continue;
            if (length > 1) {
              t.is(b.unmap(ioas, iova, length - 1), -Errno.ENOENT, `${what}: not by parts`);
              t.is(b.unmap(ioas, iova + 1, length), -Errno.ENOENT, `${what}: not by parts`);
            }
            t.is(b.unmap(ioas, iova, length), length, what);
            t.is(b.unmap(ioas, iova, length), -Errno.ENOENT, what);
            t.is(b.unmap(copy, 0, U64_MAX), length, what);
            for (const bdf of [ENGINE, SECOND].slice(0, domains)) t.is(b.dmaRead(iova, bdf), undefined, what);
          }
        }
        t.deepEqual(bench.host.dump()['pinned'], []);
      });
    }
  }
}

test('3.6/14: what is mapped before a device comes is pinned when it comes: EFAULT then, and it is not attached', t => {
  const b = new IommufdBench(t);
  const { user, bench, process } = b;
  const ioas = user.ioas();
  const { address, ram } = user.memory(2 * PAGE);
  ram.write(0, 0, Uint8Array.of(7));
  b.map(ioas, { user_va: address, length: 2 * PAGE, iova: 0x10_0000 });
  t.deepEqual(bench.host.dump()['pinned'], []);
  process.munmap(address, PAGE);
  const device = b.bind(0);
  t.is(user.attach(device.fd, ioas), -Errno.EFAULT);
  t.is(b.dmaRead(0x10_1000), undefined);
  b.unmap(ioas, 0, U64_MAX);
  const there = user.memory(PAGE);
  there.ram.write(0, 0, Uint8Array.of(9));
  b.map(ioas, { user_va: there.address, length: PAGE, iova: 0x10_0000 });
  t.true(user.attach(device.fd, ioas) >= 0);
  t.is(b.dmaRead(0x10_0000), 9);
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'user root', pages: 1 }]);
});

test('3.6/14: if one page table refuses, the others are as they were', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const ioas = user.ioas();
  const devices = [b.bind(0), b.bind(1)] as const;
  const tables = devices.map(({ fd, id }) => user.attach(fd, user.hwpt(id, ioas)));
  t.true(tables.every(result => result >= 0));
  const { address, ram } = user.memory(2 * PAGE);
  ram.write(0, 0, Uint8Array.of(3));
  t.deepEqual(b.map(ioas, { user_va: address, length: PAGE, iova: 0x10_0000 }), { iova: 0x10_0000 });
  bench.driver.fail('mapFrames', Errno.ENOMEM, 2);
  t.is(b.map(ioas, { user_va: address, length: PAGE, iova: 0x20_0000 }), -Errno.ENOMEM);
  t.deepEqual([b.dmaRead(0x20_0000, ENGINE), b.dmaRead(0x20_0000, SECOND)], [undefined, undefined]);
  bench.driver.fail('unmap', Errno.EIO, 2);
  t.is(b.unmap(ioas, 0x10_0000, PAGE), -Errno.EIO);
  t.deepEqual([b.dmaRead(0x10_0000, ENGINE), b.dmaRead(0x10_0000, SECOND)], [3, 3]);
  t.is(b.unmap(ioas, 0x10_0000, PAGE), PAGE);
  t.deepEqual(bench.host.dump()['pinned'], []);
});

test('an unmap of several areas ends at the first that it would cut: those before are gone', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const { address } = user.memory(4 * PAGE);
  for (const page of [0, 1, 2]) b.map(ioas, { user_va: address, length: 2 * PAGE, iova: 0x10_0000 + page * 2 * PAGE });
  t.is(b.unmap(ioas, 0x10_0000, 5 * PAGE), -Errno.ENOENT);
  t.deepEqual(
    [0, 2, 4].map(page => b.dmaRead(0x10_0000 + page * PAGE)),
    [undefined, undefined, 0],
  );
  t.is(b.unmap(ioas, 0, U64_MAX), 2 * PAGE);
  t.is(b.unmap(ioas, 0, U64_MAX), 0, 'everything, of which there is nothing');
});

test('MAP: what is refused, in the order of Linux, and what then is not mapped', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const { address: user_va } = user.memory(4 * PAGE);
  const good = { user_va, length: PAGE, iova: 0x10_0000 };
  const before = bench.host.dump();
  t.is(b.map(ioas, { ...good, flags: FIXED | RW | 8 }), -Errno.EOPNOTSUPP);
  t.is(b.map(ioas, { ...good, flags: FIXED }), -Errno.EINVAL, 'neither to be read nor written');
  t.is(b.map(0x7fff, good), -Errno.ENOENT);
  t.is(b.map(ioas, { ...good, iova: U64_MAX }), -Errno.EOVERFLOW);
  t.is(b.map(ioas, { ...good, length: U64_MAX }), -Errno.EOVERFLOW);
  t.is(b.map(ioas, { ...good, length: 0 }), -Errno.EINVAL);
  t.is(b.map(ioas, { ...good, user_va: 2n ** 64n - 4096n, length: 2 * PAGE }), -Errno.EOVERFLOW);
  t.is(b.map(ioas, { ...good, iova: 2n ** 64n - 4096n, length: 2 * PAGE }), -Errno.EOVERFLOW);
  t.is(b.map(ioas, { ...good, iova: 2 ** 48 }), -Errno.EINVAL, 'reserved: beyond the page table');
  t.is(b.map(ioas, { ...good, iova: MSI[0] }), -Errno.EINVAL, 'reserved: messages');
  t.is(b.map(ioas, { ...good, user_va: 0x1000 }), -Errno.EFAULT);
  t.deepEqual(bench.host.dump(), before);
  t.deepEqual(b.map(ioas, good), { iova: good.iova });
  t.is(b.map(ioas, { ...good, length: 2 * PAGE, iova: good.iova - PAGE }), -Errno.EEXIST);
  t.is(b.dmaRead(good.iova - PAGE), undefined);
});

test('MAP: what may only be read, and what may only be written', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const { address } = user.memory(PAGE);
  b.map(ioas, { user_va: address, length: PAGE, iova: 0x1000, flags: FIXED | READ });
  b.map(ioas, { user_va: address, length: PAGE, iova: 0x2000, flags: FIXED | WRITE });
  t.deepEqual([b.dmaWrite(0x1000, 1), b.dmaWrite(0x2000, 2)], [false, true]);
  t.deepEqual([b.dmaRead(0x1000), b.dmaRead(0x2000)], [2, undefined]);
});

test('COPY shares the pages: part of a mapping, several in a row, from itself; not with more access than they have', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const [from, to] = [user.ioas(), user.ioas()];
  const { address, ram } = user.memory(4 * PAGE);
  for (let page = 0; page < 4; page++) ram.write(0, page * PAGE, Uint8Array.of(page + 1));
  b.map(from, { user_va: address, length: 2 * PAGE, iova: 0x1_0000 });
  b.map(from, { user_va: address + 2 * PAGE, length: 2 * PAGE, iova: 0x1_2000, flags: FIXED | READ });
  user.attach(b.bind(0).fd, from);
  user.attach(b.bind(1).fd, to);
  t.deepEqual(b.copy(to, from, { length: 3 * PAGE, src_iova: 0x1_1000, dst_iova: 0x5_0000, flags: FIXED | READ }), {
    iova: 0x5_0000,
  });
  t.deepEqual(
    [0, 1, 2].map(page => b.dmaRead(0x5_0000 + page * PAGE, SECOND)),
    [2, 3, 4],
  );
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'user root', pages: 4 }], 'pinned once');
  t.is(b.copy(to, from, { length: PAGE, src_iova: 0x1_2000, dst_iova: 0x7_0000 }), -Errno.EPERM);
  t.is(b.copy(to, from, { length: 5 * PAGE, src_iova: 0x1_0000, dst_iova: 0x7_0000 }), -Errno.ENOENT);
  t.is(b.copy(to, from, { length: 0, src_iova: 0x1_0000, dst_iova: 0x7_0000 }), -Errno.EINVAL);
  t.is(b.copy(to, 0x7fff, { length: PAGE, src_iova: 0x1_0000, dst_iova: 0x7_0000 }), -Errno.ENOENT);
  t.is(b.copy(0x7fff, from, { length: PAGE, src_iova: 0x1_0000, dst_iova: 0x7_0000 }), -Errno.ENOENT);
  t.is(b.dmaRead(0x7_0000, SECOND), undefined);
  t.deepEqual(b.copy(from, from, { length: PAGE, src_iova: 0x1_0000 }), { iova: 0x1000 });
  t.is(b.unmap(from, 0x1_0000, 2 * PAGE), 2 * PAGE);
  t.deepEqual([b.dmaRead(0x1000), b.dmaRead(0x5_0000, SECOND)], [1, 2], 'copies outlive what they were made of');
});

test('MAP_FILE: a file of memory, not beyond its end; other files when they are to be pinned; EBADF at once', t => {
  const b = new IommufdBench(t);
  const { user, bench, process } = b;
  const ioas = user.ioas();
  const file = process.memfd(4 * PAGE);
  const memory = process.mmapFile(file, PAGE, 2 * PAGE);
  if (typeof memory === 'number') return t.fail();
  for (const [offset, length] of [
    [-2 * PAGE, PAGE],
    [PAGE / 2, PAGE],
    [0, PAGE / 2],
    [0, PAGE + 1],
    [0, -PAGE],
    [0, 0],
    [3 * PAGE, 2 * PAGE],
  ] as const) {
    t.is(process.mmapFile(file, offset, length), -Errno.EINVAL, `${offset}, ${length}`);
  }
  t.is(b.mapFile(ioas, { fd: 99, start: 0, length: PAGE }), -Errno.EBADF);
  t.deepEqual(b.mapFile(ioas, { fd: user.fd, start: 0, length: PAGE, iova: 0x9000 }), { iova: 0x9000 });
  const device = b.bind(0);
  t.is(user.attach(device.fd, ioas), -Errno.EINVAL, 'no memory to pin');
  b.unmap(ioas, 0, U64_MAX);
  t.true(user.attach(device.fd, ioas) >= 0);
  t.is(b.mapFile(ioas, { fd: file, start: 3 * PAGE, length: 2 * PAGE, iova: 0x9000 }), -Errno.EINVAL);
  t.deepEqual(b.mapFile(ioas, { fd: file, start: PAGE, length: 3 * PAGE, iova: 0x9000 }), { iova: 0x9000 });
  t.is(process.close(file), 0);
  t.true(b.dmaWrite(0x9005, 0x77));
  const byte = new Uint8Array(1);
  memory.ram.read(0, 5, byte);
  t.is(byte[0], 0x77, 'one copy of every byte');
  const { frames } = bench.host.dump();
  b.unmap(ioas, 0, U64_MAX);
  t.is(
    bench.host.dump()['frames'],
    (frames as number) - 2,
    'the pages that nobody maps are gone with the last mapping',
  );
});
