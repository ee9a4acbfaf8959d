/** Registers, commands, fault records. */
import { VirtualClock } from '@remora/core';
import {
  ContextCacheDescriptor,
  ContextCommand,
  DeviceTlbDescriptor,
  GlobalCommand,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../../spec/index.js';
import { FakeFunction, functions } from '../ats-bench.test.helper.js';
import { Bench, DID, legacyBench, RID } from '../bench.test.helper.js';
import { DEVICE_TLB_TIMEOUT_NS } from '../device-tlb-invalidation.js';
import type { Departures } from './departure.test.helper.js';

const FRCD = 0x220;
const PPF = 2;
const PFO = 1;
const ITE = 0x40;
const IE_PENDING = 0x4000_0000;
const UNKNOWN_ADDRESS = 0x5000;

export const REGISTERS: Departures = {
  windowBytes: {
    what: 'the window ends after the fault record; beyond it reads all ones',
    program: profile => {
      const bench = new Bench(profile);
      return [0x22c, 0x230, 0xffc].map(offset => bench.read32(offset));
    },
    spec: [0, 0, 0],
    qemu: [0, 0xffff_ffff, 0xffff_ffff],
  },
  oneShotsFirst: {
    what: 'one command with TE and SRTP enables translation before the root table is set',
    program: profile => {
      const order: string[] = [];
      const bench = new Bench(profile, {
        rootTableSet: () => order.push('root table'),
        translationChanged: () => order.push('translation'),
      });
      bench.write32(Reg.GCMD, GlobalCommand.TE | GlobalCommand.SRTP);
      return order;
    },
    spec: ['root table', 'translation'],
    qemu: ['translation', 'root table'],
  },
  interruptCommandsAlways: {
    what: 'SIRTP and IRE act without ECAP.IR',
    program: profile => {
      const bench = new Bench(profile);
      bench.write32(Reg.GCMD, GlobalCommand.SIRTP | GlobalCommand.IRE);
      return bench.read32(Reg.GSTS);
    },
    spec: 0,
    qemu: 0x0300_0000,
  },
  compatibilityFormat: {
    what: 'CFI is ignored',
    program: profile => {
      const bench = new Bench({ ...profile, intremap: true });
      bench.write32(Reg.GCMD, GlobalCommand.CFI);
      return bench.read32(Reg.GSTS);
    },
    spec: 0x0080_0000,
    qemu: 0,
  },
  upperMessageAddress: {
    what: 'FEUADDR and IEUADDR read as 0 although ECAP.EIM is set',
    program: profile => {
      const bench = new Bench({ ...profile, intremap: true, eim: true });
      return [Reg.FEUADDR, Reg.IEUADDR].map(offset => {
        bench.write32(offset, 0x1234_5600);
        return bench.read32(offset);
      });
    },
    spec: [0x1234_5600, 0x1234_5600],
    qemu: [0, 0],
  },
  wideCompletionData: {
    what: 'IEDATA keeps its upper half',
    program: profile => {
      const bench = new Bench(profile);
      bench.write32(Reg.IEDATA, 0x1234_a5c3);
      return bench.read32(Reg.IEDATA);
    },
    spec: 0xa5c3,
    qemu: 0x1234_a5c3,
  },
  pointersTruncated: {
    what: 'bits above the host address width do not count in the addresses of tables and queue',
    program: profile => {
      const { bench } = legacyBench(profile);
      bench.write32(Reg.RTADDR + 4, 1 << 20);
      bench.command(GlobalCommand.SRTP);
      bench.write64(Reg.IQA, (1n << 50n) | BigInt(bench.page() * 4096));
      bench.command(GlobalCommand.QIE);
      bench.put(Number(bench.read64(Reg.IQA) & 0xffff_ffffn), WaitDescriptor.encode({ type: 5, sw: 1 }));
      bench.write32(Reg.IQT, 16);
      return [bench.fault(UNKNOWN_ADDRESS), bench.read32(Reg.IQH)];
    },
    spec: [0x08, 0],
    qemu: [0x06, 16],
  },
  modeFromOneBit: {
    what: 'a reserved mode of RTADDR is legacy mode, as its bit 10 is clear',
    program: profile => {
      const { bench } = legacyBench({ ...profile, 'x-scalable-mode': 'on' });
      bench.setRoot(Number(bench.read64(Reg.RTADDR) >> 12n), Ttm.RESERVED);
      return bench.fault(UNKNOWN_ADDRESS);
    },
    spec: 0x30,
    qemu: 0x06,
  },
  contextDomainIsGlobal: {
    what: 'a domain is performed as global, and CCMD reports that',
    program: profile => {
      const { bench, context } = legacyBench(profile);
      const words = ContextCommand.encode({ icc: 1, cirg: 2, did: 1 });
      bench.write32(Reg.CCMD, words[0]!);
      bench.write32(Reg.CCMD + 4, words[1]!);
      const performed = ContextCommand.fields.caig.get(Int32Array.of(0, bench.read32(Reg.CCMD + 4)), 0);
      bench.enableQueue(false);
      bench.fault(UNKNOWN_ADDRESS);
      bench.flip(context, 0);
      bench.submit(ContextCacheDescriptor, { type: 1, g: 2, did: DID + 1 });
      return [performed, bench.fault(UNKNOWN_ADDRESS)];
    },
    spec: [2, 0x06],
    qemu: [1, 0x02],
  },
  registerCommandsComplete: {
    what: 'beside the queue CCMD stays busy',
    program: profile => {
      const bench = new Bench(profile);
      bench.enableQueue(false);
      const words = ContextCommand.encode({ icc: 1, cirg: 1 });
      bench.write32(Reg.CCMD + 4, words[1]!);
      return bench.read32(Reg.CCMD + 4) >>> 31;
    },
    spec: 0,
    qemu: 1,
  },

  compressFaultsBySource: {
    what: 'a second fault of one source is dropped without overflow',
    program: profile => {
      const { bench } = legacyBench(profile);
      bench.fault(UNKNOWN_ADDRESS);
      bench.fault(UNKNOWN_ADDRESS + 0x1000);
      return bench.read32(Reg.FSTS);
    },
    spec: PPF | PFO,
    qemu: PPF,
  },
  recordLookupPasid: {
    what: 'PV is all ones in the record of a legacy request',
    program: profile => {
      const { bench } = legacyBench(profile);
      bench.fault(UNKNOWN_ADDRESS);
      return bench.read64(FRCD + 8);
    },
    spec: 0xc000_0006_0000_0113n,
    qemu: 0xc0ff_ff06_0000_0113n,
  },
  recordClearEndsEvent: {
    what: 'a masked fault event stays pending when its record has been cleared',
    program: profile => {
      const { bench } = legacyBench(profile);
      bench.fault(UNKNOWN_ADDRESS);
      const before = bench.read32(Reg.FECTL) & IE_PENDING;
      bench.write32(FRCD + 12, 0x8000_0000);
      return [before, bench.read32(Reg.FECTL) & IE_PENDING, bench.read32(Reg.FSTS)];
    },
    spec: [IE_PENDING, 0, 0],
    qemu: [IE_PENDING, IE_PENDING, 0],
  },
  clearableFaultStatus: {
    what: 'FSTS.ITE is never set, so that it need not be cleared',
    program: profile => {
      const fn = new FakeFunction();
      fn.manner = 'never';
      const clock = new VirtualClock();
      const bench = new Bench({ ...profile, 'device-iotlb': true }, undefined, { ...functions({ [RID]: fn }), clock });
      bench.enableQueue(false);
      bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID });
      clock.step(DEVICE_TLB_TIMEOUT_NS);
      const raised = bench.read32(Reg.FSTS);
      bench.write32(Reg.FSTS, ITE);
      return [raised, bench.read32(Reg.FSTS)];
    },
    spec: [ITE, 0],
    qemu: [0, 0],
  },
  deviceTlbAwaited: {
    what: 'a wait completes although a function owes the completion of a device-TLB invalidation',
    program: profile => {
      const fn = new FakeFunction();
      fn.manner = 'later';
      const surroundings = { ...functions({ [RID]: fn }), clock: new VirtualClock() };
      const bench = new Bench({ ...profile, 'device-iotlb': true }, undefined, surroundings);
      bench.enableQueue(false);
      const status = bench.page() * 4096;
      bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID });
      bench.submit(WaitDescriptor, { type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 });
      return { sent: fn.received.length, status: bench.get64(status) };
    },
    spec: { sent: 1, status: 0n },
    qemu: { sent: 1, status: 2n },
  },
};
