// NVMe 1.4, 5.21.1.6 and 6.14: when what was written must be safe before a command is completed.
import { VirtualClock } from '@remora/core';
import test from 'ava';
import type { Backing } from '../backing/backing.js';
import { MemoryBacking } from '../backing/memory-backing.js';
import { CommandLayout, DNR, FeatureId, FORCE_UNIT_ACCESS, IoOpcode, Status } from '../spec/index.js';
import { Command } from './command.js';
import { Features } from './features.js';
import { Health } from './health.js';
import type { HostData } from './host-data.js';
import { IoCommands } from './io-commands.js';
import { Namespace } from './namespace.js';

/** Counts flushes, which fail while `broken`. */
class Disk extends MemoryBacking implements Backing {
  flushes = 0;
  broken = false;

  override flush(): boolean {
    this.flushes++;
    return !this.broken;
  }
}

function machine() {
  const disk = new Disk(0x10_0000);
  const clock = new VirtualClock();
  const features = new Features(clock, 1, 1);
  const health = new Health(clock);
  const data = { resolve: () => 0, get: () => 0, put: () => 0 } as unknown as HostData;
  const buffer = (bytes: number): Uint8Array => new Uint8Array(bytes);
  const namespace = new Namespace({ backing: disk, readonly: false, blockBytes: 512 });
  const io = new IoCommands({ data, features, health, buffer, largest: 0x2_0000 }, namespace);
  const command = new Command();
  const run = (opcode: number, cdw12 = 0): number => {
    command.words.set(CommandLayout.encode({ opcode, nsid: 1, cdw12 }));
    command.begin(1);
    return io.execute(command, 4096);
  };
  /** Flushes that a command causes. */
  const flushes = (opcode: number, cdw12 = 0): number => {
    const before = disk.flushes;
    run(opcode, cdw12);
    return disk.flushes - before;
  };
  const cache = (on: number): void => {
    command.words.set(CommandLayout.encode({ opcode: 9, cdw10: FeatureId.VOLATILE_WRITE_CACHE, cdw11: on }));
    features.set(command, FeatureId.VOLATILE_WRITE_CACHE);
  };
  return { disk, health, run, flushes, cache };
}

test('with the cache on, writes wait for Flush, unless they ask for Force Unit Access', t => {
  const { flushes } = machine();
  const { READ, WRITE, WRITE_ZEROES, COMPARE, VERIFY, FLUSH } = IoOpcode;
  t.deepEqual(
    [READ, WRITE, WRITE_ZEROES, COMPARE, VERIFY, FLUSH].map(opcode => flushes(opcode)),
    [0, 0, 0, 0, 0, 1],
  );
  t.deepEqual(
    [WRITE, WRITE_ZEROES].map(opcode => flushes(opcode, FORCE_UNIT_ACCESS)),
    [1, 1],
  );
});

test('with the cache off, each write is safe when it is completed', t => {
  const { flushes, cache } = machine();
  cache(0);
  t.deepEqual(
    [IoOpcode.WRITE, IoOpcode.WRITE_ZEROES, IoOpcode.READ].map(opcode => flushes(opcode)),
    [1, 1, 0],
  );
  cache(1);
  t.is(flushes(IoOpcode.WRITE), 0);
});

test('what cannot be made safe is a Write Fault, counted, and may be tried again', t => {
  const { disk, health, run, cache } = machine();
  disk.broken = true;
  t.is(run(IoOpcode.FLUSH), Status.WRITE_FAULT);
  t.is(run(IoOpcode.WRITE, FORCE_UNIT_ACCESS), Status.WRITE_FAULT);
  cache(0);
  t.is(run(IoOpcode.WRITE_ZEROES), Status.WRITE_FAULT);
  t.is(health.mediaErrors, 3);
  disk.broken = false;
  t.is(run(IoOpcode.FLUSH), Status.SUCCESS);
  t.is(run(0x7f), Status.INVALID_OPCODE | DNR);
});
