/** The invalidation queue. */
import {
  GlobalCommand,
  IotlbDescriptor,
  PasidIotlbDescriptor,
  QueueError,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../../spec/index.js';
import { Bench } from '../bench.test.helper.js';
import type { Departures, Profile } from './departure.test.helper.js';

const IQE = 0x10;
const WAIT = WaitDescriptor.encode({ type: 5, fn: 1 });
const SCALABLE = { 'x-scalable-mode': 'on' } as const;

function queue(profile: Profile, wide: boolean): Bench {
  const bench = new Bench({ ...profile, ...(wide ? SCALABLE : {}) });
  if (wide) bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(wide);
  return bench;
}

export const QUEUE: Departures = {
  queueErrorRecord: {
    what: 'IQERCD does not say why the queue stopped',
    program: profile => {
      const bench = queue(profile, false);
      bench.submitWords(Int32Array.of(0xf, 0, 0, 0));
      return [bench.read32(Reg.FSTS), bench.read64(Reg.IQERCD)];
    },
    spec: [IQE, BigInt(QueueError.INVALID_TYPE)],
    qemu: [IQE, 0n],
  },
  clearingErrorResumesQueue: {
    what: 'the queue goes on after an error only when IQT is written',
    program: profile => {
      const bench = queue(profile, false);
      bench.submitWords(Int32Array.of(0xf, 0, 0, 0));
      bench.recover();
      const cleared = bench.read32(Reg.IQH);
      bench.write32(Reg.IQT, 16);
      return [cleared, bench.read32(Reg.IQH)];
    },
    spec: [16, 16],
    qemu: [0, 16],
  },
  queueAddressLatched: {
    what: 'IQA shows the address with which the queue was enabled last, and DW also where it means nothing',
    program: profile => {
      const bench = new Bench(profile);
      const seen = (): bigint[] => [bench.read64(Reg.IQA), BigInt(bench.read32(Reg.IQA))];
      bench.write64(Reg.IQA, 0x12_3456_7803n);
      const before = seen();
      bench.command(GlobalCommand.QIE);
      const enabled = seen();
      bench.write64(Reg.IQA, 0x5_4321_0802n);
      return [before, enabled, seen(), bench.read32(Reg.IQA + 4)];
    },
    spec: [[0x12_3456_7003n, 0x3456_7003n], [0x12_3456_7003n, 0x3456_7003n], [0x5_4321_0002n, 0x4321_0002n], 5],
    qemu: [[0x803n, 0x803n], [0x12_3456_7803n, 0x3456_7803n], [0x12_3456_7802n, 0x3456_7802n], 0x12],
  },
  tailChecked: {
    what: 'reserved bits of IQT do not count',
    program: profile => {
      const bench = queue(profile, false);
      bench.put(Number(bench.read64(Reg.IQA)), WAIT);
      bench.write64(Reg.IQT, 0x1_0008_0010n);
      return [bench.read32(Reg.IQH), bench.read32(Reg.FSTS), bench.read64(Reg.IQT)];
    },
    spec: [0, IQE, 0x1_0008_0010n],
    qemu: [16, 0, 0x10n],
  },
  misalignedTailIgnored: {
    what: 'a tail that is misaligned for wide descriptors is an error once, and no tail',
    program: profile => {
      const bench = queue(profile, true);
      bench.write32(Reg.IQT, 16);
      const stopped = bench.read32(Reg.FSTS);
      bench.write32(Reg.FSTS, IQE);
      return [stopped, bench.read32(Reg.FSTS)];
    },
    spec: [IQE, IQE],
    qemu: [IQE, 0],
  },
  queueModeChecked: {
    what: 'a narrow queue serves scalable mode',
    program: profile => {
      const bench = new Bench({ ...profile, ...SCALABLE });
      bench.setRoot(bench.page(), Ttm.SCALABLE);
      bench.enableQueue(false);
      return bench.submit(IotlbDescriptor, { type: 2, g: 1 });
    },
    spec: false,
    qemu: true,
  },
  queueDisableNeedsWait: {
    what: 'a queue whose last descriptor was no wait stays enabled',
    program: profile => {
      const bench = queue(profile, false);
      bench.submit(IotlbDescriptor, { type: 2, g: 1 });
      bench.write32(Reg.GCMD, 0);
      const first = bench.read32(Reg.GSTS) & GlobalCommand.QIE;
      bench.submitWords(WAIT);
      bench.write32(Reg.GCMD, 0);
      return [first, bench.read32(Reg.GSTS) & GlobalCommand.QIE];
    },
    spec: [0, 0],
    qemu: [GlobalCommand.QIE, 0],
  },
  emptyWaitFails: {
    what: 'a wait that asks for nothing is an error',
    program: profile => queue(profile, false).submit(WaitDescriptor, { type: 5 }),
    spec: true,
    qemu: false,
  },
  pasidAddressMaskLimited: {
    what: 'a page-selective PASID-IOTLB invalidation obeys CAP.MAMV',
    program: profile =>
      [18, 19].map(am => queue(profile, true).submit(PasidIotlbDescriptor, { type: 6, g: 3, did: 1, am })),
    spec: [true, true],
    qemu: [true, false],
  },
};
