import test from 'ava';
import { Errno } from '@remora/core';
import { DmaMaps, type DmaMapRequest } from './dma-maps.js';
import { MAX_DMA_MAPS } from './protocol.js';

const PAGE = 0x1000n;
const BOTH = 3;

function request(address: bigint, size: bigint, more: Partial<DmaMapRequest> = {}): DmaMapRequest {
  return { address, size, offset: address, flags: BOTH, ...more };
}

test('what is mapped is found, and nothing beside it', t => {
  const maps = new DmaMaps();
  t.is(maps.map(request(0x10_0000n, 0x3000n, { offset: 0x5000n })), 0);
  t.is(maps.map(request(0n, 0x1000n, { offset: 0x9000n, flags: 1 })), 0);
  t.is(maps.find(0xfff)?.delta, 0x9000);
  t.is(maps.find(0x1000), undefined);
  t.is(maps.find(0xf_ffff), undefined);
  t.deepEqual(maps.find(0x10_2fff), {
    start: 0x10_0000,
    end: 0x10_3000,
    delta: 0x5000 - 0x10_0000,
    file: undefined,
    readable: true,
    writeable: true,
  });
  t.is(maps.find(0x10_3000), undefined);
  t.false(maps.find(0)!.writeable);
});

test('what cannot be a map is refused, and changes nothing', t => {
  const maps = new DmaMaps();
  const refused: [DmaMapRequest, number][] = [
    [request(0n, 0n), Errno.EINVAL],
    [request(0x800n, PAGE), Errno.EINVAL],
    [request(0n, 0x1001n), Errno.EINVAL],
    [request(0n, PAGE, { offset: 0x10n }), Errno.EINVAL],
    [request(0n, PAGE, { flags: 0 }), Errno.EINVAL],
    [request(0n, PAGE, { flags: 7 }), Errno.EINVAL],
    [request(2n ** 64n - PAGE, 2n * PAGE), Errno.EINVAL],
    [request(PAGE, 2n ** 64n - PAGE, { offset: 0n }), Errno.ERANGE],
    [request(2n ** 64n - PAGE, PAGE, { offset: 0n }), Errno.ERANGE],
    [request(2n ** 52n, PAGE, { offset: 0n }), Errno.ERANGE],
    [request(0n, PAGE, { offset: 2n ** 53n }), Errno.ERANGE],
    [request(0n, PAGE, { offset: 2n ** 64n - PAGE }), Errno.ERANGE],
  ];
  for (const [each, errno] of refused) t.is(maps.map(each), errno, `${each.address} ${each.size} ${each.offset}`);
  t.deepEqual(maps.ranges, []);
  t.is(maps.map(request(2n ** 52n - PAGE, PAGE)), 0, 'the last page there is');
});

test('no two maps overlap', t => {
  const maps = new DmaMaps();
  maps.map(request(0x4000n, 0x4000n));
  for (const [address, size] of [
    [0x4000n, 0x4000n],
    [0x3000n, 0x2000n],
    [0x7000n, 0x1000n],
    [0x5000n, 0x1000n],
    [0n, 0x10_0000n],
  ] as const) {
    t.is(maps.map(request(address, size)), Errno.EEXIST);
  }
  t.is(maps.map(request(0x3000n, PAGE)), 0);
  t.is(maps.map(request(0x8000n, PAGE)), 0);
  t.deepEqual(
    maps.ranges.map(({ start }) => start),
    [0x3000, 0x4000, 0x8000],
  );
});

test('only a whole map is unmapped, and then it is gone, also for the next look-up of the same place', t => {
  const maps = new DmaMaps();
  maps.map(request(0x4000n, 0x4000n));
  t.not(maps.find(0x5000), undefined);
  for (const [address, size] of [
    [0x4000n, 0x1000n],
    [0x5000n, 0x3000n],
    [0x4000n, 0x5000n],
    [0n, 0n],
  ] as const) {
    t.is(maps.unmap(address, size), Errno.ENOENT);
  }
  t.is(maps.unmap(0x4000n, 0x4000n), 0);
  t.is(maps.find(0x5000), undefined);
  t.is(maps.unmap(0x4000n, 0x4000n), Errno.ENOENT);
});

test('there is an end to the number of maps', t => {
  const maps = new DmaMaps();
  for (let page = 0; page < MAX_DMA_MAPS; page++) maps.map(request(BigInt(page) * 2n * PAGE, PAGE));
  t.is(maps.map(request(2n ** 40n, PAGE)), Errno.ENOSPC);
  t.is(maps.find(2 * 4096 * (MAX_DMA_MAPS - 1))?.end, 2 * 4096 * (MAX_DMA_MAPS - 1) + 4096);
  t.is(maps.find(2 * 4096 * (MAX_DMA_MAPS - 1) - 1), undefined);
});

test('ROM at offset 0 is not in the file; write-protected RAM elsewhere is', t => {
  const maps = new DmaMaps();
  maps.map(request(0n, 0xa_0000n));
  maps.map(request(0xfffc_0000n, 0x4_0000n, { offset: 0n, flags: 1 }));
  maps.map(request(0xc_0000n, 0x8000n, { flags: 1 }));
  t.is(maps.find(0)?.delta, 0);
  t.is(maps.find(0xfffc_0000)?.delta, undefined);
  t.is(maps.find(0xc_0000)?.delta, 0);
});

test("a display's memory, which comes with offset 0, is not taken for RAM", t => {
  const maps = new DmaMaps();
  maps.map(request(0n, 0x800_0000n));
  maps.map(request(0xfd00_0000n, 0x100_0000n, { offset: 0n }));
  t.not(maps.find(0xfd00_0000), undefined);
  t.is(maps.find(0xfd00_0000)?.delta, undefined);
  t.is(maps.map(request(0x1_0000_0000n, 0x1000_0000n, { offset: 0x800_0000n })), 0);
  t.is(maps.find(0x1_0000_0000)?.delta, 0x800_0000 - 2 ** 32, 'RAM above 4 GiB has an offset of its own');
});
