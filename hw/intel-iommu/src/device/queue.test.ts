import test from 'ava';
import type { RecordType } from '@remora/bits';
import { MemTx } from '@remora/core';
import {
  ContextCacheDescriptor,
  DescriptorType,
  DeviceTlbDescriptor,
  GlobalCommand,
  InterruptEntryCacheDescriptor,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  QueueError,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import { Bench, FULL, NOWHERE, type Values } from './bench.test.helper.js';

const IQE = 0x10;
const error = (bench: Bench): number => bench.read32(Reg.IQERCD) & 0xf;
const FENCE = { type: DescriptorType.WAIT, fn: 1 };

function benchWithQueue(wide: boolean, options: ConstructorParameters<typeof Bench>[0] = FULL, ttm?: number): Bench {
  const bench = new Bench(options);
  bench.setRoot(bench.page(), ttm ?? (wide ? Ttm.SCALABLE : Ttm.LEGACY));
  bench.enableQueue(wide);
  return bench;
}

test('descriptors are executed up to the tail; the head follows and wraps, both widths', t => {
  for (const wide of [false, true]) {
    const bench = benchWithQueue(wide);
    const bytes = wide ? 32 : 16;
    const status = bench.page() * 4096;
    for (let n = 1; n <= 4096 / bytes + 3; n++) {
      const values = { type: 5, sw: 1, statusData: n, statusAddressLow: status / 4 };
      t.true(bench.submit(WaitDescriptor, values));
      t.is(bench.get64(status), BigInt(n));
    }
    t.is(bench.read32(Reg.IQH), 3 * bytes);
  }
});

test('every queue size: the head wraps at 4096 << QS, independent of the width', t => {
  for (let qs = 0; qs <= 7; qs++) {
    const bench = new Bench();
    const bytes = 4096 * 2 ** qs;
    const first = bench.page(2 ** qs);
    const fence = WaitDescriptor.encode(FENCE).slice(0, 4);
    for (let at = 0; at < bytes; at += 16) bench.put(first * 4096 + at, fence);
    bench.write64(Reg.IQA, first * 4096 + qs);
    bench.command(GlobalCommand.QIE);
    bench.write32(Reg.IQT, bytes - 16);
    t.is(bench.read32(Reg.IQH), bytes - 16);
    bench.write32(Reg.IQT, 0);
    t.is(bench.read32(Reg.IQH), 0);
    bench.write64(Reg.IQT, BigInt(bytes));
    t.is(error(bench), QueueError.INVALID_TAIL);
  }
});

test('a tail with reserved bits or beyond the queue is an error before anything is fetched', t => {
  for (const tail of [1n, 15n, 4096n, 1n << 19n, 1n << 32n]) {
    const bench = benchWithQueue(false);
    bench.memory.loads = 0;
    bench.write64(Reg.IQT, tail);
    t.is(bench.read32(Reg.FSTS), IQE, `${tail}`);
    t.is(error(bench), QueueError.INVALID_TAIL);
    t.is(bench.memory.loads, 0);
    bench.write32(Reg.IQT + 4, 0);
    bench.write32(Reg.IQT, 0);
    bench.write32(Reg.FSTS, IQE);
    t.is(bench.read32(Reg.FSTS), 0, 'a good tail lets it go on');
  }
});

test('a corrected descriptor alone does not restart the queue: IQE must be cleared', t => {
  const bench = benchWithQueue(true);
  const status = bench.page() * 4096;
  const wait = WaitDescriptor.encode({ type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 });
  t.false(bench.submitWords(new Int32Array(8)));
  bench.put(Number(bench.read64(Reg.IQA) & ~0xfffn), wait);
  t.false(bench.submit(WaitDescriptor, FENCE));
  t.is(bench.get64(status), 0n);
  bench.write32(Reg.FSTS, IQE);
  t.is(bench.get64(status), 2n);
  t.is(bench.read32(Reg.IQH), 64);
});

test('a tail in the middle of a 256-bit descriptor is misaligned', t => {
  const bench = benchWithQueue(true);
  bench.write32(Reg.IQT, 16);
  t.is(error(bench), QueueError.MISALIGNED_TAIL);
});

test('a queue where no memory is: fetch error', t => {
  const bench = new Bench();
  bench.write64(Reg.IQA, NOWHERE * 4096);
  bench.command(GlobalCommand.QIE);
  bench.write32(Reg.IQT, 16);
  t.is(error(bench), QueueError.FETCH);
  t.is(bench.read32(Reg.IQH), 0);
});

test('a tail written before QIE is processed when the queue is enabled; QIE off resets the head', t => {
  const bench = new Bench();
  const frame = bench.page();
  const status = bench.page() * 4096;
  const wait = WaitDescriptor.encode({ type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 });
  bench.put(frame * 4096, wait.slice(0, 4));
  bench.write64(Reg.IQA, frame * 4096);
  bench.write32(Reg.IQT, 16);
  t.is(bench.get64(status), 0n);
  bench.command(GlobalCommand.QIE);
  t.is(bench.get64(status), 2n);
  t.is(bench.read32(Reg.IQH), 16);
  bench.write32(Reg.GCMD, 0);
  t.is(bench.read32(Reg.GSTS) & GlobalCommand.QIE, 0);
  t.is(bench.read32(Reg.IQH), 0);
});

test('a bad descriptor stops the queue at its index until IQE is cleared; later waits do not complete', t => {
  const bench = benchWithQueue(true);
  const status = bench.page() * 4096;
  t.true(bench.submit(WaitDescriptor, FENCE));
  t.false(bench.submit(ContextCacheDescriptor, { type: 1, g: 0 }));
  t.is(bench.read32(Reg.IQH), 32);
  t.is(bench.read32(Reg.FSTS), IQE);
  t.is(error(bench), QueueError.RESERVED_FIELD);
  t.false(bench.submit(WaitDescriptor, { type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 }));
  t.is(bench.read32(Reg.IQH), 32);
  t.is(bench.get64(status), 0n, 'writing the tail does not restart');
  bench.write32(Reg.FSTS, IQE);
  t.is(bench.read32(Reg.FSTS), IQE, 'the descriptor is still bad');
  bench.recover();
  t.is(bench.read32(Reg.FSTS), 0);
  t.is(bench.read32(Reg.IQH), 96);
  t.is(bench.get64(status), 2n);
});

/** Each type's layout, a valid descriptor of it, and what it needs. */
const TYPES: readonly { type: number; layout: RecordType; values: Values; needs?: 'dt' | 'ir' | 'scalable' }[] = [
  { type: 1, layout: ContextCacheDescriptor as RecordType, values: { g: 1 } },
  { type: 2, layout: IotlbDescriptor as RecordType, values: { g: 1 } },
  { type: 3, layout: DeviceTlbDescriptor as RecordType, values: { sid: 0x100 }, needs: 'dt' },
  { type: 4, layout: InterruptEntryCacheDescriptor as RecordType, values: {}, needs: 'ir' },
  { type: 5, layout: WaitDescriptor as RecordType, values: { fn: 1 } },
  { type: 6, layout: PasidIotlbDescriptor as RecordType, values: { g: 2 }, needs: 'scalable' },
  { type: 7, layout: PasidCacheDescriptor as RecordType, values: { g: 3 }, needs: 'scalable' },
  { type: 8, layout: PasidDeviceTlbDescriptor as RecordType, values: { sid: 0x100 }, needs: 'dt' },
];

test('type by mode and capability: legacy has 1 to 5, scalable 1 to 8; 3 and 8 need DT, 4 needs IR, 9 needs PRS', t => {
  for (const dt of [false, true]) {
    for (const ir of [false, true]) {
      for (const ttm of [Ttm.LEGACY, Ttm.SCALABLE]) {
        const options = { ...FULL, 'device-iotlb': dt, intremap: ir };
        for (let type = 0; type < 16; type++) {
          const known = TYPES.find(each => each.type === type);
          const offered =
            known !== undefined &&
            (known.needs !== 'dt' || dt) &&
            (known.needs !== 'ir' || ir) &&
            (type <= 5 || ttm === Ttm.SCALABLE);
          const bench = benchWithQueue(true, options, ttm);
          const layout = known?.layout ?? (WaitDescriptor as RecordType);
          t.is(
            bench.submit(layout, { ...(known?.values ?? {}), type }),
            offered,
            `type ${type} ttm ${ttm} dt ${dt} ir ${ir}`,
          );
          t.is(error(bench), offered ? 0 : QueueError.INVALID_TYPE);
        }
      }
    }
  }
});

test('upper type bits never alias a lower type', t => {
  for (let high = 1; high < 8; high++) {
    const bench = benchWithQueue(true);
    t.false(bench.submit(WaitDescriptor, { ...FENCE, typeHigh: high }));
    t.is(error(bench), QueueError.INVALID_TYPE);
  }
});

test('width against mode: scalable mode needs 256 bits, the reserved mode takes none, legacy takes both', t => {
  const outcome = (wide: boolean, ttm: number): number => {
    const bench = benchWithQueue(wide, FULL, ttm);
    bench.submit(WaitDescriptor, FENCE);
    return error(bench);
  };
  t.is(outcome(false, Ttm.LEGACY), 0);
  t.is(outcome(true, Ttm.LEGACY), 0);
  t.is(outcome(true, Ttm.SCALABLE), 0);
  t.is(outcome(false, Ttm.SCALABLE), QueueError.INVALID_WIDTH);
  t.is(outcome(true, Ttm.RESERVED), QueueError.INVALID_TTM);
});

for (const { type, layout, values } of TYPES) {
  test(`each reserved bit of ${layout.name} alone is an error`, t => {
    const options = { ...FULL, 'device-iotlb': true, intremap: true };
    let checked = 0;
    for (let bit = 0; bit < 256; bit++) {
      const words = layout.encode({ ...values, type } as never);
      const mask = 1 << (bit & 31);
      // Without DIT and PDS the fields PFSID and PD are reserved.
      const word = bit >>> 5;
      const throttle = type === 3 || type === 8 ? bit >= 52 && bit <= 63 : false;
      const throttleLow = type === 3 || type === 8 ? bit >= 12 && bit <= 15 : false;
      const drain = type === 5 && bit === 7;
      if ((layout.reserved[word]! & mask) === 0 && !throttle && !throttleLow && !drain) continue;
      words[word]! |= mask;
      const bench = benchWithQueue(true, options);
      t.false(bench.submitWords(words), `bit ${bit}`);
      t.is(error(bench), QueueError.RESERVED_FIELD);
      checked++;
    }
    t.true(checked >= 128);
  });
}

test('granularities: which each type has', t => {
  const valid: readonly (readonly [RecordType, number, readonly number[]])[] = [
    [ContextCacheDescriptor as RecordType, 1, [1, 2, 3]],
    [IotlbDescriptor as RecordType, 2, [1, 2, 3]],
    [PasidIotlbDescriptor as RecordType, 6, [2, 3]],
    [PasidCacheDescriptor as RecordType, 7, [0, 1, 3]],
  ];
  for (const [layout, type, granularities] of valid) {
    for (let g = 0; g < 4; g++) {
      t.is(benchWithQueue(true).submit(layout, { type, g }), granularities.includes(g), `${layout.name} ${g}`);
    }
  }
});

test('address masks: an IOTLB invalidation obeys MAMV, a PASID-based one does not', t => {
  t.true(benchWithQueue(true).submit(IotlbDescriptor, { type: 2, g: 3, am: 18 }));
  t.false(benchWithQueue(true).submit(IotlbDescriptor, { type: 2, g: 3, am: 19 }));
  t.true(benchWithQueue(true).submit(IotlbDescriptor, { type: 2, g: 2, am: 63 }), 'only if it is used');
  t.true(benchWithQueue(true).submit(PasidIotlbDescriptor, { type: 6, g: 3, am: 63 }));
});

test('handle masks of an interrupt-entry invalidation obey MHMV', t => {
  const options = { ...FULL, intremap: true };
  t.true(benchWithQueue(true, options).submit(InterruptEntryCacheDescriptor, { type: 4, g: 1, im: 15 }));
  t.false(benchWithQueue(true, options).submit(InterruptEntryCacheDescriptor, { type: 4, g: 1, im: 16 }));
  t.true(benchWithQueue(true, options).submit(InterruptEntryCacheDescriptor, { type: 4, g: 0, im: 16 }));
});

test('page group responses need ECAP.PRS, which this unit does not offer', t => {
  const bench = benchWithQueue(true);
  t.false(bench.submit(PageGroupResponseDescriptor, { type: 9, rid: 0x100 }));
  t.is(error(bench), QueueError.INVALID_TYPE);
});

test('wait: status, then interrupt; no flags at all is a barrier; a status that cannot be written is an error', t => {
  const bench = benchWithQueue(true);
  const status = bench.page() * 4096;
  bench.write32(Reg.IEADDR, 0xfee0_2000);
  bench.write32(Reg.IEDATA, 0x33);
  bench.write32(Reg.IECTL, 0);
  t.true(bench.submit(WaitDescriptor, { type: 5, sw: 1, if: 1, statusData: 0xabcd, statusAddressLow: status / 4 }));
  t.deepEqual(bench.memory.stores.at(-1), { address: status, words: [0xabcd] });
  t.deepEqual(bench.messages, [{ address: 0xfee0_2000, data: 0x33 }]);
  t.is(bench.read32(Reg.ICS), 1);
  t.true(bench.submit(WaitDescriptor, { type: 5, if: 1 }));
  t.is(bench.messages.length, 1, 'IWC is set already');
  bench.write32(Reg.ICS, 1);
  t.is(bench.read32(Reg.ICS), 0);
  t.true(bench.submit(WaitDescriptor, { type: 5, if: 1 }));
  t.is(bench.messages.length, 2);
  t.true(bench.submit(WaitDescriptor, { type: 5 }));
  t.false(bench.submit(WaitDescriptor, { type: 5, sw: 1, statusAddressLow: (NOWHERE * 4096) / 4 }));
  t.is(bench.read32(Reg.FSTS), IQE);
});

/** A queue of one page, full of waits. What the unit writes as their status moves the tail: as if it were aimed at IQT. */
function benchFeedingItself(tail: (bench: Bench) => number): Bench {
  const bench = new Bench();
  const queue = bench.page() * 4096;
  const wait = WaitDescriptor.encode({ type: 5, sw: 1, statusAddressLow: (bench.page() * 4096) / 4 });
  for (let at = 0; at < 4096; at += 16) bench.put(queue + at, wait.slice(0, 4));
  bench.memory.store = () => {
    bench.write32(Reg.IQT, tail(bench));
    return MemTx.OK;
  };
  bench.write64(Reg.IQA, queue);
  bench.command(GlobalCommand.QIE);
  return bench;
}

test('a status word may move the tail of the very queue: a bad tail is an error then, too', t => {
  const bench = benchFeedingItself(() => 8);
  bench.write32(Reg.IQT, 0x40);
  t.is(bench.read32(Reg.FSTS), IQE);
  t.is(error(bench), QueueError.INVALID_TAIL);
  t.is(bench.read32(Reg.IQH), 0x10, 'after the descriptor that did it');
});

test('a queue that feeds itself comes to an end', t => {
  const bench = benchFeedingItself(each => (each.read32(Reg.IQH) + 0x20) % 4096);
  bench.memory.loads = 0;
  bench.write32(Reg.IQT, 0x40);
  t.is(bench.memory.loads, 2 ** 15);
  t.is(bench.read32(Reg.FSTS), 0);
});

test('completion events: pending while masked, cleared with IWC', t => {
  const bench = benchWithQueue(true);
  bench.submit(WaitDescriptor, { type: 5, if: 1 });
  t.is(bench.read32(Reg.IECTL), 0xc000_0000);
  bench.write32(Reg.ICS, 1);
  t.is(bench.read32(Reg.IECTL), 0x8000_0000);
  bench.submit(WaitDescriptor, { type: 5, if: 1 });
  bench.write32(Reg.IECTL, 0);
  t.is(bench.messages.length, 1);
});

test('device-TLB ranges: one page, or a size coded by a run of ones', t => {
  const ranges: unknown[] = [];
  const propagation = {
    deviceTlbInvalidate: (rid: number, pasid: number, hi: number, lo: number, shift: number, global: boolean): void => {
      ranges.push([rid, pasid, (hi >>> 0) * 2 ** 32 + (lo >>> 0), shift, global]);
    },
  };
  const bench = new Bench({ ...FULL, 'device-iotlb': true }, propagation);
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  bench.submit(DeviceTlbDescriptor, { type: 3, sid: 0x100, addr: 0x12345 });
  bench.submit(DeviceTlbDescriptor, { type: 3, sid: 0x100, s: 1, addr: 0x12340 });
  bench.submit(DeviceTlbDescriptor, { type: 3, sid: 0x100, s: 1, addr: 0x12347 });
  bench.submit(DeviceTlbDescriptor, { type: 3, sid: 0x100, s: 1, addr: 0x7ffffffffffff });
  bench.submit(PasidDeviceTlbDescriptor, { type: 8, sid: 0x100, pasid: 5, g: 1, s: 1, addr: 0xfffffffffffffn });
  t.deepEqual(ranges, [
    [0x100, -1, 0x12345000, 12, false],
    [0x100, -1, 0x12340000, 13, false],
    [0x100, -1, 0x12340000, 16, false],
    [0x100, -1, 0, 64, false],
    [0x100, 5, 0, 64, true],
  ]);
});

test('behaviours 34, 35, 44: bad PASID-cache and PASID-IOTLB descriptors never reach propagation', t => {
  let calls = 0;
  const propagation = {
    pasidCacheInvalidate: (): number => calls++ * 0,
    pasidIotlbInvalidate: (): number => calls++ * 0,
  };
  const attempt = (layout: RecordType, values: Values): boolean => {
    const bench = new Bench(FULL, propagation);
    bench.setRoot(bench.page(), Ttm.SCALABLE);
    bench.enableQueue(true);
    return bench.submit(layout, values);
  };
  t.false(attempt(PasidCacheDescriptor as RecordType, { type: 7, g: 2 }));
  t.false(attempt(PasidIotlbDescriptor as RecordType, { type: 6, g: 0 }));
  t.false(attempt(PasidIotlbDescriptor as RecordType, { type: 6, g: 1 }));
  t.is(calls, 0);
  t.true(attempt(PasidCacheDescriptor as RecordType, { type: 7, g: 3 }));
  t.true(attempt(PasidIotlbDescriptor as RecordType, { type: 6, g: 2 }));
  t.is(calls, 2);
});

test('a failure beyond the unit is a queue error at its descriptor, and can be retried', t => {
  let result = -5;
  const seen: unknown[] = [];
  const propagation = {
    pasidCacheInvalidate: (g: number, did: number, pasid: number): number => {
      seen.push([g, did, pasid]);
      return result;
    },
  };
  const bench = new Bench(FULL, propagation);
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  t.false(bench.submit(PasidCacheDescriptor, { type: 7, g: 1, did: 7, pasid: 5 }));
  t.is(bench.read32(Reg.IQH), 0);
  t.is(bench.read32(Reg.FSTS), IQE);
  t.is(error(bench), QueueError.NONE);
  result = 0;
  bench.write32(Reg.FSTS, IQE);
  t.is(bench.read32(Reg.IQH), 32);
  t.deepEqual(seen, [
    [1, 7, 5],
    [1, 7, 5],
  ]);
});

test('Q-T8: any PASID device-TLB descriptor is accepted', t => {
  const values = { type: 8, sid: 0x100 };
  t.false(benchWithQueue(true).submit(PasidDeviceTlbDescriptor, values));
  const quirk = { ...FULL, 'quirk-any-pasid-device-tlb': true };
  const words = PasidDeviceTlbDescriptor.encode(values);
  words[2] = 0x7fe;
  t.true(benchWithQueue(true, quirk).submitWords(words));
});

test('compat=qemu-10.2: PASID descriptors need 256 bits, a misaligned tail is an error', t => {
  const compat = { compat: 'qemu-10.2', 'x-scalable-mode': 'on' } as const;
  t.true(benchWithQueue(true, compat).submit(PasidCacheDescriptor, { type: 7, g: 3 }));
  t.false(benchWithQueue(false, compat, Ttm.SCALABLE).submit(PasidCacheDescriptor, { type: 7, g: 3 }));
  t.false(benchWithQueue(true, compat).submit(PasidIotlbDescriptor, { type: 6, g: 3, am: 19 }), 'MAMV counts');
  const bench = benchWithQueue(true, compat);
  bench.write32(Reg.IQT, 16);
  t.is(bench.read32(Reg.FSTS), IQE);
});

test('compat=qemu-10.2: only a new tail restarts the queue, an idle one can be disabled only after a wait', t => {
  const bench = benchWithQueue(false, { compat: 'qemu-10.2' });
  t.true(bench.submit(IotlbDescriptor, { type: 2, g: 1 }));
  bench.write32(Reg.GCMD, 0);
  t.is(bench.read32(Reg.GSTS) & GlobalCommand.QIE, GlobalCommand.QIE, 'no wait has been seen');
  t.false(bench.submit(WaitDescriptor, { type: 5 }));
  t.is(error(bench), 0);
  bench.recover();
  t.is(bench.read32(Reg.IQH), 16, 'clearing IQE is not enough');
  bench.write32(Reg.IQT, 32);
  t.is(bench.read32(Reg.IQH), 32);
  bench.write32(Reg.GCMD, 0);
  t.is(bench.read32(Reg.GSTS) & GlobalCommand.QIE, 0);
});
