// Random accesses: nothing throws, memory changes only where a transfer was to go, and the device goes on working.
import { AddressSpace, Ram, Region, VirtualClock, WHOLE_SPACE } from '@remora/core';
import { Command, Config, MsiLog, PciBus, type PciFunction } from '@remora/pci';
import test from 'ava';
import fc from 'fast-check';
import { eduProperties } from './config.js';
import { Edu } from './device.js';
import { BUFFER_BASE, DELAY_NS, Reg } from './spec.js';

const BAR = 0xe000_0000;
const RAM = 0x10_0000;
/** Where transfers may go: the rest of memory must stay as it is. */
const TARGET = 0x8000;
const TARGET_BYTES = 0x2000;

const step = fc.oneof(
  fc.record({ delay: fc.nat(2 * DELAY_NS) }),
  fc.record({
    offset: fc.oneof(fc.constantFrom(...Object.values(Reg)), fc.nat(0x9f)),
    size: fc.constantFrom(1, 2, 4, 8),
    value: fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.bigInt({ min: 0n, max: 7n }),
      fc.bigInt({ min: BigInt(BUFFER_BASE), max: BigInt(BUFFER_BASE + 0xfff) }),
    ),
    write: fc.boolean(),
  }),
  fc.record({
    toMemory: fc.boolean(),
    at: fc.nat(TARGET_BYTES - 1),
    inBuffer: fc.nat(0x1100),
    count: fc.nat(0x1100),
  }),
);

test('random accesses', t => {
  let moved = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const memory = Region.container('system', WHOLE_SPACE);
      const pci = Region.container('pci', WHOLE_SPACE);
      memory.add(0, Region.ram('ram', Ram.allocate(RAM)));
      memory.add(0, pci, -1);
      const addressSpace = new AddressSpace('memory', memory);
      const ports = Region.container('io', 0x1_0000);
      const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: new MsiLog().deliver });
      const clock = new VirtualClock();
      const plug = (fn: PciFunction): void => root.plug(fn, 0x38);
      const device = new Edu({ name: 'edu0', clock, plug }, eduProperties.parse('edu', { dma_mask: RAM - 1 }));
      device.realize();
      device.fn.config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
      device.fn.config.write(Config.BAR0, BAR, 4);
      const bytes = new Uint8Array(8);
      const view = new DataView(bytes.buffer);
      const write64 = (offset: number, value: number): void => {
        view.setBigUint64(0, BigInt(value), true);
        addressSpace.write(0, BAR + offset, bytes);
      };
      const isTransfer = (offset: number): boolean => offset >= Reg.DMA_SRC;
      for (const each of steps) {
        if ('delay' in each) {
          clock.step(each.delay);
        } else if ('offset' in each) {
          // Transfers to anywhere would be right, too, but nothing could be said of memory then.
          if (each.write && isTransfer(each.offset + each.size - 1)) continue;
          view.setBigUint64(0, each.value, true);
          const data = bytes.subarray(0, each.size);
          if (each.write) addressSpace.write(0, BAR + each.offset, data);
          else addressSpace.read(0, BAR + each.offset, data);
        } else {
          const ends = [TARGET + each.at, BUFFER_BASE + each.inBuffer];
          const [source, target] = each.toMemory ? ends.reverse() : ends;
          write64(Reg.DMA_SRC, source!);
          write64(Reg.DMA_DST, target!);
          write64(Reg.DMA_COUNT, Math.min(each.count, TARGET_BYTES - each.at));
          write64(Reg.DMA_CMD, each.toMemory ? 3 : 1);
        }
      }
      clock.step(2 * DELAY_NS);
      addressSpace.write(0, TARGET, Uint8Array.of(0xaa, 0xbb, 0xcc, 0xdd));
      for (const [source, target, command] of [
        [TARGET, BUFFER_BASE + 7, 1],
        [BUFFER_BASE + 7, TARGET + 0x100, 3],
      ] as const) {
        write64(Reg.DMA_SRC, source);
        write64(Reg.DMA_DST, target);
        write64(Reg.DMA_COUNT, 4);
        write64(Reg.DMA_CMD, command);
        clock.step(DELAY_NS);
      }
      const all = new Uint8Array(RAM);
      addressSpace.read(0, 0, all);
      t.deepEqual([...all.subarray(TARGET + 0x100, TARGET + 0x104)], [0xaa, 0xbb, 0xcc, 0xdd]);
      all.fill(0, TARGET, TARGET + TARGET_BYTES);
      if (all.some(byte => byte !== 0)) t.fail('memory has changed elsewhere');
      moved++;
    }),
    { seed: 1, numRuns: 100 },
  );
  t.is(moved, 100);
});
