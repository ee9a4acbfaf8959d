import test from 'ava';
import { AddressSpace, Region } from '@remora/core';
import { Command, Config } from '@remora/pci';
import { VfioPciRegion } from '@remora/uapi';
import { servedIommuFunction } from './iommu-function.js';
import type { ServedDevice } from './served-device.js';

const BASE = 0xfed9_0000;
const CAP = { start: 8, end: 0x10 };
const identity = { vendor: 0x8086, device: 0x9, classCode: 0x080600 };

function unit(hideAfter?: { start: number; end: number }): { served: ServedDevice; log: string[] } {
  const log: string[] = [];
  const root = Region.container('root', 2 ** 32);
  const registers = Region.mmio('registers', 0x1000, {
    impl: { min: 4, max: 8 },
    read: (offset, size) => {
      log.push(`r${size} ${offset.toString(16)}`);
      return 0x1122_3344;
    },
    write: (offset, value, size) => log.push(`w${size} ${offset.toString(16)} ${value.toString(16)}`),
    read64: (offset, out) => {
      log.push(`r8 ${offset.toString(16)}`);
      out.set([1, 2]);
    },
    write64: (offset, hi, lo) => log.push(`w8 ${offset.toString(16)} ${hi} ${lo}`),
  });
  root.add(BASE, registers);
  const served = servedIommuFunction({
    name: 'unit',
    identity,
    space: new AddressSpace('as', root),
    base: BASE,
    size: 0x1000,
    ...(hideAfter === undefined ? {} : { hideAfter }),
    reset: () => log.push('reset'),
  });
  return { served, log };
}

function read(served: ServedDevice, region: number, offset: number, size: number): number[] {
  const out = new Uint8Array(size);
  served.regions[region]!.read(offset, out);
  return [...out];
}

test('BAR 0 is the register page, in the widths in which it is accessed', t => {
  const { served, log } = unit();
  t.deepEqual(read(served, 0, 8, 8), [1, 0, 0, 0, 2, 0, 0, 0]);
  t.deepEqual(read(served, 0, 0x1c, 4), [0x44, 0x33, 0x22, 0x11]);
  served.regions[0]!.write(0x18, Uint8Array.of(0, 0, 0, 0x80));
  served.regions[0]!.write(0x20, Uint8Array.of(1, 0, 0, 0, 5, 0, 0, 0));
  t.deepEqual(log, ['r8 8', 'r4 1c', 'w4 18 80000000', 'w8 20 5 1']);
});

test('the function is there, masters the bus after a reset, and its BAR is sized', t => {
  const { served } = unit();
  const { CONFIG } = VfioPciRegion;
  t.deepEqual(read(served, CONFIG, 0, 4), [0x86, 0x80, 9, 0]);
  t.deepEqual(read(served, CONFIG, Config.COMMAND, 2), [Command.MASTER, 0]);
  served.regions[CONFIG]!.write(Config.BAR0, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  t.deepEqual(read(served, CONFIG, Config.BAR0, 4), [0, 0xf0, 0xff, 0xff]);
  served.regions[CONFIG]!.write(Config.COMMAND, Uint8Array.of(0, 0));
  t.deepEqual(read(served, CONFIG, Config.COMMAND, 2), [0, 0]);
  served.reset();
  t.deepEqual(read(served, CONFIG, Config.COMMAND, 2), [Command.MASTER, 0]);
  t.deepEqual(read(served, CONFIG, Config.BAR0, 4), [0, 0, 0, 0]);
});

test('it hides when its capabilities were read, its registers stay, and a reset brings it back', t => {
  const { served, log } = unit(CAP);
  const { CONFIG } = VfioPciRegion;
  read(served, 0, 0, 4);
  read(served, 0, 0x10, 8);
  t.deepEqual(read(served, CONFIG, 0, 2), [0x86, 0x80]);
  read(served, 0, 8, 8);
  t.deepEqual(read(served, CONFIG, 0, 4), [0xff, 0xff, 0xff, 0xff]);
  t.deepEqual(read(served, 0, 8, 8), [1, 0, 0, 0, 2, 0, 0, 0]);
  served.reset();
  t.is(log.at(-1), 'reset');
  t.deepEqual(read(served, CONFIG, 0, 2), [0x86, 0x80]);
});
